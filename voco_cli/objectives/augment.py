"""Crops as they lie in the cache, made what the network gets: oriented, scaled to [0, 1], resized, shifted.

For objectives that ask for more, changes of the intensity: gamma, blur and low resolution, noise. Each crop has its
own, drawn on the CPU, so that deciding what to skip waits for no device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

STORED_SCALE = {torch.uint8: 1 / 255, torch.int16: 1 / 32767, torch.float16: 1.0, torch.float32: 1.0}
"""What a stored number is worth in [0, 1]."""


def orient(crops_NXYZ: Tensor, flips_N3: Tensor, turns_N: Tensor) -> Tensor:
    """Flip each crop along its axes, then turn it by quarter turns from x towards y (as ``numpy.rot90``).

    Args:
        crops_NXYZ: any dtype, any device; square in the plane where a turn is odd.
        flips_N3: bool, on the CPU, so that deciding what to skip waits for no device.
        turns_N: 0 to 3, on the CPU.
    """
    # turns = transpose (odd ones) followed by flips; flips before a transpose swap their axes.
    odd = turns_N % 2 == 1
    flip_x = torch.where(odd, flips_N3[:, 1], flips_N3[:, 0]) ^ ((turns_N == 1) | (turns_N == 2))
    flip_y = torch.where(odd, flips_N3[:, 0], flips_N3[:, 1]) ^ ((turns_N == 2) | (turns_N == 3))
    crops = crops_NXYZ
    if bool(odd.any()):
        crops = torch.where(_per_crop(odd, crops), crops.transpose(1, 2), crops)
    for axis, flip in enumerate((flip_x, flip_y, flips_N3[:, 2]), start=1):
        if bool(flip.any()):
            crops = torch.where(_per_crop(flip, crops), crops.flip(axis), crops)
    return crops


def _per_crop(mask_N: Tensor, crops: Tensor) -> Tensor:
    return mask_N.to(crops.device, non_blocking=True).view(-1, 1, 1, 1)


def to_unit(crops: Tensor) -> Tensor:
    """Stored numbers as float32 in [0, 1]."""
    return crops.float() * STORED_SCALE[crops.dtype]


def resize(crops_N1XYZ: Tensor, size_xyz: Sequence[int]) -> Tensor:
    """Trilinear with aligned corners, as released; nothing is done where the size is right already."""
    size = tuple(size_xyz)
    if crops_N1XYZ.shape[2:] == size:
        return crops_N1XYZ
    if crops_N1XYZ.device.type != "cpu":  # one launch for them all
        return F.interpolate(crops_N1XYZ, size, mode="trilinear", align_corners=True)
    return torch.cat([_resize_axes(part, size) for part in crops_N1XYZ.split(1)])  # each stays in the cache


def _resize_axes(crops_N1XYZ: Tensor, size_xyz: tuple[int, ...]) -> Tensor:
    """The plane first, whole rows along z at a time as the channels of pixels are; then z. A third of the time."""
    planes_NZXY = crops_N1XYZ[:, 0].permute(0, 3, 1, 2)
    planes_NZXY = F.interpolate(planes_NZXY, size_xyz[:2], mode="bilinear", align_corners=True)
    rows_NRZ = planes_NZXY.permute(0, 2, 3, 1).flatten(1, 2)
    return F.interpolate(rows_NRZ, size_xyz[2], mode="linear", align_corners=True).view(-1, 1, *size_xyz)


def network_input(
    crops_NXYZ: Tensor, flips_N3: Tensor, turns_N: Tensor, shifts_N: Tensor, size_xyz: Sequence[int]
) -> Tensor:
    """Crops as the network gets them.

    The resize commutes with flips and turns, so those are done on the small stored numbers; after the shift values
    may leave [0, 1], as released. On a CPU crop after crop, which stays in its cache; elsewhere all at once.

    Args:
        crops_NXYZ: stored numbers on the device.
        flips_N3, turns_N, shifts_N: draws, on the CPU.
        size_xyz: what the network expects, voxels.
    Returns:
        crops_N1XYZ, float32.
    """
    if crops_NXYZ.device.type == "cpu":
        return _crop_by_crop(crops_NXYZ, flips_N3, turns_N, shifts_N, size_xyz)
    crops = resize(to_unit(orient(crops_NXYZ, flips_N3, turns_N))[:, None], size_xyz)
    return crops + shifts_N.to(crops.device, non_blocking=True).view(-1, 1, 1, 1, 1)


def _crop_by_crop(
    crops_NXYZ: Tensor, flips_N3: Tensor, turns_N: Tensor, shifts_N: Tensor, size_xyz: Sequence[int]
) -> Tensor:
    """The same on a CPU: only what is done of a crop leaves its cache."""
    batch_N1XYZ = torch.empty(len(crops_NXYZ), 1, *size_xyz)
    drawn = zip(crops_NXYZ, flips_N3.tolist(), turns_N.tolist(), shifts_N.tolist(), strict=True)
    for (target_XYZ,), (crop_XYZ, flips, turns, shift) in zip(batch_N1XYZ, drawn, strict=True):
        oriented_XYZ = _oriented(crop_XYZ, flips, turns)
        if oriented_XYZ.shape == target_XYZ.shape:
            target_XYZ.copy_(oriented_XYZ).mul_(STORED_SCALE[crop_XYZ.dtype])
        else:
            target_XYZ.copy_(resize(to_unit(oriented_XYZ)[None, None], size_xyz)[0, 0])
        if shift:
            target_XYZ.add_(shift)
    return batch_N1XYZ


def _oriented(crop_XYZ: Tensor, flips: Sequence[bool], turns: int) -> Tensor:
    """One crop on a CPU: flips and turns are ways to walk through the memory, all done in one copy of small numbers."""
    axes = tuple(axis for axis in range(3) if flips[axis])
    return torch.from_numpy(np.ascontiguousarray(np.rot90(np.flip(crop_XYZ.numpy(), axes), turns, axes=(0, 1))))


def change_gamma(crops_N1XYZ: Tensor, gammas_N: Tensor) -> Tensor:
    """Raise each crop, in [0, 1], to the power of its gamma; 1 leaves it alone."""
    return _change_some(
        crops_N1XYZ, gammas_N != 1, lambda crops, rows: crops.clamp(0, 1) ** _column(gammas_N[rows], crops)
    )


def lower_resolution(crops_N1XYZ: Tensor, blur_sd_vox_N: Tensor, zooms_N: Tensor) -> Tensor:
    """Blur each crop by a Gaussian, then average it onto a coarser grid and interpolate it back.

    All of that is linear and goes along one axis after the other, so that a matrix for each axis does it.

    Args:
        blur_sd_vox_N: standard deviation, voxels; 0 does not blur.
        zooms_N: edge of the coarser grid as a share of the crop's; 1 leaves the grid alone.
    """

    def change(crops: Tensor, rows: Tensor) -> Tensor:
        each = list(zip(blur_sd_vox_N[rows].tolist(), zooms_N[rows].tolist(), strict=True))
        x, y, z = (
            torch.stack([_along_an_axis(edge, *one) for one in each]).to(crops.device, non_blocking=True)
            for edge in crops.shape[2:]
        )
        along_x = (x @ crops[:, 0].flatten(2)).view_as(crops)
        return y[:, None, None] @ along_x @ z[:, None, None].mT

    return _change_some(crops_N1XYZ, (blur_sd_vox_N > 0) | (zooms_N < 1), change)


def _along_an_axis(edge: int, blur_sd_vox: float, zoom: float) -> Tensor:
    """Return what `lower_resolution` does to a line of voxels, as a matrix whose rows sum to 1."""
    matrix = torch.eye(edge)
    if blur_sd_vox > 0:
        place = torch.arange(edge)
        matrix = torch.exp(-0.5 * ((place[:, None] - place) / blur_sd_vox) ** 2)
        matrix = matrix / matrix.sum(1, keepdim=True)  # beyond the ends there is nothing to average
    coarse = F.adaptive_avg_pool1d(matrix.T[None], max(1, round(edge * zoom)))
    return F.interpolate(coarse, edge, mode="linear")[0].T


def add_noise(crops_N1XYZ: Tensor, noise_sd_N: Tensor, seeds_N: Tensor) -> Tensor:
    """Add white noise of a standard deviation of its own to each crop, made on the device from a seed of its own."""
    crops = crops_N1XYZ.clone()
    for row in noise_sd_N.nonzero()[:, 0].tolist():
        generator = torch.Generator(crops.device).manual_seed(int(seeds_N[row]))
        noise = torch.randn(crops.shape[1:], generator=generator, device=crops.device)
        crops[row].add_(noise, alpha=float(noise_sd_N[row]))
    return crops


def _change_some(crops: Tensor, wanted_N: Tensor, change: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Return the crops with those that are wanted changed; ``change`` gets them and their rows."""
    rows = wanted_N.nonzero()[:, 0]
    if len(rows) == 0:
        return crops
    on_device = rows.to(crops.device, non_blocking=True)
    return crops.index_copy(0, on_device, change(crops[on_device], rows))


def _column(values_N: Tensor, crops: Tensor) -> Tensor:
    return values_N.to(crops.device, non_blocking=True).view(-1, 1, 1, 1, 1)
