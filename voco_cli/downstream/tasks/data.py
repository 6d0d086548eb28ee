"""The cases of a task on this machine: where the data lies, and who trains, validates and is tested."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from voco_cli.dataset.datalist import Datalist, Entry
from voco_cli.dataset.patient import modality_of
from voco_cli.downstream.tasks.folder import Located
from voco_cli.downstream.tasks.listed import listed_data
from voco_cli.downstream.tasks.split import SPLIT_NAMES, named
from voco_cli.downstream.tasks.stock import Stock, take_stock
from voco_cli.errors import UsageError
from voco_cli.scans.label_map import IGNORE
from voco_cli.settings import Settings
from voco_cli.settings.task import Task


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
        stock = take_stock(settings)
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
