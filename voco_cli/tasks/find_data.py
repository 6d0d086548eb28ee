"""The cases of a task on this machine: where the data lies, and who trains, validates and is tested."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from voco_cli.config import Settings
from voco_cli.config.task_schema import Task
from voco_cli.data.index.datalist import Datalist, Entry
from voco_cli.data.index.datalist_file import read_datalist
from voco_cli.data.index.patients import modality_of
from voco_cli.data.io.image import IGNORE
from voco_cli.errors import UsageError
from voco_cli.tasks.channels import merge_channels
from voco_cli.tasks.layouts import (
    DEFAULT_ROOT,
    CaseTable,
    Located,
    candidate_folders,
    find_cases,
    find_table,
    layout_words,
    locate,
    most_cases,
    patients_of_cases,
    split_of_table,
)
from voco_cli.tasks.splits import (
    SEEDED,
    SPLIT_NAMES,
    Split,
    draw_split,
    named,
    read_split,
    seeded_words,
    split_names,
)


def listed_data(path: Path, settings: Settings) -> tuple[dict[str, list[Entry]], str]:
    """Entries of a list by split, and how they were split, for people.

    The list's own splits hold, unless ``task.split`` is ``seeded`` or a JSON file, whose cases are then the names of
    the entries. A category may be given as a value of its class. A list of many scans and few labels is the usual one:
    scans without a label map or category are left out of training and validation, and counted.

    Raises:
        DataError: the list cannot be read, or its files are missing.
        UsageError: its keys are wrong, nothing is labelled, or a case of the split file is not in it.
    """
    task = settings.task
    datalist = read_datalist(path)
    whole = {
        split: [_with_category(entry, task) for entry in merge_channels(getattr(datalist, split), task)]
        for split in SPLIT_NAMES
    }
    if not any(_is_labelled(entry, task) for listed in whole.values() for entry in listed):
        hint = "`voco index FOLDER --label-pattern PATTERN -o data.json` says where labels lie"
        whole_scans = task.kind == "classification"
        raise UsageError(f"{path} has no {_target(task)}, so nothing can be learned.", None if whole_scans else hint)
    if task.split == SEEDED:
        return _drawn(whole, settings)
    if task.split is not None and task.split.endswith(".json"):
        return _by_file(whole, path, task, task.split)
    kept = {
        split: [entry for entry in listed if split == "test" or _is_labelled(entry, task)]
        for split, listed in whole.items()
    }
    left = sum(map(len, whole.values())) - sum(map(len, kept.values()))
    return kept, f"splits of {path.name}" + _how(datalist) + _left_out(left, task)


def _how(datalist: Datalist) -> str:
    return f", drawn by patient with seed {datalist.split.seed}" if datalist.split else ""


def _is_labelled(entry: Entry, task: Task) -> bool:
    return (entry.label if task.kind == "segmentation" else entry.category) is not None


def _target(task: Task) -> str:
    return "label map" if task.kind == "segmentation" else "category"


def _left_out(count: int, task: Task) -> str:
    return f"; {count} scans without a {_target(task)} are not used" if count else ""


def _with_category(entry: Entry, task: Task) -> Entry:
    """The entry under its case's name, its category by the name of the class."""
    names = {str(value): one.name for one in task.classes for value in one.values}
    category = names.get(entry.category, entry.category) if entry.category is not None else None
    return entry.model_copy(update={"case": entry.name, "category": category})


def _drawn(whole: Mapping[str, list[Entry]], settings: Settings) -> tuple[dict[str, list[Entry]], str]:
    task = settings.task
    everyone = [entry for split in SPLIT_NAMES for entry in whole[split]]
    usable = [entry for entry in everyone if _is_labelled(entry, task)]
    of_kind = usable if task.kind == "classification" else ()
    categories = ((entry.patient, entry.category) for entry in of_kind if entry.category is not None)
    drawn = draw_split((entry.patient for entry in usable), task, categories)
    split = {name: [entry for entry in usable if drawn[entry.patient] == name] for name in SPLIT_NAMES}
    return split, seeded_words(task) + _left_out(len(everyone) - len(usable), task)


