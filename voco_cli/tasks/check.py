"""What of a folder or a list matches a task, and what is wrong: nothing is refused, everything is counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from voco_cli.config.task_schema import Task
from voco_cli.data.index.datalist import SPLITS, Entry
from voco_cli.data.index.label_pairing import grid_fault
from voco_cli.data.io.image import Header, Scan, whole_labels
from voco_cli.data.io.reader import read_header, read_scan
from voco_cli.data.parallel import map_files
from voco_cli.errors import UsageError, VocoError
from voco_cli.tasks.find_data import Inventory, check_entries
from voco_cli.tasks.targets import target_of, unlisted_values

FEWEST_LABELS_FOR_PROCESSES = 16
"""Decoding a label map takes as long as a hundred headers."""
LabelCheck = Callable[[Scan, Scan, Mapping[str, Sequence[int]], str], Sequence[str]]
"""Image, label map, values of each structure and modality to what seems wrong, a sentence each."""


@dataclass(frozen=True)
class CaseCheck:
    """The result of checking a case.

    Attributes:
        faults: one sentence each.
        values: label values, where the label map was decoded.
    """

    faults: tuple[str, ...] = ()
    values: tuple[int, ...] = ()


@dataclass(frozen=True)
class SplitCheck:
    """A split of the task.

    Attributes:
        name: training, validation or test.
        found: cases that are there.
        missing: cases that are not, with the file that is missing.
        labelled: cases with a label map, or with a category.
        required: whether missing cases are a fault; test cases without public labels are none.
    """

    name: str
    found: int
    missing: tuple[str, ...]
    labelled: int
    required: bool = True


@dataclass(frozen=True)
class TaskCheck:
    """A task against the data that is there.

    Attributes:
        origin: folder or data.json.
        split_words: how cases are split.
        splits: found and missing.
        layouts: layout to the number of cases found by it; empty for a list.
        faults: of cases (under their names) and of the whole.
        values: label values to the number of label maps that hold them; empty where none was decoded.
        classes: class to the number of label maps, or cases, that have it.
        unlabelled: images that no label map belongs to.
        may_lack: cases that are missing are left out (task.missing).
    """

    origin: str
    split_words: str
    splits: tuple[SplitCheck, ...]
    layouts: Mapping[str, int] = field(default_factory=dict)
    faults: tuple[str, ...] = ()
    values: Mapping[int, int] = field(default_factory=dict)
    classes: Mapping[str, int] = field(default_factory=dict)
    unlabelled: tuple[str, ...] = ()
    may_lack: bool = False

    @property
    def missing(self) -> int:
        """Number of cases that should be there and are not."""
        return sum(len(split.missing) for split in self.splits if split.required)

    @property
    def is_good(self) -> bool:
        """Whether a training could start, on all of it."""
        return (self.may_lack or not self.missing) and not self.faults

    def to_json(self) -> dict[str, Any]:
        """Return everything, for machines."""
        splits = {one.name: {key: value for key, value in asdict(one).items() if key != "name"} for one in self.splits}
        return {
            "origin": self.origin,
            "split": self.split_words,
            "splits": splits,
            "layouts": dict(self.layouts),
            "faults": list(self.faults),
            "label_values": {str(value): count for value, count in self.values.items()},
            "classes": dict(self.classes),
            "unlabelled": list(self.unlabelled),
            "good": self.is_good,
        }


def check_task(
    inventory: Inventory,
    task: Task,
    decode: bool,
    advance: Callable[[int], object],
    workers: int | None = None,
    label_check: LabelCheck | None = None,
) -> TaskCheck:
    """Compare what is there of a task with its preset.

    Args:
        inventory: its cases, from `take_inventory`.
        decode: read label maps as a whole, so that their values are known; else only headers.
        advance: called with the number of cases that were checked.
        workers: processes; none is one a core where it pays.
        label_check: also asked about every label map that is decoded (see `label_faults` in evaluate/label_check.py).
    """
    entries = [entry for split in SPLITS for entry in inventory.entries[split]]
    check = partial(check_case, task=task, decode=decode, label_check=label_check)
    checks = map_files(check, entries, workers, advance, FEWEST_LABELS_FOR_PROCESSES if decode else 256)
    faults = [f"{entry.name}: {fault}" for entry, check in zip(entries, checks, strict=True) for fault in check.faults]
    return TaskCheck(
        origin=inventory.origin,
        split_words=inventory.split_words,
        splits=tuple(_split(name, inventory, task) for name in SPLITS),
        layouts=inventory.layouts,
        faults=(*_whole(inventory, task), *faults),
        values=dict(sorted(Counter(value for check in checks for value in check.values).items())),
        classes=target_of(task).count_classes(entries, [check.values for check in checks], task),
        unlabelled=inventory.unlabelled,
        may_lack=task.missing == "leave_out",
    )


def check_case(entry: Entry, task: Task, decode: bool, label_check: LabelCheck | None = None) -> CaseCheck:
    """Read the headers of a case, which must all lie on one grid, and where asked the values of its label map."""
    faults = _grid_faults(entry)
    if entry.label is None or not decode:
        return CaseCheck(tuple(faults))
    try:
        label = read_scan(entry.label)
        labels = whole_labels(label.array_zyx)
        if label_check is not None and not faults:
            annotated = labels if task.ignore_value is None else np.where(labels == task.ignore_value, 0, labels)
            names = {one.name: one.values for one in task.classes}
            image = read_scan(entry.image, entry.files)
            faults += label_check(image, replace(label, array_zyx=annotated), names, entry.modality)
    except (VocoError, ValueError) as error:
        words = error.message if isinstance(error, VocoError) else f"{entry.label} {error}."
        return CaseCheck((words,))
    values = tuple(np.unique(labels).tolist())
    odd = unlisted_values(values, task.classes, task.ignore_value)
    if odd and task.unlisted == "refuse":
        faults.append(f"{entry.label.name} has the label values {', '.join(map(str, odd))}, which no class has.")
    return CaseCheck(tuple(faults), values)


def _grid_faults(entry: Entry) -> list[str]:
    """Return a sentence on each channel or label map on another grid than the first channel, or not to be read."""
    faults: list[str] = []
    first = _header(entry.image, faults, entry.files)
    for path in (*entry.channels, *([entry.label] if entry.label else [])):
        other = _header(path, faults)
        if first is not None and other is not None and (fault := grid_fault(other, first)):
            kind = "label" if path == entry.label else "channel"
            faults.append(f"{path.name}: {kind}{fault.removeprefix('label')}")
    return faults


def _header(path: Path, faults: list[str], files: Sequence[Path] = ()) -> Header | None:
    try:
        return read_header(path, files)
    except VocoError as error:
        faults.append(error.message)
        return None


def _whole(inventory: Inventory, task: Task) -> list[str]:
    """Return what a training would refuse."""
    try:
        check_entries(inventory.entries, task, inventory.origin)
    except UsageError as error:
        return [error.message]
    return []


def _split(name: str, inventory: Inventory, task: Task) -> SplitCheck:
    entries = inventory.entries[name]
    labelled = sum(target_of(task).is_known(entry) for entry in entries)
    required = name != "test" or inventory.test_labelled
    return SplitCheck(name, len(entries), inventory.missing.get(name, ()), labelled, required)
