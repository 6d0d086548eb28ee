"""Deterministic preprocessing: RAS, spacing, intensity, foreground box, padding, resize, in this order.

Two orders are in play. RAS order is (x, y, z) = (right, anterior, superior). Memory order is that of
``Scan.array_zyx``, whose axis m is the scan's own voxel axis 2 - m. Voxels stay in memory order throughout: a flip is
a reversed coordinate and the permutation a view of the result, so that no volume is copied just to turn it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voco_cli.config.schema import Preprocess
from voco_cli.data.cache.grid import (
    Float32,
    FloatXYZ,
    GridMap,
    IntXYZ,
    Taps,
    axes_to_ras,
    interpolate,
    resize_coordinates,
    spacing_size,
    taps_at,
)
from voco_cli.data.io.geometry import grid_shift_mm, place
from voco_cli.data.io.image import LPS_TO_RAS, Scan, placement, ras_affine, stored_like
from voco_cli.errors import DataError, GeometryError


@dataclass(frozen=True)
class Window:
    """``x = clip((v - low) / (high - low), 0, 1)``, in two halves, so that interpolation may come between.

    Subtracting ``low`` first keeps a region at exactly ``low`` at exactly 0 through any interpolation; otherwise
    rounding would lift it above 0 and the foreground box would grow.
    """

    low: float
    high: float

    def shift(self, plane: NDArray[Any]) -> Float32:
        """Return ``v - low`` as float32; exact for integers."""
        return np.asarray(np.subtract(plane, np.float32(self.low), dtype=np.float32))

    def finish(self, plane: Float32) -> None:
        """Divide by the width and clip, in place."""
        plane *= np.float32(1.0 / (self.high - self.low))
        np.clip(plane, 0.0, 1.0, out=plane)

    def apply(self, plane: NDArray[Any]) -> Float32:
        """Map one plane of raw values to [0, 1]."""
        shifted = self.shift(plane)
        self.finish(shifted)
        return shifted

    def raw_threshold(self, above: float, dtype: np.dtype[Any]) -> float:
        """Return the raw value v such that a voxel is foreground (x > ``above``) exactly where it is greater than v.

        For integers the comparison is the one that float32 arithmetic makes, so that the foreground box is the one
        of ``x > above`` to the voxel.
        """
        if above >= 1.0:
            return math.inf
        threshold = self.low + above * (self.high - self.low)
        if not np.issubdtype(dtype, np.integer):
            return threshold
        candidates = math.floor(threshold) + np.arange(-2, 4)
        scaled = (candidates.astype(np.float32) - np.float32(self.low)) / np.float32(self.high - self.low)
        return float(candidates[scaled > np.float32(above)][0] - 1)


def intensity_window(scan: Scan, settings: Preprocess) -> Window:
    """Return the window of a scan: ``window_hu``, or the percentiles of all its voxels.

    Raises:
        DataError: the percentiles coincide, or a voxel is not a finite number.
    """
    if np.issubdtype(scan.array_zyx.dtype, np.inexact) and not np.isfinite(scan.array_zyx).all():
        raise DataError(f"{scan.path} holds voxels that are not finite numbers.")
    if settings.intensity == "window":
        return Window(*settings.window_hu)
    low, high = (float(value) for value in np.percentile(scan.array_zyx, settings.percentiles))
    if not low < high:
        ends = " and ".join(f"{end:g}" for end in settings.percentiles)
        raise DataError(
            f"{scan.path} has the value {low:g} at both percentiles {ends}, so that nothing maps to [0, 1].",
            hint="set preprocess.percentiles further apart, or leave the scan out",
        )
    return Window(low, high)


Box = tuple[slice, ...]


def box_above(array: NDArray[Any], threshold: float) -> Box | None:
    """Return the smallest box that holds every voxel greater than ``threshold``.

    Float32 by plane along axis 0, so that a plane is read once while it is in cache.

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


