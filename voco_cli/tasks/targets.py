"""What the network of a task learns of a case: a label map, or a category. One class for each kind of task.

What trains, predicts and evaluates a kind of task is registered in `voco_cli.task_kinds`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Sequence

from voco_cli.config.task_schema import Task
from voco_cli.data.index.datalist import Entry
from voco_cli.errors import UsageError
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
