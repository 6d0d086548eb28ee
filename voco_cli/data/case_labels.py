"""What the values of a label map stand for, among the classes that a network tells."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from voco_cli.data.io.image import LARGEST_LABEL

IGNORED = 255
"""Row of voxels that nobody annotated."""


@dataclass(frozen=True)
class CaseLabels:
    """How the values of a label map stand for classes; shared by the scans of a set, and small.

    Classes are places in the list of those that a network tells.

    Attributes:
        complete: classes that the map is complete for.
        values: each label value above 0 with the classes that its voxels belong to.
        ignore: label value of voxels that nobody annotated.
        left_out: other values that have a name, whose voxels count as background.
    """

    complete: tuple[int, ...]
    values: tuple[tuple[int, tuple[int, ...]], ...]
    ignore: int | None = None
    left_out: tuple[int, ...] = ()

    def unlisted(self, found: Iterable[int]) -> list[int]:
        """Return the label values that are neither background nor have a name."""
        return sorted(set(found) - {0, self.ignore, *self.left_out, *(value for value, _ in self.values)})

    def rows(self, labels: NDArray[np.generic]) -> NDArray[np.uint8]:
        """Return the row of each voxel in `members`, 0 for background, or `IGNORED`."""
        rows: NDArray[np.uint8] = _row_table(self)[labels]
        return rows

    def members(self, num_classes: int) -> NDArray[np.bool_]:
        """Return members_RK: whether a voxel of row R belongs to class K."""
        members = np.zeros((len(self.values) + 1, num_classes), np.bool_)
        for row, (_, classes) in enumerate(self.values, start=1):
            members[row, list(classes)] = True
        return members

    def is_complete(self, num_classes: int) -> NDArray[np.bool_]:
        """Return complete_K: whether the map is complete for class K."""
        complete = np.zeros(num_classes, np.bool_)
        complete[list(self.complete)] = True
        return complete


@lru_cache(maxsize=256)
def _row_table(labels: CaseLabels) -> NDArray[np.uint8]:
    table = np.zeros(LARGEST_LABEL + 1, np.uint8)
    for row, (value, _) in enumerate(labels.values, start=1):
        table[value] = row
    if labels.ignore is not None:
        table[labels.ignore] = IGNORED
    return table