SAME_SPACING_MM = 1e-3
"""Spacings as near as this are taken for equal and nothing is resampled, as MONAI does (AFFINE_TOL)."""


@dataclass(frozen=True)
class Preprocessed:
    """A volume as networks see it.

    Attributes:
        array_xyz: float32 in [0, 1], axes right, anterior, superior; a view, not contiguous in general.
        record: how its voxels lie in the scan's own grid.
    """

    array_xyz: Float32
    record: GridMap

    @property
    def spacing_mm(self) -> FloatXYZ:
        """Return the distance of voxel centres along x, y, z, mm."""
        return self.record.spacing_mm

    @property
    def affine(self) -> NDArray[np.float64]:
        """Return the affine from voxels to RAS world, mm, 4x4."""
        return self.record.affine


def preprocess(scan: Scan, settings: Preprocess) -> Preprocessed:
    """Bring a scan to the grid and the range of values that the settings ask for.

    Agrees with MONAI's Orientationd("RAS"), Spacingd(bilinear, border), ScaleIntensityRanged(clip),
    CropForegroundd, SpatialPadd (symmetric, zeros) and Resized(trilinear, align_corners) in that order. Oblique scans
    keep their rotation and their first voxel; there MONAI's Spacingd shifts by up to half a voxel, because rounding in
    a stored affine makes it align centres instead.

    Raises:
        DataError: a voxel is not finite, or none lies above ``foreground_above``.
    """
    plan = _plan(scan, settings)
    window = intensity_window(scan, settings)
    raw = _raw_box(scan, settings, window)
    if plan.step == (1.0, 1.0, 1.0):
        box = _in_ras_direction(raw, plan)
        padding = _padding(box, settings, plan)
        early_resize = None if padding.any() else settings.resize_vox
        volume = _cut(scan, raw, plan, window, early_resize)
    else:
        volume, box = _respaced(scan, raw, settings, plan, window)
        padding, early_resize = _padding(box, settings, plan), None
    if padding.any():
        volume = np.pad(volume, padding)
    if settings.resize_vox is not None and early_resize is None:
        volume = _resized(volume, settings.resize_vox, plan)
    return Preprocessed(volume.transpose(plan.memory_axes), _record(scan, settings, plan, box, padding))


def preprocess_label(label: Scan, record: GridMap) -> NDArray[Any]:
    """Bring a label map on the scan's grid to the preprocessed grid, by the nearest voxel; padding is 0.

    After a resize the corners are aligned as for the image (MONAI's nearest resize does not align them, so that its
    labels lie up to half a voxel off).

    Returns:
        (x, y, z) of ``record.shape_xyz``, the label's own dtype, C-contiguous.
    Raises:
        GeometryError: the label lies on another grid than the scan.
    """
    label = on_scan_grid(label, record)
    ras = label.array_zyx.transpose([2 - axis for axis in record.axes])
    (ix, in_x), (iy, in_y), (iz, in_z) = (record.nearest_source(axis) for axis in range(3))
    labels = np.ascontiguousarray(ras[np.ix_(ix, iy, iz)])
    labels[~in_x] = 0
    labels[:, ~in_y] = 0
    labels[:, :, ~in_z] = 0
    return labels


def on_scan_grid(label: Scan, record: GridMap) -> Scan:
    """Return a label map with its voxels in the order in which its scan stores them.

    Raises:
        GeometryError: the label lies on another grid than the scan.
    """
    affine_lps = LPS_TO_RAS @ np.asarray(record.source_affine)
    grid = place(affine_lps[:3, :3], affine_lps[:3, 3], label.path)
    found = stored_like(label, grid, record.source_shape_xyz, "its scan")
    if found is not None:
        return found
    if label.shape_xyz != record.source_shape_xyz:
        raise GeometryError(f"{label.path} has {label.shape_xyz} voxels, but its scan {record.source_shape_xyz}.")
    apart_mm = grid_shift_mm(placement(label), grid, label.shape_xyz)
    if apart_mm > 0.5 * min(label.spacing_xyz_mm):
        raise GeometryError(f"{label.path} lies {apart_mm:.2f} mm off the grid of its scan.")
    return label


