"""Separable linear interpolation, plane by plane, so that only what is asked for is computed and stays in cache."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]


@dataclass(frozen=True)
class Taps:
    """Linear interpolation along one axis: ``(1 - weight) * v[lower] + weight * v[upper]`` for each output."""

    lower: NDArray[np.intp]
    upper: NDArray[np.intp]
    weight: Plane

    @property
    def exact(self) -> bool:
        """Every output lies on an input voxel, so that nothing is interpolated."""
        return not self.weight.any()


def taps_at(coordinates: NDArray[np.floating[Any]], size: int) -> Taps:
    """The taps for given coordinates on an axis of ``size`` voxels; what lies outside gets the border's value."""
    clipped = np.clip(coordinates, 0, size - 1)
    lower = np.floor(clipped).astype(np.intp)
    return Taps(lower, np.minimum(lower + 1, size - 1), (clipped - lower).astype(np.float32))


def spacing_size(size: int, step: float) -> int:
    """Voxels along an axis after it is resampled to ``step`` old voxels per new voxel.

    Source: MONAI, ``compute_shape_offset`` with ``scale_extent=False``: round((n - 1) s / p + 1), half to even.
    """
    return int(np.round((size - 1) / step + 1.0))


def resize_coordinates(old_size: int, new_size: int) -> NDArray[np.float64]:
    """Where the voxels of a resized axis lie on the old one, corners aligned.

    Computed in float32 as torch's ``interpolate`` does: in float64 results at 384 voxels would be 4e-5 away from it.
    """
    scale = np.float32(old_size - 1) / np.float32(new_size - 1) if new_size > 1 else np.float32(0)
    return (np.arange(new_size, dtype=np.float32) * scale).astype(np.float64)


def interpolate(
    source: NDArray[Any],
    taps: tuple[Taps, Taps, Taps],
    prepare: Callable[[NDArray[Any]], Plane],
    finish: Callable[[Plane], None] | None = None,
) -> NDArray[np.float32]:
    """Resample along all three axes.

    Args:
        source: three axes in memory order, the slowest first.
        taps: for each axis of ``source``.
        prepare: from a raw plane to float32, before interpolation.
        finish: what is done in place to each finished plane, while it is in cache.
    Returns:
        float32 of shape (len(taps[0]), len(taps[1]), len(taps[2])).
    """
    slow, rows, columns = taps
    out = np.empty((len(slow.lower), len(rows.lower), len(columns.lower)), dtype=np.float32)
    recent: dict[int, Plane] = {}

    def plane_at(index: int) -> Plane:
        if index not in recent:
            if len(recent) == 2:
                del recent[next(iter(recent))]
            recent[index] = _resample_plane(source[index], rows, columns, prepare)
        return recent[index]

    for k, (lower, upper, weight) in enumerate(zip(slow.lower, slow.upper, slow.weight, strict=True)):
        first = plane_at(int(lower))
        if weight == 0:
            out[k] = first
        else:
            second = plane_at(int(upper))
            np.subtract(second, first, out=out[k])
            out[k] *= weight
            out[k] += first
        if finish is not None:
            finish(out[k])
    return out


def _resample_plane(raw: NDArray[Any], rows: Taps, columns: Taps, prepare: Callable[[NDArray[Any]], Plane]) -> Plane:
    """One plane along both its axes; gathering columns is the dearest step and comes where there are fewer rows."""
    first, last = int(rows.lower.min()), int(rows.upper.max())
    plane = prepare(raw[first : last + 1])
    rows = Taps(rows.lower - first, rows.upper - first, rows.weight)
    if len(rows.lower) > len(plane):
        return _lerp(_lerp(plane, columns, axis=1), rows, axis=0)
    return _lerp(_lerp(plane, rows, axis=0), columns, axis=1)


def _lerp(plane: Plane, taps: Taps, axis: int) -> Plane:
    first = np.take(plane, taps.lower, axis=axis)
    if taps.exact:
        return first
    second = np.take(plane, taps.upper, axis=axis)
    second -= first
    second *= taps.weight[:, None] if axis == 0 else taps.weight
    second += first
    return second
