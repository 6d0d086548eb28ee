"""Base crops, random crops and position labels: where the crops of a case lie in a step.

S random crops, K base crops, N = S + K crops in the order random, base.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voco_cli.config.schema import Crops
from voco_cli.errors import GeometryError
from voco_cli.objectives.draws import counter_generator

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


@dataclass(frozen=True)
class CropDraws:
    """Where the crops of one case lie in one step.

    Attributes:
        region_start_3: lower corner of the region of the grid in the volume, voxels.
        starts_N3: lower corners of all crops in the region, random crops first, voxels.
        centres_S3: centres of the random crops in the region, voxels.
        labels_SK: position labels.
    """

    region_start_3: IntArray
    starts_N3: IntArray
    centres_S3: IntArray
    labels_SK: FloatArray


def draw_crops(
    seed: int,
    step: int,
    case: str,
    volume_xyz: Sequence[int],
    crops: Crops,
    centres_S3: Sequence[Sequence[int]] | None = None,
    region_start_3: Sequence[int] | None = None,
) -> CropDraws:
    """Draw the region and the random crops of a case, uniformly over all places where they fit.

    Both ends are included; the released code never draws the last admissible centre.

    Args:
        volume_xyz: size of the preprocessed volume, voxels.
        centres_S3: fixed centres in the region instead of drawn ones.
        region_start_3: a fixed region instead of a drawn one; the crops in it are drawn as before.
    Raises:
        GeometryError: the volume is smaller than the region of the grid, or a given crop reaches outside.
    """
    region, size = np.asarray(crops.region_vox), np.asarray(crops.size)
    room = np.asarray(volume_xyz) - region
    if (room < 0).any():
        raise GeometryError(
            f"{case} has {_extent(volume_xyz)} voxels after preprocessing, less than the {_extent(region)} "
            f"of crops.grid {_extent(crops.grid)} and base crops of {_extent(crops.base_size_vox)}.",
            "choose a smaller crops.size or crops.grid, or pad with preprocess.min_size_vox",
        )
    generator = counter_generator(seed, step, case, "crops")
    region_start = generator.integers(0, room, endpoint=True)
    starts = generator.integers(0, region - size, size=(crops.random_per_volume, 3), endpoint=True)
    if region_start_3 is not None:
        region_start = np.asarray(region_start_3, dtype=np.int64)
    if centres_S3 is not None:
        starts = crop_starts(centres_S3, crops.size)
    low, high = label_boxes(starts, crops.size, crops.odd_box)
    labels = position_labels(low, high, crops.size, crops.grid_xyz, crops.base_size_vox)
    bases = base_starts(crops.grid_xyz, crops.base_size_vox)
    return CropDraws(region_start, np.concatenate([starts, bases]), starts + size // 2, labels)


def _extent(size: Sequence[int] | IntArray) -> str:
    return "x".join(str(int(edge)) for edge in size)
