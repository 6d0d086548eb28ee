"""A scan outside of training, cut as in training: preprocessed, base grid laid, random or wanted crops cut.

S random crops, K base crops.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from voco_cli.cache.encoding import quantise
from voco_cli.cache.preprocess import Preprocessed, preprocess
from voco_cli.errors import GeometryError, UsageError
from voco_cli.method.draws import CropDraws, draw_crops
from voco_cli.method.geometry import crop_starts
from voco_cli.pretraining.crops import cut_crops
from voco_cli.scans.scan import Scan
from voco_cli.settings import Settings
from voco_cli.settings.sections import Crops

FIRST_STEP = 0

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class GriddedScan:
    """A scan with its crops.

    Attributes:
        name: that the draws go by.
        volume: preprocessed.
        draws: where the crops lie, and their labels.
        random_SXYZ, bases_KXYZ: the crops in the cache's number format, which is what the network was trained on.
    """

    name: str
    volume: Preprocessed
    draws: CropDraws
    random_SXYZ: Tensor
    bases_KXYZ: Tensor

    @property
    def random_starts(self) -> Ints:
        """Lower corners of the random crops in the volume, voxels: S x 3."""
        starts: Ints = self.draws.starts_N3[: len(self.random_SXYZ)] + self.draws.region_start_3
        return starts

    @property
    def base_starts(self) -> Ints:
        """Lower corners of the base crops in the volume, voxels: K x 3."""
        starts: Ints = self.draws.starts_N3[len(self.random_SXYZ) :] + self.draws.region_start_3
        return starts


def grid_scan(scan: Scan, settings: Settings, centres: Sequence[Sequence[int]] = (), crops: int = 1) -> GriddedScan:
    """Preprocess a scan as the settings say and cut it.

    Where the grid covers only a part of the volume it lies in the middle, or as near to it as wanted crops allow.

    Args:
        centres: of the random crops, (x, y) or (x, y, z), voxels of the preprocessed volume; without z a crop lies
            half way up the grid. None are drawn then.
        crops: how many are drawn, as `voco preview-labels` draws them.
    Raises:
        UsageError: a centre too near to the edge, or centres further apart than the grid reaches.
        DataError, GeometryError: the scan cannot be preprocessed, or is too small for the grid.
    """
    section = settings.crops.model_copy(update={"random_per_volume": crops})
    volume = preprocess(scan, settings.preprocess)
    shape, name = volume.array_xyz.shape, scan.path.name
    room = np.asarray(shape) - np.asarray(section.region_vox)
    if (room < 0).any():
        size, region = (_extent(edges) for edges in (shape, section.region_vox))
        raise GeometryError(
            f"{scan.path} has {size} voxels after preprocessing, and the grid of the run needs {region}.",
            "give a scan that shows as much of the body as those that the run was trained on",
        )
    wanted = _starts(centres, section, shape)
    region_start = _region_start(wanted, section, room)
    inside = [start + np.asarray(section.size) // 2 - region_start for start in wanted]
    fixed = [centre.tolist() for centre in inside] or None
    draws = draw_crops(settings.seed, FIRST_STEP, name, shape, section, fixed, region_start.tolist())
    box = tuple(slice(low, low + edge) for low, edge in zip(region_start, section.region_vox, strict=True))
    stored = quantise(volume.array_xyz[box], settings.cache.dtype)
    random, bases = cut_crops(stored, draws, section)
    return GriddedScan(name, volume, draws, torch.from_numpy(random), torch.from_numpy(bases))


def _starts(centres: Sequence[Sequence[int]], crops: Crops, shape: Sequence[int]) -> list[Ints]:
    """Lower corners of the wanted crops in the volume."""
    middle = (shape[2] - crops.region_vox[2]) // 2 + (crops.region_vox[2] - crops.size[2]) // 2 + crops.size[2] // 2
    starts = []
    for given in centres:
        centre = [*given, middle] if len(given) == 2 else [*given]
        start = crop_starts([centre], crops.size)[0]
        for axis in range(3):
            if not 0 <= start[axis] <= shape[axis] - crops.size[axis]:
                least = crops.size[axis] // 2
                raise UsageError(
                    f"A crop of {crops.size[axis]} voxels along {'xyz'[axis]} around {','.join(map(str, given))} "
                    f"reaches outside the preprocessed volume of {_extent(shape)} voxels.",
                    f"choose {'xyz'[axis]} between {least} and {shape[axis] - crops.size[axis] + least}",
                )
        starts.append(start)
    return starts


def _region_start(wanted: Sequence[Ints], crops: Crops, room: Ints) -> Ints:
    """Lower corner of the region of the grid: as near to the middle of the volume as the wanted crops allow."""
    start: Ints = room // 2
    if not wanted:
        return start
    region, low = np.asarray(crops.region_vox), np.min(wanted, axis=0)
    high = np.max(wanted, axis=0) + np.asarray(crops.size)
    if (high - low > region).any():
        raise UsageError(
            f"The crops lie further apart than the grid of the run, {_extent(crops.region_vox)} voxels, reaches.",
            "ask for them in several calls",
        )
    # A crop inside the volume leaves the grid room there too.
    return np.clip(start, np.maximum(high - region, 0), np.minimum(low, room))


def _extent(size: Sequence[int]) -> str:
    return "x".join(map(str, size))