def _by_file(whole: Mapping[str, list[Entry]], path: Path, task: Task, name: str) -> tuple[dict[str, list[Entry]], str]:
    split = read_split(name, task.fold)
    by_name = {entry.name: entry for listed in whole.values() for entry in listed}
    lacking = [case for cases in split.cases.values() for case in cases if case not in by_name]
    if lacking and task.missing == "refuse":
        raise UsageError(
            f"{path} lacks {len(lacking)} cases of the {split.words}: {named(lacking)}.",
            "cases go by the names of the images; task.missing=leave_out does without them",
        )
    words = split.words + (f"; {len(lacking)} of its cases are not in {path.name}" if lacking else "")
    return {
        name: [_owned(by_name[c], c, split.patients) for c in cases if c in by_name]
        for name, cases in split.cases.items()
    }, words


def _owned(entry: Entry, case: str, patients: Mapping[str, str]) -> Entry:
    return entry.model_copy(update={"patient": patients.get(case, entry.patient)})


@dataclass(frozen=True)
class Stock:
    """A folder against the cases of a split.

    Attributes:
        folder: the one in which most cases are.
        split: who trains, validates and is tested.
        found: cases that are there, by case.
        missing: the file that is missing, by case.
        unlabelled: images that would be a case, had they a label map; only where cases are looked for.
    """

    folder: Path
    split: Split
    found: Mapping[str, Located]
    missing: Mapping[str, str] = field(default_factory=dict)
    unlabelled: tuple[str, ...] = ()

    def of_split(self, split: str) -> tuple[list[Located], list[str]]:
        """Cases of a split that are there, and those that are not."""
        cases = self.split.cases[split]
        return [self.found[case] for case in cases if case in self.found], [c for c in cases if c in self.missing]


def take_inventory(settings: Settings) -> Stock:
    """Look for the cases of a task below ``data.root``, or ./data.

    Raises:
        UsageError: there is no such folder, or no case in any of those that come into question; the split or the table
            is wrong.
    """
    task = settings.task
    if not task.layouts:
        raise UsageError(
            f"The task {task.name or task.preset} has neither data.file nor task.layouts, so its data cannot be found.",
            "give a data.json with --data, or say in task.layouts where images and labels lie",
        )
    folders = candidate_folders(settings)
    table = find_table(task, folders) if folders else None
    split = _prescribed(task, table)
    cases = _wanted(split, table)
    best = most_cases(folders, task, cases)
    if best is None or best[1] == 0:
        raise _nothing(settings, best[0] if best else None, len(cases) if cases is not None else None)
    if split is not None:
        return _against(best[0], task, split)
    return _drawn_from_stock(best[0], settings, table)


def _wanted(split: Split | None, table: CaseTable | None) -> list[str] | None:
    """The cases that should be there; none where whatever is found will do."""
    if split is not None:
        return [case for name in SPLIT_NAMES for case in split.cases[name]]
    return None if table is None else list(table.categories)


def _prescribed(task: Task, table: CaseTable | None) -> Split | None:
    """The split that a file or the table gives, with what the table knows; none for a drawn one."""
    if task.kind == "classification" and table is None and task.split == SEEDED:
        raise UsageError(
            "A classification whose split is drawn needs a table of categories.", "give task.table, a CSV of cases"
        )
    if task.split == SEEDED:
        return None
    if task.split is None:
        if table is None:
            raise UsageError(
                f"The task {task.name or task.preset} says nothing of splits (task.split).",
                f"set task.split to {SEEDED}, to a JSON file, or to one of {', '.join(split_names())}",
            )
        return split_of_table(table, task)
    split = read_split(task.split, task.fold)
    if table is None:
        return split
    return replace(
        split,
        patients={**split.patients, **table.patients},
        categories={**split.categories, **table.categories},
    )


def _against(folder: Path, task: Task, split: Split) -> Stock:
    found: dict[str, Located] = {}
    missing: dict[str, str] = {}
    for name in SPLIT_NAMES:
        needs_label = task.kind == "segmentation" and (name != "test" or split.test_labelled)
        for case in split.cases[name]:
            one = locate(folder, task, case, needs_label)
            if isinstance(one, Located):
                found[case] = one
            else:
                missing[case] = one
    own = {case: one.name for case, one in found.items()} if split.public else patients_of_cases(found.values())
    return Stock(folder, replace(split, patients={**own, **split.patients}), found, missing)


