"""From cached volumes to batches of random and base crops: what the loader processes do.

B volumes, S random crops and K base crops of each, N = S + K; E features of the embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from voco_cli.config import Settings
from voco_cli.config.schema import Crops
from voco_cli.data.cache.volume import StoredVolume
from voco_cli.objectives.draws import AugmentDraws, counter_generator, draw_augmentation
from voco_cli.objectives.objective import Case, Sampler
from voco_cli.objectives.voco.crops import CropDraws, draw_crops

Stored = NDArray[np.generic]


class CaseCrops(NamedTuple):
    """All crops of one case in one step, as stored, with what will happen to them."""

    random_SXYZ: Stored
    bases_KXYZ: Stored
    draws: CropDraws
    augment: AugmentDraws
    keep_NE: NDArray[np.bool_]


class CropBatch(NamedTuple):
    """Crops of a step. Rows are volume by volume, random and base crops apart; draws are in the order random, base."""

    random_RXYZ: Tensor
    bases_RXYZ: Tensor
    labels_BSK: Tensor
    flips_N3: Tensor
    turns_N: Tensor
    shifts_N: Tensor
    keep_NE: Tensor


def read_crops(volume: StoredVolume, draws: CropDraws, settings: Settings) -> tuple[Stored, Stored]:
    """Cut the drawn crops out of a cached volume; every block is decoded once.

    Returns:
        random_SXYZ and bases_KXYZ, in the stored number format.
    Raises:
        DataError: the cached volume is damaged.
    """
    crops, corner = settings.crops, _three(draws.region_start_3)
    if not volume.is_whole_blocks(corner, crops.base_size_vox):
        return cut_crops(volume.read(corner, crops.region_vox), draws, crops)
    # The base crops are decoded into their places, and the random ones lie in them: no copy of the region is needed.
    random_S3, bases_K3 = np.split(draws.starts_N3, [len(draws.labels_SK)])
    bases_KXYZ = np.empty((len(bases_K3), *crops.base_size_vox), volume.dtype)
    for base_XYZ, start in zip(bases_KXYZ, bases_K3 + draws.region_start_3, strict=True):
        volume.read(_three(start), crops.base_size_vox, base_XYZ)
    return np.stack([_from_bases(bases_KXYZ, bases_K3, start, crops.size) for start in random_S3]), bases_KXYZ


def cut_crops(region_XYZ: Stored, draws: CropDraws, crops: Crops) -> tuple[Stored, Stored]:
    """Cut the drawn crops out of the region of the grid.

    Returns:
        random_SXYZ and bases_KXYZ, of their own memory.
    """
    num_random = len(draws.labels_SK)

    def cut(starts: NDArray[np.int64], size: Sequence[int]) -> Stored:
        return np.stack([region_XYZ[x : x + size[0], y : y + size[1], z : z + size[2]] for x, y, z in starts])

    return cut(draws.starts_N3[:num_random], crops.size), cut(draws.starts_N3[num_random:], crops.base_size_vox)


def _from_bases(
    bases_KXYZ: Stored, bases_K3: NDArray[np.int64], start_3: NDArray[np.int64], size: Sequence[int]
) -> Stored:
    """A crop at ``start_3``, put together from the base crops that it touches."""
    crop_XYZ = np.empty(size, bases_KXYZ.dtype)
    for base_XYZ, base_3 in zip(bases_KXYZ, bases_K3, strict=True):
        low, high = np.maximum(start_3, base_3), np.minimum(start_3 + size, base_3 + base_XYZ.shape)
        if (low < high).all():
            crop_XYZ[_box(low - start_3, high - start_3)] = base_XYZ[_box(low - base_3, high - base_3)]
    return crop_XYZ


def _box(low_3: NDArray[np.int64], high_3: NDArray[np.int64]) -> tuple[slice, ...]:
    return tuple(map(slice, low_3.tolist(), high_3.tolist()))


def _three(values: NDArray[np.int64]) -> tuple[int, int, int]:
    x, y, z = values.tolist()
    return (x, y, z)


@dataclass(frozen=True)
class CropSampler(Sampler):
    """Random and base crops of a case in a step, and all that will happen to them.

    Attributes:
        settings: seed, crops, augmentation, dropout.
        mask_width: columns of the dropout mask: 1 drops whole crops, else one a feature of the embedding.
    """

    settings: Settings
    mask_width: int

    def draw(self, case: Case, step: int) -> CaseCrops:
        """Return the crops of a case; each block of the cache is decoded once."""
        settings = self.settings
        draws = draw_crops(settings.seed, step, case.name, case.volume.shape_xyz, settings.crops)
        random, bases = read_crops(case.volume, draws, settings)
        num_crops = len(draws.starts_N3)
        augment = draw_augmentation(settings.seed, step, case.name, num_crops, settings.augment)
        generator = counter_generator(settings.seed, step, case.name, "dropout")
        keep = generator.random((num_crops, self.mask_width)) >= settings.objective.voco.dropout
        return CaseCrops(random, bases, draws, augment, keep)

    def collate(self, samples: Sequence[CaseCrops]) -> CropBatch:
        """Put cases together, rows in the order of the model."""
        num_random = len(samples[0].random_SXYZ)

        def rows(parts: Sequence[NDArray[np.generic]]) -> Tensor:
            random, bases = [part[:num_random] for part in parts], [part[num_random:] for part in parts]
            return torch.from_numpy(np.concatenate([*random, *bases]))

        return CropBatch(
            random_RXYZ=_joined([case.random_SXYZ for case in samples]),
            bases_RXYZ=_joined([case.bases_KXYZ for case in samples]),
            labels_BSK=torch.from_numpy(np.stack([case.draws.labels_SK for case in samples])).float(),
            flips_N3=rows([case.augment.flips_N3 for case in samples]),
            turns_N=rows([case.augment.turns_N for case in samples]),
            shifts_N=rows([case.augment.shifts_N for case in samples]),
            keep_NE=rows([case.keep_NE for case in samples]),
        )


def _joined(crops: Sequence[Stored]) -> Tensor:
    """Crops of all cases; those of a single one are not copied."""
    return torch.from_numpy(crops[0] if len(crops) == 1 else np.concatenate(crops))
