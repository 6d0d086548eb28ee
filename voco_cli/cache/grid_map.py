"""The record of preprocessing: how the voxels of the preprocessed volume lie in the scan's own grid."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

IntXYZ = tuple[int, int, int]
FloatXYZ = tuple[float, float, float]
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
        """Voxels after cutting and padding, before the resize."""
        x, y, z = (a + b + c for a, b, c in zip(self.pad_before, self.box_size, self.pad_after, strict=True))
        return (x, y, z)

    @property
    def shape_xyz(self) -> IntXYZ:
        """Voxels of the preprocessed volume along x, y, z."""
        return self.resized or self.padded_shape

    @property
    def affine(self) -> NDArray[np.float64]:
        """Voxel of the preprocessed volume to RAS world, mm, 4x4."""
        corners = self.to_source(np.vstack([np.zeros(3), np.eye(3)]))
        to_source = np.eye(4)
        to_source[:3, :3] = (corners[1:] - corners[0]).T
        to_source[:3, 3] = corners[0]
        return np.asarray(self.source_affine) @ to_source

    @property
    def spacing_mm(self) -> FloatXYZ:
        """Distance of voxel centres of the preprocessed volume along x, y, z, mm."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return (float(x), float(y), float(z))

    def to_preprocessed(self, source_xyz_vox: NDArray[Any]) -> NDArray[np.float64]:
        """Coordinates on the scan's own grid to coordinates on the preprocessed grid.

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
        """Coordinates on the preprocessed grid to coordinates on the scan's own grid; undoes `to_preprocessed`."""
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
        """For each voxel along a RAS axis: the nearest voxel of the scan along its own axis, and whether it has one.

        The rounding is MONAI's (half to even, in RAS order); voxels that lie in the padding have none.
        """
        in_box = np.arange(self.shape_xyz[axis]) * self._resize_step[axis] - self.pad_before[axis]
        inside = (in_box > -0.5) & (in_box < self.box_size[axis] - 0.5)
        last = self.source_shape_xyz[self.axes[axis]] - 1
        nearest = np.rint((in_box + self.box_start[axis]) * self.step[axis]).astype(np.intp).clip(0, last)
        return (last - nearest if self.flipped[axis] else nearest), inside

    def in_preprocessed(self, axis: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """For each voxel of the scan along the axis that runs along a RAS axis: its place in the preprocessed volume.

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
