"""Masks whose answers are known, and a slow plain version of the surface distances."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Mask = NDArray[np.bool_]


def box(shape: tuple[int, int, int], start: tuple[int, int, int], size: tuple[int, int, int]) -> Mask:
    """A filled box."""
    mask = np.zeros(shape, bool)
    mask[tuple(slice(first, first + n) for first, n in zip(start, size, strict=True))] = True
    return mask


def blobs(rng: np.random.Generator, shape: tuple[int, ...], roughness: float) -> Mask:
    """A random shape of several parts that touches the border."""
    return np.asarray(ndimage.gaussian_filter(rng.normal(size=shape), roughness) > 0)


def surface_corners(mask_zyx: Mask) -> list[tuple[int, int, int]]:
    """Corners of the voxel grid whose eight voxels are not all alike, by looking at each; corner 0 is below voxel 0."""
    padded = np.pad(mask_zyx, 1)
    return [
        corner
        for corner in itertools.product(*[range(n + 1) for n in mask_zyx.shape])
        if 0 < padded[tuple(slice(at, at + 2) for at in corner)].sum() < 8
    ]


def nearest_mm(first: Any, second: Any, spacing_zyx_mm: tuple[float, float, float]) -> NDArray[np.float64]:
    """Distance from each corner of the first list to the nearest of the second, by trying all."""
    a, b = (np.array(corners) * np.array(spacing_zyx_mm) for corners in (first, second))
    return np.asarray(np.sqrt(((a[:, None] - b[None]) ** 2).sum(axis=2)).min(axis=1))
