"""Label values of files to indices of classes, and back; apart from the cases, so that a check needs no cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voco_cli.config.task_schema import LabelClass
from voco_cli.data.io.image import LARGEST_LABEL

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


def to_label_values(indices: NDArray[Any], classes: Sequence[LabelClass]) -> NDArray[Any]:
    """Turn network indices into label values, in the smallest number format; the inverse of `index_table`."""
    values = np.array([0, *(one.values[0] for one in classes)])
    small = values.max(initial=0) <= np.iinfo(np.uint8).max
    return np.asarray(values.astype(np.uint8 if small else np.uint16)[indices])
