"""Label maps: arrays of whole numbers, whatever number format their file has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

LARGEST_LABEL = 65_535
ROUNDING = 1e-3
"""So far from a whole number, a value is one that arithmetic left inexact (a slope in the header, float16)."""
IGNORE = "ignore"
"""nnU-Net's name of the label of voxels that nobody annotated."""


def ignored_value(names: Mapping[str, str]) -> int | None:
    """The label value that is called ignore, of label values to names; none where none is."""
    values = (int(value) for value, name in names.items() if name.lower() == IGNORE and value.isdigit() and int(value))
    return next(values, None)


def whole_labels(array_zyx: NDArray[Any]) -> NDArray[Any]:
    """Return a label map in the smallest number format that holds it, uint8 or uint16.

    Values within ``ROUNDING`` of a whole number are rounded; `rounding_note` says so.

    Raises:
        ValueError: values that are not whole numbers from 0 to 65535; the message says which.
    """
    if not array_zyx.size:
        return np.zeros(array_zyx.shape, np.uint8)
    low, high = array_zyx.min(), array_zyx.max()
    if not (low >= -ROUNDING and high <= LARGEST_LABEL + ROUNDING):  # false for NaN, too
        raise ValueError(
            f"holds values from {low:g} to {high:g}, and labels are whole numbers from 0 to {LARGEST_LABEL}"
        )
    fits = np.uint8 if round(float(high)) <= np.iinfo(np.uint8).max else np.uint16
    if array_zyx.dtype.kind != "f":
        return array_zyx.astype(fits, copy=False)
    rounded = np.rint(array_zyx)
    off = np.abs(array_zyx - rounded) > ROUNDING
    if off.any():
        raise ValueError(f"holds the value {array_zyx[off].flat[0]:g}, and labels are whole numbers")
    whole: NDArray[Any] = rounded.astype(fits)
    return whole


def rounding_note(array_zyx: NDArray[Any]) -> str | None:
    """Return a note on values that `whole_labels` rounds; none where all are whole."""
    if array_zyx.dtype.kind != "f" or not array_zyx.size:
        return None
    apart = float(np.abs(array_zyx - np.rint(array_zyx)).max())
    return f"label values up to {apart:.1g} off whole numbers were rounded" if apart else None
