"""The record of preprocessing: how the voxels of the preprocessed volume lie in the scan's own grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

IntXYZ = tuple[int, int, int]
FloatXYZ = tuple[float, float, float]
Float32 = NDArray[np.float32]
Row = tuple[float, float, float, float]

ROUNDING_VOX = 1e-6
"""A scan's last voxel may lie exactly half a voxel behind the last one of another spacing, and belongs to it."""


class GridMap(BaseModel):
    """What was done to a scan's grid, in this order; tuples are in RAS axis order unless said.

    Attributes:
        source_shape_xyz: voxels of the scan along its own axes x, y, z.
        source_affine: voxel of the scan's own grid to RAS world, mm.
        axes: the scan's own axis (0 is x) that runs along each patient axis.
        flipped: whether it runs against it.
        step: old voxels per new voxel in the resampling to another spacing; 1 where there was none.
        resampled_shape: voxels after it.
        box_start: first voxel of the foreground box in the resampled grid.
        box_size: its voxels.
        pad_before, pad_after: voxels of zeros around the box.
        resized: voxels after the last resize (corners aligned), or None.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source_shape_xyz: IntXYZ
    source_affine: tuple[Row, Row, Row, Row]
    axes: IntXYZ
    flipped: tuple[bool, bool, bool]
    step: FloatXYZ
    resampled_shape: IntXYZ
    box_start: IntXYZ
    box_size: IntXYZ
    pad_before: IntXYZ
    pad_after: IntXYZ
    resized: IntXYZ | None

    @property
    def padded_shape(self) -> IntXYZ:
        """Return the voxels after cutting and padding, before the resize."""
        x, y, z = (a + b + c for a, b, c in zip(self.pad_before, self.box_size, self.pad_after, strict=True))
        return (x, y, z)

    @property
    def shape_xyz(self) -> IntXYZ:
        """Return the voxels of the preprocessed volume along x, y, z."""
        return self.resized or self.padded_shape

    @property
    def affine(self) -> NDArray[np.float64]:
        """Return the affine from voxels of the preprocessed volume to RAS world, mm, 4x4."""
        corners = self.to_source(np.vstack([np.zeros(3), np.eye(3)]))
        to_source = np.eye(4)
        to_source[:3, :3] = (corners[1:] - corners[0]).T
        to_source[:3, 3] = corners[0]
        return np.asarray(self.source_affine) @ to_source

    @property
    def spacing_mm(self) -> FloatXYZ:
        """Return the distance of voxel centres of the preprocessed volume along x, y, z, mm."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return (float(x), float(y), float(z))

    def to_preprocessed(self, source_xyz_vox: NDArray[Any]) -> NDArray[np.float64]:
        """Map coordinates on the scan's own grid to coordinates on the preprocessed grid.

        Args:
            source_xyz_vox: shape (..., 3), voxels along the scan's own x, y, z; need not be whole or inside.
        Returns:
            shape (..., 3), voxels along x, y, z of the preprocessed volume (RAS).
        """
        ras = np.asarray(source_xyz_vox, dtype=np.float64)[..., list(self.axes)]
        ras = np.where(self.flipped, self._last_ras - ras, ras)
        padded = ras / self.step - self.box_start + self.pad_before
        return np.asarray(padded / self._resize_step)

    def to_source(self, xyz_vox: NDArray[Any]) -> NDArray[np.float64]:
        """Map coordinates on the preprocessed grid to the scan's own grid; undoes `to_preprocessed`."""
        resampled = np.asarray(xyz_vox, dtype=np.float64) * self._resize_step - self.pad_before + self.box_start
        ras = resampled * self.step
        ras = np.where(self.flipped, self._last_ras - ras, ras)
        return np.asarray(ras[..., np.argsort(self.axes)])

    @property
    def _last_ras(self) -> NDArray[np.int64]:
        return np.asarray(self.source_shape_xyz)[list(self.axes)] - 1

    @property
    def _resize_step(self) -> NDArray[np.float64]:
        if self.resized is None:
            return np.ones(3)
        # An axis of a single voxel has no two corners to align: its extent is shared out instead.
        pairs = zip(self.padded_shape, self.resized, strict=True)
        return np.array([(old - 1) / (new - 1) if min(old, new) > 1 else old / new for old, new in pairs])

    def nearest_source(self, axis: int) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        """Return, for each voxel along a RAS axis, the scan's nearest voxel along its own axis, and whether it has one.

        The rounding is MONAI's (half to even, in RAS order); voxels that lie in the padding have none.
        """
        in_box = np.arange(self.shape_xyz[axis]) * self._resize_step[axis] - self.pad_before[axis]
        inside = (in_box > -0.5) & (in_box < self.box_size[axis] - 0.5)
        last = self.source_shape_xyz[self.axes[axis]] - 1
        nearest = np.rint((in_box + self.box_start[axis]) * self.step[axis]).astype(np.intp).clip(0, last)
        return (last - nearest if self.flipped[axis] else nearest), inside

    def in_preprocessed(self, axis: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Return where each voxel of the scan, along its axis nearest to a RAS axis, lies in the preprocessed volume.

        Returns:
            coordinates along the preprocessed axis, held inside the foreground box, and whether the voxel belongs to
            it: those further than half a voxel outside were cut away, or lie in the padding.
        """
        voxels = np.arange(self.source_shape_xyz[self.axes[axis]])
        in_box = (voxels[::-1] if self.flipped[axis] else voxels) / self.step[axis] - self.box_start[axis]
        last = self.box_size[axis] - 1
        inside = (in_box > -0.5 - ROUNDING_VOX) & (in_box < last + 0.5 + ROUNDING_VOX)
        padded = in_box.clip(0, last) + self.pad_before[axis]
        return padded / self._resize_step[axis], inside


@dataclass(frozen=True)
class Taps:
    """Linear interpolation along one axis: ``(1 - weight) * v[lower] + weight * v[upper]`` for each output."""

    lower: NDArray[np.intp]
    upper: NDArray[np.intp]
    weight: Float32

    @property
    def exact(self) -> bool:
        """Return whether every output lies on an input voxel, so that nothing is interpolated."""
        return not self.weight.any()


def taps_at(coordinates: NDArray[np.floating[Any]], size: int) -> Taps:
    """Return the taps for coordinates on an axis of ``size`` voxels; what lies outside gets the border's value."""
    clipped = np.clip(coordinates, 0, size - 1)
    lower = np.floor(clipped).astype(np.intp)
    return Taps(lower, np.minimum(lower + 1, size - 1), (clipped - lower).astype(np.float32))


def spacing_size(size: int, step: float) -> int:
    """Return the voxels along an axis after it is resampled to ``step`` old voxels per new voxel.

    Source: MONAI, ``compute_shape_offset`` with ``scale_extent=False``: round((n - 1) s / p + 1), half to even.
    """
    return int(np.round((size - 1) / step + 1.0))


def resize_coordinates(old_size: int, new_size: int) -> NDArray[np.float64]:
    """Return where the voxels of a resized axis lie on the old one, corners aligned.

    Computed in float32 as torch's ``interpolate`` does: in float64 results at 384 voxels would be 4e-5 away from it.
    """
    scale = np.float32(old_size - 1) / np.float32(new_size - 1) if new_size > 1 else np.float32(0)
    return (np.arange(new_size, dtype=np.float32) * scale).astype(np.float64)


def interpolate(
    source: NDArray[Any],
    taps: Sequence[Taps],
    prepare: Callable[[NDArray[Any]], Float32],
    finish: Callable[[Float32], None] | None = None,
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
    recent: dict[int, Float32] = {}

    def plane_at(index: int) -> Float32:
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


def _resample_plane(
    raw: NDArray[Any], rows: Taps, columns: Taps, prepare: Callable[[NDArray[Any]], Float32]
) -> Float32:
    """Resample a plane along both its axes; gathering columns is dearest, and is done where there are fewer rows."""
    first, last = int(rows.lower.min()), int(rows.upper.max())
    plane = prepare(raw[first : last + 1])
    rows = Taps(rows.lower - first, rows.upper - first, rows.weight)
    if len(rows.lower) > len(plane):
        return _lerp(_lerp(plane, columns, axis=1), rows, axis=0)
    return _lerp(_lerp(plane, rows, axis=0), columns, axis=1)


def _lerp(plane: Float32, taps: Taps, axis: int) -> Float32:
    first = np.take(plane, taps.lower, axis=axis)
    if taps.exact:
        return first
    second = np.take(plane, taps.upper, axis=axis)
    second -= first
    second *= taps.weight[:, None] if axis == 0 else taps.weight
    second += first
    return second


def axes_to_ras(affine: NDArray[np.float64]) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
    """Return the permutation and flips that bring voxel axes as near as possible to right, anterior, superior.

    Args:
        affine: 4x4, voxel (x, y, z) to RAS world.
    Returns:
        (axes, flipped): voxel axis ``axes[r]`` runs along patient axis r, against it where ``flipped[r]``.
    """
    from nibabel.orientations import io_orientation  # late: a stored volume is read without it

    nearest = io_orientation(affine)  # for each voxel axis: its patient axis, and 1 or -1
    x, y, z = (int(axis) for axis in np.argsort(nearest[:, 0]))
    return (x, y, z), (bool(nearest[x, 1] < 0), bool(nearest[y, 1] < 0), bool(nearest[z, 1] < 0))
