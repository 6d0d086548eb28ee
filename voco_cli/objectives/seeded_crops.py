"""Crops anywhere in a volume, each with a seed that everything follows from which an objective does to it.

S crops of a case, N of a step; B boxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from voco_cli.objectives.draws import counter_generator, draw_starts
from voco_cli.objectives.objective import Case, Sampler

Box = tuple[slice, slice, slice]


class SeededCrops(NamedTuple):
    """Random crops of one case, as stored."""

    crops_SXYZ: NDArray[np.generic]
    seeds_S: NDArray[np.int64]


class SeededBatch(NamedTuple):
    """Crops of a step, volume by volume, so many of each; the seeds stay on the CPU."""

    crops_NXYZ: Tensor
    seeds_N: Tensor
    per_volume: int


@dataclass(frozen=True)
class SeededCropSampler(Sampler):
    """Crops anywhere in a volume.

    Attributes:
        purpose: keeps the draws of different objectives apart.
        seed: of every draw.
        size_vox: of a crop.
        per_volume: crops of a case.
    """

    purpose: str
    seed: int
    size_vox: tuple[int, int, int]
    per_volume: int

    def draw(self, case: Case, step: int) -> SeededCrops:
        """Return the crops of a case; no more is read than they hold."""
        generator = counter_generator(self.seed, step, case.name, self.purpose)
        starts = draw_starts(generator, case.volume.shape_xyz, self.size_vox, self.per_volume)
        crops = [case.volume.read((x, y, z), self.size_vox) for x, y, z in starts.tolist()]
        return SeededCrops(np.stack(crops), generator.integers(0, 2**62, self.per_volume))

    def collate(self, samples: Sequence[SeededCrops]) -> SeededBatch:
        """Put the crops of all cases together."""
        crops = np.concatenate([one.crops_SXYZ for one in samples])
        seeds = np.concatenate([one.seeds_S for one in samples])
        return SeededBatch(torch.from_numpy(crops), torch.from_numpy(seeds), self.per_volume)


def draw_boxes(
    generator: np.random.Generator,
    shape_xyz: Sequence[int],
    least_vox: NDArray[np.int64] | int,
    most_vox: NDArray[np.int64],
    count: int,
) -> NDArray[np.int64]:
    """Draw boxes_B23, lower corner and size of boxes inside a crop, voxels.

    Args:
        least_vox, most_vox: edge along each axis, both ends included.
    """
    sizes = generator.integers(least_vox, most_vox, size=(count, 3), endpoint=True)
    starts = generator.integers(0, np.asarray(shape_xyz) - sizes, endpoint=True)
    return np.stack([starts, sizes], axis=1)


def as_slices(boxes_B23: NDArray[np.int64]) -> list[Box]:
    """Return what each box cuts out of a crop."""
    lows, highs = boxes_B23[:, 0].tolist(), boxes_B23.sum(1).tolist()
    return [(slice(a, d), slice(b, e), slice(c, f)) for (a, b, c), (d, e, f) in zip(lows, highs, strict=True)]
