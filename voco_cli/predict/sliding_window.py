"""Inference over a volume larger than the network can take at once, window by window, in bounded memory.

K classes, N windows, C channels; X, Y, Z the axes of the preprocessed volume. A, B, D are the same axes, the one that
is swept first, so that what is finished is a stack of whole planes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from voco_cli.config.task_schema import Predict
from voco_cli.data.cache.grid import GridMap, Taps, taps_at
from voco_cli.data.cache.volume import FULL_SCALE

SizeXYZ = tuple[int, int, int]
Network = Callable[[Tensor], Tensor]

SIGMA_SHARE = 0.125
"""Width of the Gaussian weight of a window, in its edges; as MONAI and nnU-Net have it."""
LEAST_WEIGHT = 1e-3
"""No voxel of a window weighs less, so that one that only corners of windows reach is still well divided."""
FLIPS = tuple(product((False, True), repeat=3))


@dataclass(frozen=True)
class Slab:
    """Finished planes of logits.

    Attributes:
        start: place of the first plane along the swept axis.
        logits_AKBD: float32; the memory is used again once the next slab is asked for.
    """

    start: int
    logits_AKBD: Tensor


def sliding_window(
    channels_CXYZ: NDArray[Any],
    network: Network,
    *,
    patch_size: SizeXYZ,
    predict: Predict,
    device: torch.device,
    swept: int,
) -> Iterator[Slab]:
    """Yield the logits of a whole volume, one slab after another along an axis.

    Windows lie where MONAI's ``sliding_window_inference`` has them and weigh the same, and a volume smaller than the
    window gets zeros around it, so that the logits agree to rounding. But windows come in the order of their place
    along the swept axis, and sums are kept only of planes that a window still reaches: of one window's thickness.

    Args:
        channels_CXYZ: the preprocessed volume in stored numbers (uint8, int16 or float16 of [0, 1]).
        network: from windows_NCXYZ, float32 in [0, 1] on the device, to logits_NKXYZ of any float type.
        swept: the axis, 0 to 2; see `swept_axis`.
    Yields:
        slabs that follow one another and cover the volume.
    """
    shape = channels_CXYZ.shape[1:]
    before = [max(0, window - size) // 2 for window, size in zip(patch_size, shape, strict=True)]
    padded = _padded(channels_CXYZ, patch_size, before)
    starts = [window_starts(n, window, predict.overlap) for n, window in zip(padded.shape[1:], patch_size, strict=True)]
    weight_XYZ = gaussian_weight(patch_size, device)
    sums: _Sums | None = None
    for place, following in _with_next(starts[swept], end=padded.shape[1 + swept]):
        corners = list(product(*([place] if axis == swept else starts[axis] for axis in range(3))))
        for first in range(0, len(corners), predict.window_batch):
            group = corners[first : first + predict.window_batch]
            windows = _windows(padded, group, patch_size, device)
            logits_NKXYZ = flipped_mean(network, windows) if predict.flips else network(windows)
            if sums is None:
                sums = _Sums.empty(logits_NKXYZ.shape[1], padded.shape[1:], patch_size, swept, device)
            for corner, logits_KXYZ in zip(group, logits_NKXYZ, strict=True):
                sums.add(logits_KXYZ, weight_XYZ, corner)
        assert sums is not None  # every place has windows
        yield from _without_padding(sums.finished(following - place), place, before, shape, swept)
        sums.forget(following - place)


def flipped_mean(network: Network, windows_NCXYZ: Tensor) -> Tensor:
    """Return the mean of the logits over the eight flips of each window, every one turned back before."""
    total = torch.zeros(())
    for flip in FLIPS:
        axes = [axis - 3 for axis, wanted in enumerate(flip) if wanted]
        turned = network(windows_NCXYZ.flip(axes)).float().flip(axes)
        total = total.add_(turned) if total.ndim else turned
    return total / len(FLIPS)


def window_starts(size: int, window: int, overlap: float) -> list[int]:
    """Return the first voxels of the windows along an axis; the last is drawn back so that it ends with the volume.

    Source: MONAI, ``_get_scan_interval`` and ``dense_patch_slices``.
    """
    if size <= window:
        return [0]
    interval = max(1, int(window * (1 - overlap)))
    return [*range(0, size - window, interval), size - window]


def gaussian_weight(patch_size: SizeXYZ, device: torch.device) -> Tensor:
    """Return the weight of each voxel of a window, float32, largest in the middle.

    Source: MONAI, ``compute_importance_map(mode="gaussian", sigma_scale=0.125)``.
    """
    weight = torch.ones((), device=device)
    for size in patch_size:
        away = torch.arange(size, dtype=torch.float32, device=device) - (size - 1) / 2
        weight = weight[..., None] * torch.exp(away**2 / (-2 * (SIGMA_SHARE * size) ** 2))
    return weight.clamp(min=max(float(weight.min()), LEAST_WEIGHT))


def swept_axis(shape_xyz: Sequence[int], patch_size: SizeXYZ) -> int:
    """Return the axis along which a window is the smallest part of the volume: sums then take the least memory."""
    return int(np.argmin([window / max(window, size) for window, size in zip(patch_size, shape_xyz, strict=True)]))


@dataclass(frozen=True)
class _Sums:
    """Weighted sums over the planes that windows still reach, a window's thickness of them.

    Attributes:
        logits_AKBD: of weight times logits.
        weights_ABD: of the weights.
        swept: axis of the volume that A runs along.
    """

    logits_AKBD: Tensor
    weights_ABD: Tensor
    swept: int

    @classmethod
    def empty(cls, classes: int, shape: Sequence[int], patch_size: SizeXYZ, swept: int, device: torch.device) -> _Sums:
        b, d = (size for axis, size in enumerate(shape) if axis != swept)
        thick = patch_size[swept]
        return cls(torch.zeros((thick, classes, b, d), device=device), torch.zeros((thick, b, d), device=device), swept)

    def add(self, logits_KXYZ: Tensor, weight_XYZ: Tensor, corner: Sequence[int]) -> None:
        """Add a window whose place along the swept axis is that of the first plane kept."""
        weight_ABD = weight_XYZ.movedim(self.swept, 0)
        b, d = (start for axis, start in enumerate(corner) if axis != self.swept)
        rows, columns = slice(b, b + weight_ABD.shape[1]), slice(d, d + weight_ABD.shape[2])
        logits_AKBD = logits_KXYZ.float().movedim(1 + self.swept, 0)
        self.logits_AKBD[:, :, rows, columns].addcmul_(logits_AKBD, weight_ABD[:, None])
        self.weights_ABD[:, rows, columns] += weight_ABD

    def finished(self, planes: int) -> Tensor:
        """Return the mean over the first planes, which no further window reaches; in the same memory."""
        return self.logits_AKBD[:planes].div_(self.weights_ABD[:planes, None])

    def forget(self, planes: int) -> None:
        """Move up by some planes; those that come in are empty."""
        for sums in (self.logits_AKBD, self.weights_ABD):
            thick = len(sums)
            for start in range(0, thick - planes, planes):  # no step reads what it has written
                stop = min(start + planes, thick - planes)
                sums[start:stop] = sums[start + planes : stop + planes]
            sums[thick - planes :] = 0


def _with_next(starts: Sequence[int], end: int) -> Iterator[tuple[int, int]]:
    return zip(starts, [*starts[1:], end], strict=True)


def _padded(channels_CXYZ: NDArray[Any], patch_size: SizeXYZ, before: Sequence[int]) -> NDArray[Any]:
    """Put zeros around a volume that is smaller than the window; the odd one goes behind."""
    missing = [max(0, window - size) for window, size in zip(patch_size, channels_CXYZ.shape[1:], strict=True)]
    if not any(missing):
        return channels_CXYZ
    return np.pad(channels_CXYZ, [(0, 0), *((b, m - b) for b, m in zip(before, missing, strict=True))])


def _windows(
    volume_CXYZ: NDArray[Any], corners: Sequence[Sequence[int]], patch_size: SizeXYZ, device: torch.device
) -> Tensor:
    stored = np.stack(
        [volume_CXYZ[:, x : x + patch_size[0], y : y + patch_size[1], z : z + patch_size[2]] for x, y, z in corners]
    )
    return torch.from_numpy(stored).to(device).float() / FULL_SCALE[stored.dtype.name]


def _without_padding(
    planes_AKBD: Tensor, place: int, before: Sequence[int], shape: Sequence[int], swept: int
) -> Iterator[Slab]:
    first, last = max(place, before[swept]), min(place + len(planes_AKBD), before[swept] + shape[swept])
    rows, columns = (slice(before[axis], before[axis] + shape[axis]) for axis in range(3) if axis != swept)
    if first < last:
        yield Slab(first - before[swept], planes_AKBD[first - place : last - place, :, rows, columns])


MOST_IN_A_BYTE = 256


def labels_on_scan_grid(slabs: Iterable[Slab], record: GridMap, swept: int) -> NDArray[Any]:
    """Find the class with the largest logit at each voxel of a scan, logits interpolated to it.

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
        """Interpolate planes (..., B, D) along B; whole rows are read, which is why B is the slower axis."""
        first = planes.index_select(-2, self.lower)
        return first if self.taps.exact else first.lerp_(planes.index_select(-2, self.upper), self.weight)


def _label_type(classes: int) -> type[np.uint8] | type[np.uint16]:
    return np.uint8 if classes <= MOST_IN_A_BYTE else np.uint16


def _likeliest(lower_KBD: Tensor, upper_KBD: Tensor, weight: float, rows: _Along, columns: _Along) -> Tensor:
    """Return the classes of one plane of the scan, (b, d)."""
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
    """Interpolate a plane between two, and in it the voxels of the scan: (..., B, D) to (..., d, b)."""
    between_BD = lower_BD if weight == 0 else torch.lerp(lower_BD, upper_BD, weight)
    between_Db = rows.rows(between_BD).transpose(-1, -2).contiguous()
    return columns.rows(between_Db)
