"""The box of voxels above a threshold."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Box = tuple[slice, slice, slice]


def box_above(array: NDArray[Any], threshold: float) -> Box | None:
    """The smallest box that holds every voxel greater than ``threshold``.

    Plane by plane along axis 0, so that a plane is read once while it is in cache.

    Args:
        array: three axes, any numeric type.
    Returns:
        one slice an axis, or None where no voxel is above.
    """
    hit = np.zeros(array.shape[0], dtype=bool)
    projection: NDArray[Any] | None = None
    for index, plane in enumerate(array):
        if plane.max() > threshold:
            hit[index] = True
            projection = plane.copy() if projection is None else np.maximum(projection, plane, out=projection)
    if projection is None:
        return None
    above = projection > threshold
    return (_extent(hit), _extent(np.any(above, axis=1)), _extent(np.any(above, axis=0)))


def _extent(hit: NDArray[np.bool_]) -> slice:
    where = np.flatnonzero(hit)
    return slice(int(where[0]), int(where[-1]) + 1)