def _drawn_from_stock(folder: Path, settings: Settings, table: CaseTable | None) -> Stock:
    task = settings.task
    missing: dict[str, str] = {}
    unlabelled: tuple[str, ...] = ()
    if table is None:
        found, unlabelled = find_cases(folder, task, needs_label=True)
    else:
        looked_for = {case: locate(folder, task, case, False) for case in table.categories}
        found = {case: one for case, one in looked_for.items() if isinstance(one, Located)}
        missing = {case: one for case, one in looked_for.items() if isinstance(one, str)}
    patients = {**patients_of_cases(found.values()), **{case: case for case in missing}}
    patients |= table.patients if table else {}
    of_cases = table.categories if table and task.kind == "classification" else {}
    categories = ((patients[case], of_cases[case]) for case in found if case in of_cases)
    drawn = draw_split((patients[case] for case in found), task, categories)
    # A case that is missing belongs to where its patient is, or would train; it only has to be counted somewhere.
    where = {case: drawn.get(patients[case], "training") for case in (*found, *missing)}
    split = Split(
        words=seeded_words(task),
        cases={name: tuple(case for case in where if where[case] == name) for name in SPLIT_NAMES},
        patients=patients,
        categories=table.categories if table else {},
    )
    return Stock(folder, split, found, missing, unlabelled)


def _nothing(settings: Settings, folder: Path | None, wanted: int | None) -> UsageError:
    task, root = settings.task, settings.data.root
    if folder is None:
        what = f"The data of {task.name} is nowhere: there is no folder {DEFAULT_ROOT}, and no other was given."
    elif wanted is None:
        what = f"{root or DEFAULT_ROOT} holds no case of {task.name}."
    else:
        what = f"{root or DEFAULT_ROOT} holds none of the {wanted} cases of {task.name}."
    below = f" (or in {', '.join(task.folders)} below it)" if task.folders else ""
    where = f"; to be had at: {task.source}" if task.source else ""
    return UsageError(
        what,
        f"give the folder with --data or VOCO_DATA; expected in it{below}: {layout_words(task)}{where}",
    )


@dataclass(frozen=True)
class TaskData:
    """What was found.

    Attributes:
        datalist: training (all of it, before `subset`), validation and test; entries have ``case`` and, where the task
            has several channels, ``channels``; classification has ``category``.
        origin: folder or data.json that the cases come from.
        split_words: how the cases were split, one sentence for people: "public split btcv, fold 0 of 1".
        missing: cases of the split that are not there, with the file that is missing; only where they may be left out.
    """

    datalist: Datalist
    origin: str
    split_words: str
    missing: tuple[str, ...] = ()


def find_task_data(settings: Settings) -> TaskData:
    """Find the data of ``settings.task`` in ``data.file`` or below ``data.root`` (else ./data), and split it.

    Test cases of a public split whose labels are not public are listed where they are there, and are no fault where
    they are not.

    Raises:
        UsageError: nothing is found (the hint says what is expected and where it is to be had), cases of the split are
            missing and may not be, a case lacks its label or category, the number of channels is another, a patient
            stands in two splits, or nobody trains or validates.
        DataError: ``data.file`` cannot be read, or its files are missing.
    """
    task = settings.task
    missing: tuple[str, ...] = ()
    if settings.data.file is not None:
        entries, words = listed_data(settings.data.file, settings)
        origin = str(settings.data.file)
    else:
        stock = take_inventory(settings)
        missing = _missing(stock, task)
        entries, words = stock_entries(stock, settings), _words(stock)
        origin = str(stock.folder)
    check_entries(entries, task, origin)
    datalist = Datalist(
        name=task.name or "task",
        modality=_one({entry.modality for listed in entries.values() for entry in listed}),
        labels=_label_names(task),
        training=tuple(entries["training"]),
        validation=tuple(entries["validation"]),
        test=tuple(entries["test"]),
    )
    return TaskData(datalist, origin, words, missing)


def _label_names(task: Task) -> dict[str, str]:
    names = {str(value): one.name for one in task.classes for value in one.values}
    return names if task.ignore_value is None else {**names, str(task.ignore_value): IGNORE}


def stock_entries(stock: Stock, settings: Settings) -> dict[str, list[Entry]]:
    """The cases of a folder that are there, as entries by split."""
    return {split: [_entry(one, stock, settings) for one in stock.of_split(split)[0]] for split in SPLIT_NAMES}


