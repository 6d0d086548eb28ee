"""The target that the network of a task learns of a case: a label map or a category; and label values as indices.

What trains, predicts and evaluates a kind of task is registered in `voco_cli.task_kinds`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voco_cli.config import Settings
from voco_cli.config.task_schema import LabelClass, Task
from voco_cli.data.index.datalist import Entry
from voco_cli.data.io.image import LARGEST_LABEL
from voco_cli.errors import DataError, UsageError
from voco_cli.foreign_text import named


class Target(ABC):
    """The target of one kind of task.

    Attributes:
        name: of what a case needs, for people.
        of_class: what one class of the task is called, and what several are.
        is_label_map: it is a file of voxels on the scan's grid, which layouts name and the cache stores.
    """

    name: str
    of_class: tuple[str, str]
    is_label_map: bool

    @abstractmethod
    def is_known(self, entry: Entry) -> bool:
        """Return whether a case has its target."""

    @abstractmethod
    def refuse_lacking(self, entries: Sequence[Entry], task: Task, origin: str) -> None:
        """Raise a UsageError if a case that trains or validates has no target that the task can use."""

    @abstractmethod
    def count_classes(self, entries: Sequence[Entry], values: Sequence[Collection[int]], task: Task) -> dict[str, int]:
        """Return by class the number of cases that have it; nothing where that is not known.

        Args:
            values: of each case the label values in its label map; empty where it was not decoded.
        """


class LabelMap(Target):
    """Voxel by voxel: segmentation."""

    name = "label map"
    of_class = ("structure", "structures")
    is_label_map = True

    def is_known(self, entry: Entry) -> bool:
        """Return whether a case has a label map."""
        return entry.label is not None

    def refuse_lacking(self, entries: Sequence[Entry], task: Task, origin: str) -> None:
        """Raise a UsageError if a case has no label map."""
        lacking = [entry.name for entry in entries if entry.label is None]
        if lacking:
            raise UsageError(f"{origin} has {len(lacking)} cases without a label map: {named(lacking)}.")

    def count_classes(self, entries: Sequence[Entry], values: Sequence[Collection[int]], task: Task) -> dict[str, int]:
        """Return by class the number of label maps that hold a value of it; nothing where none was decoded."""
        if not any(values):
            return {}
        return {one.name: sum(bool(set(one.values) & set(found)) for found in values) for one in task.classes}


class Category(Target):
    """One class for the whole scan: classification."""

    name = "category"
    of_class = ("category", "categories")
    is_label_map = False

    def is_known(self, entry: Entry) -> bool:
        """Return whether a case has a category."""
        return entry.category is not None

    def refuse_lacking(self, entries: Sequence[Entry], task: Task, origin: str) -> None:
        """Raise a UsageError if a case has no category, or one that is no class of the task."""
        names = [one.name for one in task.classes]
        odd = [f"{entry.name} ({entry.category or 'none'})" for entry in entries if entry.category not in names]
        if odd:
            raise UsageError(
                f"{origin} has {len(odd)} cases whose category is no class of the task: {named(odd)}.",
                f"the classes are {', '.join(names)}",
            )

    def count_classes(self, entries: Sequence[Entry], values: Sequence[Collection[int]], task: Task) -> dict[str, int]:
        """Return the number of cases of each category."""
        counts = Counter(entry.category for entry in entries)
        return {one.name: counts[one.name] for one in task.classes}


TARGETS: dict[str, Target] = {"segmentation": LabelMap(), "classification": Category()}


def target_of(task: Task) -> Target:
    """Return what a case of a task must have for its network to learn from it."""
    return TARGETS[task.kind]


IGNORED = 255
"""In place of a network index: voxels that nobody annotated."""


def index_table(classes: Sequence[LabelClass], ignore_value: int | None = None) -> NDArray[np.uint8]:
    """Return the network index of label values 0 to 65535: position of their class + 1, background for all others.

    Args:
        ignore_value: label value that becomes `IGNORED`.
    Raises:
        ValueError: more than 255 classes, or 254 where a value is ignored.
    """
    if len(classes) > IGNORED - (ignore_value is not None):
        raise ValueError(f"a network of {len(classes)} classes does not fit into bytes")
    table = np.zeros(LARGEST_LABEL + 1, np.uint8)
    for index, one in enumerate(classes, start=1):
        table[list(one.values)] = index
    if ignore_value is not None:
        table[ignore_value] = IGNORED
    return table


def unlisted_values(found: Sequence[int], classes: Sequence[LabelClass], ignore_value: int | None = None) -> list[int]:
    """Return the label values that are neither background, nor of a class, nor ignored."""
    listed = {0, ignore_value, *(value for one in classes for value in one.values)}
    return sorted(set(found) - listed)


MOST_NAMED = 5
"""Files in a message."""


def refuse_unlisted(found: Mapping[Path, Sequence[int]], what: str, hint: str) -> None:
    """Raise a DataError that names label maps with the values in them that are not listed; none is no error.

    Args:
        what: the values are, in words.
    """
    faults = [f"{path} holds {', '.join(map(str, values))}" for path, values in found.items()]
    if faults:
        more = f" and {len(faults) - MOST_NAMED} more files" if len(faults) > MOST_NAMED else ""
        raise DataError(f"Label values that {what}: {'; '.join(faults[:MOST_NAMED])}{more}.", hint)


def to_label_values(indices: NDArray[Any], classes: Sequence[LabelClass]) -> NDArray[Any]:
    """Turn network indices into label values, in the smallest number format; the inverse of `index_table`."""
    values = np.array([0, *(one.values[0] for one in classes)])
    small = values.max(initial=0) <= np.iinfo(np.uint8).max
    return np.asarray(values.astype(np.uint8 if small else np.uint16)[indices])


PRETRAINING = "pre-training"
"""In place of a preset's name."""


def tells_classes(settings: Settings) -> bool:
    """Return whether settings are those of a pre-training whose network tells classes."""
    return settings.task.preset is None and settings.objective.needs_labels


def is_class_union(settings: Settings) -> bool:
    """Return whether settings are those that `as_task` gives."""
    return settings.task.preset == PRETRAINING


def as_task(settings: Settings) -> Settings:
    """Return settings of a pre-training that tells classes with the task that its network does.

    The value of a class is its place among the classes, from 1.
    """
    options, crops = settings.objective.supervised, settings.crops
    classes = tuple(LabelClass(name=name, values=(value,)) for value, name in enumerate(options.classes, start=1))
    task = Task(
        preset=PRETRAINING, name=PRETRAINING, title="the classes of a pre-training", classes=classes,
        patch_size=crops.size, deep_supervision=options.deep_supervision,
    )  # fmt: skip
    return settings.model_copy(update={"task": task})
