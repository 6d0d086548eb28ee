"""What of a folder or a list matches a task, and what is wrong: nothing is refused, everything is counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from voco_cli.config import Settings
from voco_cli.config.task_schema import Layout, Task
from voco_cli.data.index.datalist import Entry
from voco_cli.data.index.label_pairing import grid_fault
from voco_cli.data.io.image import Header, whole_labels
from voco_cli.data.io.reader import read_header, read_scan
from voco_cli.data.parallel import map_files
from voco_cli.errors import UsageError, VocoError
from voco_cli.tasks.cases import unlisted_values
from voco_cli.tasks.find_data import Stock, check_entries, listed_data, stock_entries, take_inventory
from voco_cli.tasks.splits import SPLIT_NAMES

FEWEST_LABELS_FOR_PROCESSES = 16
"""Decoding a label map takes as long as a hundred headers."""


@dataclass(frozen=True)
class CaseCheck:
    """What was seen of a case.

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
    """All that was seen.

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
        """Cases that should be there and are not."""
        return sum(len(split.missing) for split in self.splits if split.required)

    @property
    def is_good(self) -> bool:
        """Whether a training could start, on all of it."""
        return (self.may_lack or not self.missing) and not self.faults

    def to_json(self) -> dict[str, Any]:
        """Everything, for machines."""
        return {
            "origin": self.origin,
            "split": self.split_words,
            "splits": {
                one.name: {
                    "found": one.found,
                    "missing": list(one.missing),
                    "labelled": one.labelled,
                    "required": one.required,
                }
                for one in self.splits
            },
            "layouts": dict(self.layouts),
            "faults": list(self.faults),
            "label_values": {str(value): count for value, count in self.values.items()},
            "classes": dict(self.classes),
            "unlabelled": list(self.unlabelled),
            "good": self.is_good,
        }


def check_task(
    settings: Settings, decode: bool, advance: Callable[[int], object], workers: int | None = None
) -> TaskCheck:
    """Compare the data of a task with its preset.

    Args:
        settings: with ``data.root`` or ``data.file``.
        decode: read label maps as a whole, so that their values are known; else only headers.
        advance: told how many cases were looked at.
        workers: processes; none is one a core where it pays.
    Raises:
        UsageError: there is nothing to look at.
        DataError: the list cannot be read.
    """
    task = settings.task
    stock = None if settings.data.file is not None else take_inventory(settings)
    if stock is None:
        assert settings.data.file is not None
        entries, words = listed_data(settings.data.file, settings)
    else:
        entries, words = stock_entries(stock, settings), stock.split.words
    origin = str(settings.data.file) if stock is None else str(stock.folder)
    everyone = [entry for split in SPLIT_NAMES for entry in entries[split]]
    look = partial(check_case, task=task, decode=decode)
    checks = map_files(look, everyone, workers, advance, FEWEST_LABELS_FOR_PROCESSES if decode else 256)
    faults = [f"{entry.name}: {fault}" for entry, check in zip(everyone, checks, strict=True) for fault in check.faults]
    values = _count(value for check in checks for value in check.values)
    return TaskCheck(
        origin=origin,
        split_words=words,
        splits=tuple(_split(name, entries[name], stock, task) for name in SPLIT_NAMES),
        layouts=_layouts(stock),
        faults=(*_whole(entries, task, origin), *faults),
        values=values,
        classes=_classes(everyone, checks, task) if values or task.kind == "classification" else {},
        unlabelled=stock.unlabelled if stock else (),
        may_lack=task.missing == "leave_out",
    )


def check_case(entry: Entry, task: Task, decode: bool) -> CaseCheck:
    """Headers of a case: readable, all on one grid; and, where asked, the values of its label map."""
    if entry.label is None:
        return CaseCheck(tuple(_grid_faults(entry)))
    try:
        faults = list(_grid_faults(entry))
        values = tuple(np.unique(whole_labels(read_scan(entry.label).array_zyx)).tolist()) if decode else ()
    except (VocoError, ValueError) as error:
        words = error.message if isinstance(error, VocoError) else f"{entry.label} {error}."
        return CaseCheck((words,))
    odd = unlisted_values(values, task.classes, task.ignore_value)
    if odd and task.unlisted == "refuse":
        faults.append(f"{entry.label.name} has the label values {', '.join(map(str, odd))}, which no class has.")
    return CaseCheck(tuple(faults), values)


def _grid_faults(entry: Entry) -> list[str]:
    """Channels and label map that lie on another grid than the first channel, or cannot be read."""
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


def _whole(entries: Mapping[str, list[Entry]], task: Task, origin: str) -> list[str]:
    """What a training would refuse."""
    try:
        check_entries(entries, task, origin)
    except UsageError as error:
        return [error.message]
    return []


def _split(name: str, entries: Sequence[Entry], stock: Stock | None, task: Task) -> SplitCheck:
    targets = [entry.label if task.kind == "segmentation" else entry.category for entry in entries]
    labelled = sum(target is not None for target in targets)
    if stock is None:
        return SplitCheck(name, len(entries), (), labelled)
    lacking = tuple(f"{case} ({stock.missing[case]})" for case in stock.of_split(name)[1])
    return SplitCheck(name, len(entries), lacking, labelled, name != "test" or stock.split.test_labelled)


def _layouts(stock: Stock | None) -> dict[str, int]:
    found = stock.found.values() if stock else ()
    return dict(Counter(layout_name(one.layout) for one in found).most_common())


def layout_name(layout: Layout) -> str:
    """A layout in one line."""
    return ", ".join(layout.image) + (f" with {layout.label}" if layout.label else "")


def _count(values: Any) -> dict[int, int]:
    return dict(sorted(Counter(values).items()))


def _classes(entries: Sequence[Entry], checks: Sequence[CaseCheck], task: Task) -> dict[str, int]:
    if task.kind == "classification":
        counts = Counter(entry.category for entry in entries)
        return {one.name: counts[one.name] for one in task.classes}
    return {one.name: sum(bool(set(one.values) & set(check.values)) for check in checks) for one in task.classes}
