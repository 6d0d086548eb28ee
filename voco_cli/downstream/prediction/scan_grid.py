"""From logits on the preprocessed grid to class indices on the scan's own grid, plane by plane.

K classes. A, B, D are the axes of the preprocessed volume, the swept one first; lower-case a, b, d count voxels of the
scan along the same axes.

A `GridMap` takes each axis of the scan to one axis of the preprocessed volume, so that trilinear interpolation falls
apart into three linear ones. Classes are interpolated and compared one after another while their plane is in the
processor's cache, and only the largest logit so far and its class are kept: never all classes of the scan.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from voco_cli.cache.grid_map import GridMap
from voco_cli.cache.resampling import Taps, taps_at
from voco_cli.downstream.prediction.sliding_window import Slab

MOST_IN_A_BYTE = 256


def labels_on_scan_grid(slabs: Iterable[Slab], record: GridMap, swept: int) -> NDArray[Any]:
    """The class with the largest logit at each voxel of a scan, logits interpolated to it.

    Args:
        slabs: follow one another and cover the preprocessed volume along the ``swept`` axis.
        record: how that volume lies in the scan's grid.
    Returns:
        indices of classes in memory order (z, y, x of the scan's own axes), uint8, or uint16 above 256 classes. 0
        further than half a voxel outside the foreground box; among equal logits the lowest class.
    """
    axes = (swept, *(axis for axis in range(3) if axis != swept))
    sweep, rows, columns = (_Along.axis(record, axis) for axis in axes)
    labels_zyx: NDArray[Any] = np.zeros(0, dtype=np.uint8)
    last_KBD = torch.zeros(0)
    done = 0
    for slab in slabs:
        planes_AKBD = slab.logits_AKBD
        if not labels_zyx.size:
            labels_zyx = np.zeros(record.source_shape_xyz[::-1], dtype=_label_type(planes_AKBD.shape[1]))
            rows, columns = rows.to(planes_AKBD.device), columns.to(planes_AKBD.device)
        labels_abd = labels_zyx.transpose([2 - record.axes[axis] for axis in axes])
        stop = slab.start + len(planes_AKBD)
        while done < len(sweep.order) and sweep.taps.upper[sweep.order[done]] < stop:
            a = sweep.order[done]
            # A plane before the slab can only be the last one of the slab before, since voxels come in order.
            lower, upper = (
                last_KBD if place < slab.start else planes_AKBD[place - slab.start]
                for place in (int(sweep.taps.lower[a]), int(sweep.taps.upper[a]))
            )
            found_bd = _likeliest(lower, upper, float(sweep.taps.weight[a]), rows, columns)
            labels_abd[sweep.voxels.start + a, rows.voxels, columns.voxels] = found_bd.cpu().numpy()
            done += 1
        last_KBD = planes_AKBD[-1].clone()
    return labels_zyx


@dataclass(frozen=True)
class _Along:
    """Where the voxels of a scan along one of its axes lie in the preprocessed volume.

    Attributes:
        voxels: those inside the foreground box.
        taps: for each of them.
        order: which of them comes when, going up the preprocessed axis.
        lower, upper, weight: the taps as tensors; the weights stand upright, to be spread over rows.
    """

    voxels: slice
    taps: Taps
    order: NDArray[np.intp]
    lower: Tensor
    upper: Tensor
    weight: Tensor

    @classmethod
    def axis(cls, record: GridMap, axis: int) -> _Along:
        coordinates, inside = record.in_preprocessed(axis)
        within = np.flatnonzero(inside)
        voxels = slice(int(within[0]), int(within[-1]) + 1) if len(within) else slice(0, 0)
        taps = taps_at(coordinates[voxels], record.shape_xyz[axis])
        lower, upper, weight = (torch.from_numpy(part) for part in (taps.lower, taps.upper, taps.weight))
        return cls(voxels, taps, np.argsort(taps.upper, kind="stable"), lower, upper, weight[:, None])

    def to(self, device: torch.device) -> _Along:
        lower, upper, weight = (part.to(device) for part in (self.lower, self.upper, self.weight))
        return _Along(self.voxels, self.taps, self.order, lower, upper, weight)

    def rows(self, planes: Tensor) -> Tensor:
        """Planes (..., B, D) interpolated along B; whole rows are read, which is why B is the slower axis."""
        first = planes.index_select(-2, self.lower)
        return first if self.taps.exact else first.lerp_(planes.index_select(-2, self.upper), self.weight)


def _label_type(classes: int) -> type[np.uint8] | type[np.uint16]:
    return np.uint8 if classes <= MOST_IN_A_BYTE else np.uint16


def _likeliest(lower_KBD: Tensor, upper_KBD: Tensor, weight: float, rows: _Along, columns: _Along) -> Tensor:
    """Classes of one plane of the scan, (b, d)."""
    kind = torch.uint8 if len(lower_KBD) <= MOST_IN_A_BYTE else torch.int32
    if lower_KBD.device.type != "cpu":  # one launch for all classes
        return _interpolated(lower_KBD, upper_KBD, weight, rows, columns).argmax(0).to(kind).T
    largest_db = _interpolated(lower_KBD[0], upper_KBD[0], weight, rows, columns)
    labels_db = torch.zeros(largest_db.shape, dtype=kind)
    for index in range(1, len(lower_KBD)):
        logits_db = _interpolated(lower_KBD[index], upper_KBD[index], weight, rows, columns)
        labels_db.masked_fill_(logits_db > largest_db, index)
        torch.maximum(largest_db, logits_db, out=largest_db)
    return labels_db.T


def _interpolated(lower_BD: Tensor, upper_BD: Tensor, weight: float, rows: _Along, columns: _Along) -> Tensor:
    """A plane between two, and in it the voxels of the scan: (..., B, D) to (..., d, b)."""
    between_BD = lower_BD if weight == 0 else torch.lerp(lower_BD, upper_BD, weight)
    between_Db = rows.rows(between_BD).transpose(-1, -2).contiguous()
    return columns.rows(between_Db)
