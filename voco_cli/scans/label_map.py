"""Label maps: arrays of whole numbers, whatever number format their file has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

LARGEST_LABEL = 65_535
IGNORE = "ignore"
"""nnU-Net's name of the label of voxels that nobody annotated."""


def ignored_value(names: Mapping[str, str]) -> int | None:
    """The label value that is called ignore, of label values to names; none where none is."""
    values = (int(value) for value, name in names.items() if name.lower() == IGNORE and value.isdigit() and int(value))
    return next(values, None)


def whole_labels(array_zyx: NDArray[Any]) -> NDArray[Any]:
    """A label map in the smallest number format that holds it, uint8 or uint16.

    Raises:
        ValueError: values that are not whole numbers from 0 to 65535; the message says which.
    """
    if not array_zyx.size:
        return np.zeros(array_zyx.shape, np.uint8)
    low, high = array_zyx.min(), array_zyx.max()
    if not (low >= 0 and high <= LARGEST_LABEL):  # false for NaN, too
        raise ValueError(
            f"holds values from {low:g} to {high:g}, and labels are whole numbers from 0 to {LARGEST_LABEL}"
        )
    whole = array_zyx.astype(np.uint8 if high <= np.iinfo(np.uint8).max else np.uint16, copy=False)
    if array_zyx.dtype.kind == "f" and not np.array_equal(whole, array_zyx):
        odd = array_zyx[whole != array_zyx].flat[0]
        raise ValueError(f"holds the value {odd:g}, and labels are whole numbers")
    return whole