def check_entries(entries: Mapping[str, Sequence[Entry]], task: Task, origin: str) -> None:
    """Refuse what no training could use.

    Raises:
        UsageError: as `find_task_data`.
    """
    everyone = [entry for split in SPLIT_NAMES for entry in entries[split]]
    twice = [name for name, count in Counter(entry.name for entry in everyone).items() if count > 1]
    if twice:
        raise UsageError(
            f"{origin} has {len(twice)} names of cases more than once: {named(twice)}.",
            "voco index tells them apart by their folders; in a list of your own give each entry a case",
        )
    _check_patients(entries, origin)
    _check_targets([*entries["training"], *entries["validation"]], task, origin)
    odd = [entry for entry in everyone if len(entry.channels) + 1 != len(task.channels)]
    if odd:
        raise UsageError(
            f"{origin} has {len(odd[0].channels) + 1} channels for {odd[0].name}, and the task has "
            f"{len(task.channels)} ({', '.join(task.channels)}).",
            "give all channels of a case, or set task.channels",
        )
    if not entries["training"]:
        raise UsageError(f"{origin} has no case to train on.", "check the split (task.split)")
    if not entries["validation"] and task.choose == "best":
        raise UsageError(
            f"{origin} has no case to validate on.",
            "task.split=seeded draws some by patient; task.choose=last does without",
        )


def _check_patients(entries: Mapping[str, Sequence[Entry]], origin: str) -> None:
    splits_of: dict[str, set[str]] = {}
    for split in SPLIT_NAMES:
        for entry in entries[split]:
            splits_of.setdefault(entry.patient, set()).add(split)
    torn = sorted(patient for patient, splits in splits_of.items() if len(splits) > 1)
    if torn:
        raise UsageError(
            f"{origin} has {len(torn)} patients in more than one split: {named(torn)}.",
            "task.split=seeded draws by patient; a table or a split file says who is whose with patients",
        )


def _check_targets(entries: Iterable[Entry], task: Task, origin: str) -> None:
    """Every case that trains or validates has what it is compared with."""
    if task.kind == "segmentation":
        lacking = [entry.name for entry in entries if entry.label is None]
        if lacking:
            raise UsageError(f"{origin} has {len(lacking)} cases without a label map: {named(lacking)}.")
        return
    names = [one.name for one in task.classes]
    odd = [f"{entry.name} ({entry.category or 'none'})" for entry in entries if entry.category not in names]
    if odd:
        raise UsageError(
            f"{origin} has {len(odd)} cases whose category is no class of the task: {named(odd)}.",
            f"the classes are {', '.join(names)}",
        )


def _missing(stock: Stock, task: Task) -> tuple[str, ...]:
    """Cases that should be there and are not, refused unless they may be left out."""
    optional = set() if stock.split.test_labelled else set(stock.split.cases["test"])
    lacking = [f"{case} ({file})" for case, file in stock.missing.items() if case not in optional]
    if lacking and task.missing == "refuse":
        total = len(stock.found) + len(stock.missing)
        raise UsageError(
            f"{stock.folder} lacks {len(lacking)} of {total} cases ({stock.split.words}): {named(lacking)}.",
            "task.missing=leave_out does without them, task.split=seeded splits what is there",
        )
    return tuple(lacking)


def _words(stock: Stock) -> str:
    """The split, and what of the folder is not used by it."""
    words = stock.split.words
    test = stock.split.cases["test"]
    if test and not stock.split.test_labelled:
        there = sum(case in stock.found for case in test)
        words += f"; {there} of {len(test)} test cases, whose labels are not public, are there"
    if stock.unlabelled:
        words += f"; {len(stock.unlabelled)} images without a label map are not used"
    return words


def _entry(one: Located, stock: Stock, settings: Settings) -> Entry:
    split, task = stock.split, settings.task
    return Entry(
        image=one.images[0],
        channels=one.images[1:],
        label=one.label if task.kind == "segmentation" else None,
        case=one.name,
        patient=split.patients.get(one.case, one.name),
        category=split.categories.get(one.case),
        # A fixed window is one of HU; MR has none, and its files' names may say so.
        modality="CT" if settings.preprocess.intensity == "window" else modality_of(one.images[0], stock.folder),
    )


def _one(values: set[str]) -> str:
    return values.pop() if len(values) == 1 else "mixed"