def preprocessed_shape(shape_ras: IntXYZ, spacing_ras_mm: FloatXYZ, settings: Preprocess) -> IntXYZ:
    """Return the largest shape that a scan can have after preprocessing, by its header alone: nothing is cut."""
    if settings.resize_vox is not None:
        return settings.resize_vox
    steps = _steps(spacing_ras_mm, settings)
    least = settings.min_size_vox or (1, 1, 1)
    x, y, z = (max(spacing_size(n, step), m) for n, step, m in zip(shape_ras, steps, least, strict=True))
    return (x, y, z)


@dataclass(frozen=True)
class _Plan:
    """What the header alone decides, in RAS order."""

    affine: NDArray[np.float64]
    axes: IntXYZ
    flipped: tuple[bool, bool, bool]
    shape: IntXYZ
    step: FloatXYZ

    @property
    def memory_axes(self) -> IntXYZ:
        """Return the axis of ``array_zyx`` along each RAS axis."""
        x, y, z = (2 - axis for axis in self.axes)
        return (x, y, z)

    def ras_axis(self, memory_axis: int) -> int:
        return self.memory_axes.index(memory_axis)

    def to_memory(self, ras_axis: int, coordinates: NDArray[Any]) -> NDArray[Any]:
        """Return RAS coordinates along an axis as coordinates along the array's own axis."""
        return self.shape[ras_axis] - 1 - coordinates if self.flipped[ras_axis] else coordinates


def _plan(scan: Scan, settings: Preprocess) -> _Plan:
    affine = ras_affine(scan)
    axes, flipped = axes_to_ras(affine)
    shape = (scan.shape_xyz[axes[0]], scan.shape_xyz[axes[1]], scan.shape_xyz[axes[2]])
    spacing = (scan.spacing_xyz_mm[axes[0]], scan.spacing_xyz_mm[axes[1]], scan.spacing_xyz_mm[axes[2]])
    return _Plan(affine, axes, flipped, shape, _steps(spacing, settings))


def _steps(spacing_ras_mm: FloatXYZ, settings: Preprocess) -> FloatXYZ:
    if settings.spacing_mm is None:
        return (1.0, 1.0, 1.0)
    pairs = list(zip(settings.spacing_mm, spacing_ras_mm, strict=True))
    if all(abs(wanted - present) < SAME_SPACING_MM for wanted, present in pairs):
        return (1.0, 1.0, 1.0)
    x, y, z = (wanted / present for wanted, present in pairs)
    return (x, y, z)


def _raw_box(scan: Scan, settings: Preprocess, window: Window) -> Box:
    """Return the foreground box of the scan's voxels, memory order; the whole scan where none is asked for."""
    array = scan.array_zyx
    if settings.foreground_above is None:
        return _whole(array)
    box = box_above(array, window.raw_threshold(settings.foreground_above, array.dtype))
    if box is None:
        raise _empty(scan, settings)
    return box


def _whole(array: NDArray[Any]) -> Box:
    return tuple(slice(0, size) for size in array.shape)


def _empty(scan: Scan, settings: Preprocess) -> DataError:
    return DataError(
        f"{scan.path} has no voxel above preprocess.foreground_above = {settings.foreground_above}.",
        hint="check the intensity window: MR, or CT that is not in HU, needs preprocess.intensity=percentiles",
    )


def _in_ras_direction(raw: Box, plan: _Plan) -> Box:
    """Return a box of the array's voxels, counted in the direction of the RAS axes; still in memory order."""
    turned = []
    for memory_axis, part in enumerate(raw):
        axis = plan.ras_axis(memory_axis)
        size = plan.shape[axis]
        turned.append(slice(size - part.stop, size - part.start) if plan.flipped[axis] else part)
    return tuple(turned)


