"""Random changes of labelled patches: drawn on the CPU from a counter, made on the device, batched.

N patches of C channels and X x Y x Z voxels; image and label map move together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from voco_cli.config.schema import Augment
from voco_cli.objectives.augment import orient, to_unit
from voco_cli.objectives.draws import counter_generator


class PatchDraws(NamedTuple):
    """Changes of each patch: flips, quarter turns, the affine map, then intensity; all on the CPU.

    Attributes:
        flips_N3: whether to flip along x, y, z.
        turns_N: quarter turns from x towards y, 0 to 3.
        affine_N34: from voxels of the new patch to voxels of the old, both counted from the middle; the last column is
            a shift as a share of the patch.
        moved_N: whether the affine map is more than the identity.
        scales_N, shifts_N: intensity is multiplied, then shifted, in the range [0, 1].
        noise_N: standard deviation of white noise.
        seeds_N: of the noise.
    """

    flips_N3: Tensor
    turns_N: Tensor
    affine_N34: Tensor
    moved_N: Tensor
    scales_N: Tensor
    shifts_N: Tensor
    noise_N: Tensor
    seeds_N: Tensor


def draw_patches(
    seed: int, number: int, case: str, count: int, spacing_mm: Sequence[float], augment: Augment
) -> PatchDraws:
    """Draw changes for ``count`` patches of a case in batch ``number``; they depend on nothing but the arguments.

    Args:
        spacing_mm: of the patch's voxels; rotations keep lengths in mm, so that thick slices are not sheared.
    """
    generator = counter_generator(seed, number, case, "patch-augmentation")
    flips = generator.random((count, 3)) < augment.flip_prob
    turns = np.where(generator.random(count) < augment.rotate_prob, generator.integers(1, 4, count), 0)
    moved = generator.random(count) < augment.affine_prob
    affine = np.stack([_affine(generator, spacing_mm, augment) for _ in range(count)])
    affine[~moved] = np.eye(3, 4)

    def uniform(prob: float, low: float, high: float, otherwise: float) -> NDArray[np.float64]:
        return np.where(generator.random(count) < prob, generator.uniform(low, high, count), otherwise)

    return PatchDraws(
        flips_N3=torch.from_numpy(flips),
        turns_N=torch.from_numpy(turns.astype(np.int64)),
        affine_N34=torch.from_numpy(affine).float(),
        moved_N=torch.from_numpy(moved),
        scales_N=torch.from_numpy(uniform(augment.scale_prob, 1 - augment.scale_max, 1 + augment.scale_max, 1)).float(),
        shifts_N=torch.from_numpy(uniform(augment.shift_prob, -augment.shift_max, augment.shift_max, 0)).float(),
        noise_N=torch.from_numpy(uniform(augment.noise_prob, 0, augment.noise_sd, 0)).float(),
        seeds_N=torch.from_numpy(generator.integers(0, 2**62, count)),
    )


def _affine(generator: np.random.Generator, spacing_mm: Sequence[float], augment: Augment) -> NDArray[np.float64]:
    """Draw a rotation about each axis in turn, one zoom for all, and a shift: 3x4."""
    rotation = np.eye(3)
    for axis, angle in enumerate(np.radians(generator.uniform(-1, 1, 3) * augment.affine_degrees)):
        one, two = (axis + 1) % 3, (axis + 2) % 3
        turn = np.eye(3)
        turn[[one, two], [one, two]] = math.cos(angle)
        turn[one, two], turn[two, one] = -math.sin(angle), math.sin(angle)
        rotation = rotation @ turn
    zoom = 1 + generator.uniform(-1, 1) * augment.affine_zoom
    to_mm = np.diag(spacing_mm)
    shift = generator.uniform(-1, 1, 3) * augment.affine_shift
    return np.hstack([np.linalg.inv(to_mm) @ rotation @ to_mm / zoom, shift[:, None]])


def join_draws(draws: Sequence[PatchDraws]) -> PatchDraws:
    """Join the draws of several cases in a row."""
    return PatchDraws(*(torch.cat(rows) for rows in zip(*draws, strict=True)))


def augment_patches(
    images_NCXYZ: Tensor, labels_NXYZ: Tensor | None, draws: PatchDraws
) -> tuple[Tensor, Tensor | None]:
    """Apply the draws on the images' device.

    Args:
        images_NCXYZ: stored numbers.
        labels_NXYZ: class indices, uint8; none for whole scans with a category.
    Returns:
        images_NCXYZ, float32, in [0, 1] before the changes of intensity; labels_NXYZ, uint8. What is turned in from
        outside repeats the edge.
    """
    images = to_unit(_orient_channels(images_NCXYZ, draws))
    labels = None if labels_NXYZ is None else orient(labels_NXYZ, draws.flips_N3, draws.turns_N)
    if bool(draws.moved_N.any()):
        images, labels = _move(images, labels, draws)
    device = images.device

    def per_patch(values: Tensor) -> Tensor:
        return values.to(device, non_blocking=True).view(-1, 1, 1, 1, 1)

    images = images * per_patch(draws.scales_N) + per_patch(draws.shifts_N)
    for row in draws.noise_N.nonzero()[:, 0].tolist():
        generator = torch.Generator(device).manual_seed(int(draws.seeds_N[row]))
        noise = torch.randn(images.shape[1:], generator=generator, device=device)
        images[row] += float(draws.noise_N[row]) * noise
    return images, labels


def _orient_channels(images_NCXYZ: Tensor, draws: PatchDraws) -> Tensor:
    channels = images_NCXYZ.shape[1]
    flips, turns = draws.flips_N3.repeat_interleave(channels, 0), draws.turns_N.repeat_interleave(channels, 0)
    oriented: Tensor = orient(images_NCXYZ.flatten(0, 1), flips, turns).unflatten(0, (-1, channels))
    return oriented


def _move(images: Tensor, labels: Tensor | None, draws: PatchDraws) -> tuple[Tensor, Tensor | None]:
    """Apply the affine map of the patches that are moved: images by interpolation, labels by the nearest voxel."""
    rows = draws.moved_N.nonzero()[:, 0]
    size = torch.tensor(images.shape[2:], dtype=torch.float32)
    theta = draws.affine_N34[rows].clone()
    # torch counts from -1 to 1 over an edge, and the last axis first.
    theta[:, :, :3] *= size[None, None, :] / size[None, :, None]
    theta[:, :, 3] *= 2
    theta = torch.cat([theta[:, :, :3].flip(1, 2), theta[:, :, 3:].flip(1)], dim=2)
    on_device = rows.to(images.device)
    grid = F.affine_grid(theta.to(images.device), [len(rows), 1, *images.shape[2:]], align_corners=False)
    moved = F.grid_sample(images[on_device], grid, mode="bilinear", padding_mode="border", align_corners=False)
    images = images.index_copy(0, on_device, moved)
    if labels is not None:
        old = labels[on_device][:, None].float()
        new = F.grid_sample(old, grid, mode="nearest", padding_mode="border", align_corners=False)
        labels = labels.index_copy(0, on_device, new[:, 0].to(labels.dtype))
    return images, labels
