"""Lesions for benchmarks by rules of their own, so that nothing that paints tumours can have been tuned to them.

Nothing is shared with `voco_cli.data.synthetic.tumours`: a lesion is a level set of a sum of Gaussian blobs, cut where
it has the volume that was drawn; it replaces tissue and its noise by a mean, a mottle (band-passed white noise) and
noise of its own; its border is a ramp that is steep or wide; large ones may be darker inside. Nothing is displaced, and
there is no capsule. Contrasts are round numbers of liver metastases.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from voco_cli.data.synthetic.anatomy import FloatArray, Mask, Triple

RADIUS_MM = (6.0, 24.0)
"""Radius of the ball of a lesion's volume, least and most; drawn evenly by its logarithm."""
BLOBS = (3, 8)
DROP_HU = (30.0, 70.0)
"""How much darker than the organ; at most `MOST_DROP` of the organ's own attenuation."""
MOST_DROP = 0.8
MOTTLE_HU = (4.0, 14.0)
SHARP_MM, WIDE_MM = (0.5, 1.5), (3.0, 7.0)
"""Width of the ramp of a border, of the two kinds that are equally frequent."""
NECROSIS_FROM_MM, NECROSIS_HU, NECROSIS_SHARE = 10.0, (15.0, 35.0), (0.15, 0.5)
"""Radius from which half of the lesions have a darker inside, by how much, and which share of the volume it is."""
LEAST_DEPTH = 0.5
"""How deep a middle lies inside the organ, of the radius; a lesion too large for its organ is drawn again, smaller."""


@dataclass(frozen=True)
class Lesions:
    """A scan with lesions.

    Attributes:
        image_hu_xyz: int16, HU.
        mask_xyz: voxels of lesions, all inside the organ.
        radii_mm: as drawn, of those that found a place.
    """

    image_hu_xyz: NDArray[np.int16]
    mask_xyz: Mask
    radii_mm: tuple[float, ...]


def add_lesions(
    image_hu_xyz: NDArray[np.int16], organ_xyz: Mask, spacing_mm: Triple, count: int, rng: np.random.Generator
) -> Lesions:
    """Put ``count`` lesions into an organ, or as many as have room beside each other."""
    image, mask = image_hu_xyz.astype(np.float32), np.zeros_like(organ_xyz)
    organ_hu = image[organ_xyz]
    mean_hu = float(np.median(organ_hu))
    noise_hu = float(1.4826 * np.median(np.abs(organ_hu - mean_hu)))  # a standard deviation that lesions do not move
    radii: list[float] = []
    for _ in range(count):
        radius_mm = float(np.exp(rng.uniform(*np.log(RADIUS_MM))))
        depth_mm = ndimage.distance_transform_edt(organ_xyz & ~mask, sampling=spacing_mm)
        radius_mm = min(radius_mm, float(depth_mm.max()) / LEAST_DEPTH)
        if radius_mm < RADIUS_MM[0]:
            continue
        places_P3 = np.argwhere(depth_mm >= LEAST_DEPTH * radius_mm)
        centre = places_P3[rng.integers(len(places_P3))]
        depth, gradient = _level_set(organ_xyz.shape, centre, spacing_mm, radius_mm, rng)
        inside = (depth > 0) & organ_xyz & ~mask
        if not inside.any():
            continue
        width_mm = rng.uniform(*(SHARP_MM if rng.random() < 0.5 else WIDE_MM))
        share = np.clip(0.5 + depth / (gradient * width_mm), 0, 1) * organ_xyz
        drop_hu = min(rng.uniform(*DROP_HU), MOST_DROP * mean_hu)
        own = mean_hu - drop_hu + _mottle(image.shape, spacing_mm, rng)
        if radius_mm >= NECROSIS_FROM_MM and rng.random() < 0.5:
            core = depth > np.quantile(depth[inside], 1 - rng.uniform(*NECROSIS_SHARE))
            own -= ndimage.gaussian_filter(core.astype(np.float32), 0.7) * np.float32(rng.uniform(*NECROSIS_HU))
        own += np.float32(0.8 * noise_hu) * rng.standard_normal(image.shape, dtype=np.float32)
        image += share * (own - image)
        mask |= inside
        radii.append(radius_mm)
    return Lesions(np.clip(np.rint(image), -1024, 3071).astype(np.int16), mask, tuple(radii))


def _level_set(
    shape: tuple[int, ...], centre: NDArray[np.int64], spacing_mm: Triple, radius_mm: float, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Return a sum of blobs minus the level at which it has the volume of the ball, and the length of its gradient.

    The quotient is the distance from the border in mm, near it; positive inside.
    """
    axes = [(np.arange(n) - c).astype(np.float32) * step for n, c, step in zip(shape, centre, spacing_mm, strict=True)]
    field = np.zeros(shape, np.float32)
    for number in range(int(rng.integers(*BLOBS))):
        away = rng.normal(size=3)
        reach = 0.0 if number == 0 else rng.uniform(0.4, 0.9)
        offset = away / np.linalg.norm(away) * reach * radius_mm
        width = rng.uniform(0.3, 0.5) * radius_mm
        x, y, z = (
            np.exp(-(((axis - shift) / width) ** 2) / 2).astype(np.float32)
            for axis, shift in zip(axes, offset, strict=True)
        )
        field += x[:, None, None] * y[:, None] * z
    voxels = max(1, round(4 / 3 * math.pi * radius_mm**3 / math.prod(spacing_mm)))
    voxels = min(voxels, field.size - 1)
    level = np.partition(field, -voxels - 1, axis=None)[-voxels - 1]
    steps = np.gradient(field, *spacing_mm)
    gradient = np.sqrt(sum(one**2 for one in steps))
    return field - level, np.maximum(gradient, np.float32(1e-6))


def _mottle(shape: tuple[int, ...], spacing_mm: Triple, rng: np.random.Generator) -> FloatArray:
    """Return white noise between two scales, with its own standard deviation, HU."""
    noise = rng.standard_normal(shape, dtype=np.float32)
    fine, coarse = (
        ndimage.gaussian_filter(noise, [scale_mm / step for step in spacing_mm])
        for scale_mm in (2.5, rng.uniform(5, 9))
    )
    band = fine - coarse
    return np.asarray(band * np.float32(rng.uniform(*MOTTLE_HU) / band.std()), np.float32)