def _respaced(scan: Scan, raw: Box, settings: Preprocess, plan: _Plan, window: Window) -> tuple[Float32, Box]:
    """Resample to the wanted spacing, window, and cut to the foreground; only its neighbourhood is computed.

    Returns:
        the volume in memory order and RAS directions, and its box in the resampled grid.
    """
    starts: list[int] = []
    taps: list[Taps] = []
    for memory_axis, near in enumerate(_in_ras_direction(raw, plan)):
        axis = plan.ras_axis(memory_axis)
        size = plan.shape[axis]
        coordinates = np.arange(spacing_size(size, plan.step[axis])) * plan.step[axis]
        # An interpolated voxel can only be foreground if one of its neighbours is: one voxel around the box will do.
        clipped = np.clip(coordinates, 0, size - 1)
        wanted = np.flatnonzero((clipped > near.start - 1) & (clipped < near.stop))
        if not len(wanted):
            raise _empty(scan, settings)
        starts.append(int(wanted[0]))
        taps.append(taps_at(plan.to_memory(axis, coordinates[wanted]), size))
    volume = interpolate(scan.array_zyx, taps, window.shift, window.finish)
    above = settings.foreground_above
    exact = _whole(volume) if above is None else box_above(volume, above)
    if exact is None:
        raise _empty(scan, settings)
    box = tuple(slice(part.start + start, part.stop + start) for part, start in zip(exact, starts, strict=True))
    return volume[exact], box


def _cut(scan: Scan, raw: Box, plan: _Plan, window: Window, resize: IntXYZ | None) -> Float32:
    """Cut to the box, window, and resize where asked; memory order, RAS directions."""
    taps: list[Taps] = []
    for memory_axis, part in enumerate(raw):
        axis = plan.ras_axis(memory_axis)
        size = part.stop - part.start
        wanted = resize_coordinates(size, resize[axis] if resize else size)
        taps.append(taps_at(size - 1 - wanted if plan.flipped[axis] else wanted, size))
    return interpolate(scan.array_zyx[raw], taps, window.apply)


def _resized(volume: Float32, size_vox: IntXYZ, plan: _Plan) -> Float32:
    taps = [taps_at(resize_coordinates(n, size_vox[plan.ras_axis(m)]), n) for m, n in enumerate(volume.shape)]
    return interpolate(volume, taps, np.asarray)


def _padding(box: Box, settings: Preprocess, plan: _Plan) -> NDArray[np.int64]:
    """Return the zeros before and after along each memory axis, 3x2; MONAI's split: the odd one goes behind."""
    least = settings.min_size_vox or (1, 1, 1)
    missing = np.array([max(0, least[plan.ras_axis(m)] - (part.stop - part.start)) for m, part in enumerate(box)])
    return np.stack([missing // 2, missing - missing // 2], axis=1)


def _record(scan: Scan, settings: Preprocess, plan: _Plan, box: Box, padding: NDArray[np.int64]) -> GridMap:
    box_ras = [box[m] for m in plan.memory_axes]
    padding_ras = padding[list(plan.memory_axes)].tolist()
    return GridMap.model_validate(
        {
            "source_shape_xyz": scan.shape_xyz,
            "source_affine": plan.affine.tolist(),
            "axes": plan.axes,
            "flipped": plan.flipped,
            "step": plan.step,
            "resampled_shape": [spacing_size(n, step) for n, step in zip(plan.shape, plan.step, strict=True)],
            "box_start": [part.start for part in box_ras],
            "box_size": [part.stop - part.start for part in box_ras],
            "pad_before": [before for before, _ in padding_ras],
            "pad_after": [after for _, after in padding_ras],
            "resized": settings.resize_vox,
        }
    )
