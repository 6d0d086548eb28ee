"""The cases of a task on this machine: where the data lies, and who trains, validates and is tested."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from voco_cli.config import Settings
from voco_cli.config.task_schema import Task
from voco_cli.data.index.datalist import SPLITS, Datalist, Entry
from voco_cli.data.index.datalist_file import read_datalist
from voco_cli.data.index.patients import modality_of
from voco_cli.data.io.image import IGNORE
from voco_cli.errors import UsageError
from voco_cli.foreign_text import named
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
from voco_cli.tasks.splits import SEEDED, Split, draw_split, read_split, split_names
from voco_cli.tasks.targets import target_of


@dataclass(frozen=True)
class TaskData:
    """The data of a task, ready to train on.

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


@dataclass(frozen=True)
class Inventory:
    """What a folder or a list has of the cases of a task; nothing is refused yet.

    Attributes:
        origin: the folder in which most cases are, or the data.json.
        split_words: how cases are split, for people.
        entries: cases that are there, by split.
        missing: cases that are not, by split, each with the file that is missing.
        remarks: what more should be said of the split, to be put behind its words.
        test_labelled: whether the labels of test cases are public, so that their absence is a fault.
        layouts: layout to the number of cases found by it; empty for a list.
        unlabelled: images that would be a case, had they a label map; only where a folder is searched.
    """

    origin: str
    split_words: str
    entries: Mapping[str, list[Entry]]
    missing: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    remarks: str = ""
    test_labelled: bool = True
    layouts: Mapping[str, int] = field(default_factory=dict)
    unlabelled: tuple[str, ...] = ()


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
    task, found = settings.task, take_inventory(settings)
    missing = _missing(found, task)
    check_entries(found.entries, task, found.origin)
    modalities = {entry.modality for listed in found.entries.values() for entry in listed}
    labels = {str(value): one.name for one in task.classes for value in one.values}
    datalist = Datalist(
        name=task.name or "task",
        modality=modalities.pop() if len(modalities) == 1 else "mixed",
        labels=labels if task.ignore_value is None else {**labels, str(task.ignore_value): IGNORE},
        training=tuple(found.entries["training"]),
        validation=tuple(found.entries["validation"]),
        test=tuple(found.entries["test"]),
    )
    return TaskData(datalist, found.origin, found.split_words + found.remarks, missing)


def _missing(found: Inventory, task: Task) -> tuple[str, ...]:
    """Return the cases that should be there and are not, or raise a UsageError unless they may be left out."""
    required = [split for split in SPLITS if split != "test" or found.test_labelled]
    lacking = tuple(case for split in required for case in found.missing.get(split, ()))
    if lacking and task.missing == "refuse":
        total = sum(map(len, (*found.entries.values(), *found.missing.values())))
        raise UsageError(
            f"{found.origin} lacks {len(lacking)} of {total} cases ({found.split_words}): {named(lacking)}.",
            "task.missing=leave_out does without them, task.split=seeded splits what is there",
        )
    return lacking


def take_inventory(settings: Settings) -> Inventory:
    """Find the cases of a task: in its list, else below ``data.root``, else in ./data.

    Raises:
        UsageError, DataError: there is nothing, as in `find_task_data`.
    """
    if settings.data.file is not None:
        return from_datalist(settings.data.file, settings)
    return from_folder(settings)


