"""Where crops lie: base crops, boxes of random crops, and the position labels that follow from them.

S random crops, K base crops; coordinates are voxels of the region that the base crops tile, order x, y, z.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voco_cli.errors import GeometryError

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


def base_starts(grid_xyz: Sequence[int], base_size_vox: Sequence[int]) -> IntArray:
    """Lower corners of the base crops, x slowest: ``k = (ix * gy + iy) * gz + iz``.

    Returns:
        starts_K3, voxels.
    """
    cells = np.stack(np.meshgrid(*(np.arange(n) for n in grid_xyz), indexing="ij"), axis=-1)
    starts: IntArray = cells.reshape(-1, 3) * np.asarray(base_size_vox, dtype=np.int64)
    return starts


def crop_starts(centres_S3: ArrayLike, size_vox: Sequence[int]) -> IntArray:
    """Lower corners of crops around integer centres; the crop is ``[start, start + size)``."""
    return np.asarray(centres_S3, dtype=np.int64) - np.asarray(size_vox, dtype=np.int64) // 2


def label_boxes(
    starts_S3: ArrayLike, size_vox: Sequence[int], odd_box: Literal["whole", "floored"] = "whole"
) -> tuple[IntArray, IntArray]:
    """Boxes whose overlap makes the labels: lower corners (included) and upper corners (excluded).

    ``floored`` halves an odd size in the plane downwards on both sides of the centre, as the released code does.
    """
    low = np.asarray(starts_S3, dtype=np.int64)
    size = np.asarray(size_vox, dtype=np.int64)
    if odd_box == "floored":
        size = np.array([size[0] // 2 * 2, size[1] // 2 * 2, size[2]])
    return low, low + size


def position_labels(
    low_S3: ArrayLike,
    high_S3: ArrayLike,
    size_vox: Sequence[int],
    grid_xyz: Sequence[int],
    base_size_vox: Sequence[int],
) -> FloatArray:
    """Share of each random crop that lies in each base crop.

    Args:
        low_S3, high_S3: boxes of the crops, voxels; any leading dimensions.
        size_vox: size of a random crop; the overlap is divided by its volume.
        grid_xyz: base crops along each axis.
        base_size_vox: size of a base crop.
    Returns:
        labels_SK in [0, 1]; a row sums to 1 where the box is the whole crop.
    Raises:
        GeometryError: a box reaches outside the region of the grid.
    Source: VoCo, arXiv 2402.17300, Sec. 3; the share of the area there is the share of the volume here, which is
        the same for a grid in the plane whose crops span the whole depth.
    """
    low, high = np.asarray(low_S3, dtype=np.float64), np.asarray(high_S3, dtype=np.float64)
    grid, base = np.asarray(grid_xyz), np.asarray(base_size_vox)
    if (low < 0).any() or (high > grid * base).any():
        region = "x".join(str(edge) for edge in grid * base)
        raise GeometryError(f"A random crop reaches outside the {region} voxels of the base grid.")
    shares = []
    for axis in range(3):
        cell_low = np.arange(grid[axis]) * base[axis]
        overlap = np.minimum(high[..., axis, None], cell_low + base[axis]) - np.maximum(low[..., axis, None], cell_low)
        shares.append(overlap.clip(min=0.0) / size_vox[axis])
    cells: FloatArray = np.einsum("...i,...j,...k->...ijk", *shares)
    return cells.reshape(*cells.shape[:-3], -1)