def from_datalist(path: Path, settings: Settings) -> Inventory:
    """Take the cases of a task from a list.

    The list's own splits hold, unless ``task.split`` is ``seeded`` or a JSON file, whose cases are then the names of
    the entries. A category may be given as a value of its class. A list of many scans and few labels is the usual one:
    scans without a label map or category are left out of training and validation, and counted.

    Raises:
        DataError: the list cannot be read, or its files are missing.
        UsageError: its keys are wrong, nothing is labelled, or a case of the split file is not in it.
    """
    task = settings.task
    target, datalist = target_of(task), read_datalist(path)
    whole = {
        split: [_with_category(entry, task) for entry in merge_channels(getattr(datalist, split), task)]
        for split in SPLITS
    }
    everyone = [entry for listed in whole.values() for entry in listed]
    usable = [entry for entry in everyone if target.is_known(entry)]
    if not usable:
        hint = "`voco index FOLDER --label-pattern PATTERN -o data.json` says where labels lie"
        raise UsageError(
            f"{path} has no {target.name}, so nothing can be learned.", hint if target.is_label_map else None
        )
    if task.split is not None and task.split.endswith(".json"):
        return _split_by_file(everyone, path, task, task.split)
    if task.split == SEEDED:
        drawn = _draw(usable, task)
        kept: dict[str, list[Entry]] = {name: [one for one in usable if drawn[one.patient] == name] for name in SPLITS}
        words = _drawn_words(task)
    else:
        kept = {split: [one for one in whole[split] if split == "test" or target.is_known(one)] for split in SPLITS}
        words = f"splits of {path.name}"
        words += f", drawn by patient with seed {datalist.split.seed}" if datalist.split else ""
    left = len(everyone) - sum(map(len, kept.values()))
    words += f"; {left} scans without a {target.name} are not used" if left else ""
    return Inventory(str(path), words, kept)


def _with_category(entry: Entry, task: Task) -> Entry:
    """Return the entry under its case's name, its category by the name of the class."""
    names = {str(value): one.name for one in task.classes for value in one.values}
    category = names.get(entry.category, entry.category) if entry.category is not None else None
    return entry.model_copy(update={"case": entry.name, "category": category})


def _split_by_file(entries: Sequence[Entry], path: Path, task: Task, name: str) -> Inventory:
    split = read_split(name, task.fold)
    by_name = {entry.name: entry for entry in entries}
    lacking = [case for cases in split.cases.values() for case in cases if case not in by_name]
    if lacking and task.missing == "refuse":
        raise UsageError(
            f"{path} lacks {len(lacking)} cases of the {split.words}: {named(lacking)}.",
            "cases go by the names of the images; task.missing=leave_out does without them",
        )
    words = split.words + (f"; {len(lacking)} of its cases are not in {path.name}" if lacking else "")
    owned = {
        case: entry.model_copy(update={"patient": split.patients.get(case, entry.patient)})
        for case, entry in by_name.items()
    }
    kept = {split: [owned[case] for case in cases if case in owned] for split, cases in split.cases.items()}
    return Inventory(str(path), words, kept)


def _draw(entries: Iterable[Entry], task: Task) -> dict[str, str]:
    """Draw the split of every patient; of a classification within each category."""
    listed = list(entries)
    stratified = () if target_of(task).is_label_map else listed
    categories = ((entry.patient, entry.category) for entry in stratified if entry.category is not None)
    return draw_split((entry.patient for entry in listed), task, categories)


def _drawn_words(task: Task) -> str:
    within = "" if target_of(task).is_label_map else " within each category"
    return f"drawn by patient{within} with seed {task.split_seed}"


def from_folder(settings: Settings) -> Inventory:
    """Find the cases of a task below ``data.root``, or ./data.

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
    wanted = _wanted(split, table)
    best = most_cases(folders, task, wanted)
    if best is None or best[1] == 0:
        raise _nothing(settings, best[0] if best else None, len(wanted) if wanted is not None else None)
    folder = best[0]
    found, missing, unlabelled = _locate_all(folder, task, split, wanted)
    if split is None:
        patients, categories = (table.patients, table.categories) if table else ({}, {})
        split = Split(_drawn_words(task), {}, patients=patients, categories=categories)
    own = {case: one.name for case, one in found.items()} if split.public else patients_of_cases(found.values())
    patients = {**own, **split.patients}
    # A fixed window is one of HU; MR has none, and its files' names may say so.
    windowed = settings.preprocess.intensity == "window"
    entries = {
        case: Entry(
            image=one.images[0],
            channels=one.images[1:],
            label=one.label if target_of(task).is_label_map else None,
            case=one.name,
            patient=patients.get(case, one.name),
            category=split.categories.get(case),
            modality="CT" if windowed else modality_of(one.images[0], folder),
        )
        for case, one in found.items()
    }
    if not split.cases:
        drawn = _draw(entries.values(), task)
        # A case that is missing belongs to where its patient is, or would train; it only has to be counted somewhere.
        where = {case: drawn.get(patients.get(case, case), "training") for case in (*found, *missing)}
        split = replace(split, cases={name: tuple(case for case in where if where[case] == name) for name in SPLITS})
    return Inventory(
        origin=str(folder),
        split_words=split.words,
        entries={name: [entries[case] for case in split.cases[name] if case in entries] for name in SPLITS},
        missing={name: tuple(f"{c} ({missing[c]})" for c in split.cases[name] if c in missing) for name in SPLITS},
        remarks=_remarks(split, found, unlabelled),
        test_labelled=split.test_labelled,
        layouts=dict(Counter(layout_words(one.layout) for one in found.values()).most_common()),
        unlabelled=unlabelled,
    )


def _prescribed(task: Task, table: CaseTable | None) -> Split | None:
    """Return the split that a file or the table gives, with what the table knows; none for a drawn one."""
    if task.split == SEEDED:
        if table is None and not target_of(task).is_label_map:
            raise UsageError(
                "A classification whose split is drawn needs a table of categories.", "give task.table, a CSV of cases"
            )
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


def _wanted(split: Split | None, table: CaseTable | None) -> list[str] | None:
    """Return the cases that should be there; none where whatever is found will do."""
    if split is not None:
        return [case for name in SPLITS for case in split.cases[name]]
    return None if table is None else list(table.categories)


def _locate_all(
    folder: Path, task: Task, split: Split | None, wanted: Sequence[str] | None
) -> tuple[dict[str, Located], dict[str, str], tuple[str, ...]]:
    """Return the cases that are there, of others the file that is missing, and images without a label map."""
    if wanted is None:
        found, unlabelled = find_cases(folder, task, needs_label=True)
        return found, {}, unlabelled
    needed = set(wanted) if split is not None and target_of(task).is_label_map else set()
    if split is not None and not split.test_labelled:
        needed -= set(split.cases["test"])
    located = {case: locate(folder, task, case, case in needed) for case in wanted}
    there = {case: one for case, one in located.items() if isinstance(one, Located)}
    return there, {case: one for case, one in located.items() if isinstance(one, str)}, ()


def _remarks(split: Split, found: Mapping[str, Located], unlabelled: Sequence[str]) -> str:
    """Say what of the folder the split does not use."""
    remarks, test = "", split.cases["test"]
    if test and not split.test_labelled:
        there = sum(case in found for case in test)
        remarks += f"; {there} of {len(test)} test cases, whose labels are not public, are there"
    if unlabelled:
        remarks += f"; {len(unlabelled)} images without a label map are not used"
    return remarks


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
    expected = "; or ".join(map(layout_words, task.layouts[:3]))
    return UsageError(what, f"give the folder with --data or VOCO_DATA; expected in it{below}: {expected}{where}")


def check_entries(entries: Mapping[str, Sequence[Entry]], task: Task, origin: str) -> None:
    """Raise if no training could use the cases.

    Raises:
        UsageError: as `find_task_data`.
    """
    everyone = [entry for split in SPLITS for entry in entries[split]]
    twice = [name for name, count in Counter(entry.name for entry in everyone).items() if count > 1]
    if twice:
        raise UsageError(
            f"{origin} has {len(twice)} names of cases more than once: {named(twice)}.",
            "voco index tells them apart by their folders; in a list of your own give each entry a case",
        )
    splits_of: dict[str, set[str]] = {}
    for split in SPLITS:
        for entry in entries[split]:
            splits_of.setdefault(entry.patient, set()).add(split)
    torn = sorted(patient for patient, splits in splits_of.items() if len(splits) > 1)
    if torn:
        raise UsageError(
            f"{origin} has {len(torn)} patients in more than one split: {named(torn)}.",
            "task.split=seeded draws by patient; a table or a split file says who is whose with patients",
        )
    target_of(task).refuse_lacking([*entries["training"], *entries["validation"]], task, origin)
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
