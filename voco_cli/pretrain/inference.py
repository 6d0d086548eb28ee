"""A pre-trained network, taken from its run folder to be asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from voco_cli.config import Settings, read_saved
from voco_cli.config.schema import Crops
from voco_cli.data.cache.preprocess import Preprocessed, preprocess
from voco_cli.data.cache.volume import quantise
from voco_cli.data.io.image import Scan
from voco_cli.errors import DataError, GeometryError, UsageError
from voco_cli.models.build import build_encoder
from voco_cli.models.memory import plan_grouping
from voco_cli.models.weights import load_into, read_weights
from voco_cli.objectives.voco.crops import CropDraws, crop_starts, draw_crops
from voco_cli.objectives.voco.model import VolumeContrast
from voco_cli.objectives.voco.sampling import cut_crops
from voco_cli.pretrain.task import build_model
from voco_cli.training.checkpoint import best_of, list_checkpoints, load_model
from voco_cli.training.distributed import device_alone, in_half
from voco_cli.training.run_dir import RunFolder
from voco_cli.training.task import DeviceContext

Which = Literal["last", "best"]


@dataclass(frozen=True)
class Pretrained:
    """All of a pre-trained network: encoder, projector and their teacher.

    Attributes:
        run: the folder that it came from.
        settings: those of the run.
        model: in evaluation mode, on the device.
        step: optimizer steps that it was trained for.
        place: where it computes.
    """

    run: Path
    settings: Settings
    model: VolumeContrast
    step: int
    place: DeviceContext


@dataclass(frozen=True)
class PretrainedEncoder:
    """The encoder of a run alone, from the weights that users take away.

    Attributes:
        run, settings, step, place: as of :class:`Pretrained`.
        encoder: in evaluation mode, on the device.
        group_size: crops that go through it at a time.
        out_features: of a crop.
    """

    run: Path
    settings: Settings
    encoder: nn.Module
    step: int | None
    place: DeviceContext
    group_size: int
    out_features: int

    def __call__(self, crops_N1XYZ: Tensor) -> Tensor:
        """Features_NE of crops as the network gets them."""
        return torch.cat([self.encoder(group) for group in crops_N1XYZ.split(self.group_size)])


def open_pretrained(run: Path, device: str | None = None, which: Which = "last") -> Pretrained:
    """Open a run folder of `voco pretrain` at one of its checkpoints.

    Args:
        device: auto, cpu, cuda, cuda:N or mps; none is the run's.
        which: the last checkpoint, whose encoder is that of ``weights/``, or the one with the lowest rank.
    Raises:
        UsageError: no pre-training run, or a device that is not here.
        DataError: a run without a checkpoint, or a damaged one.
    """
    settings = _settings(run, device)
    checkpoints = list_checkpoints(RunFolder(run).checkpoints)
    if not checkpoints:
        raise DataError(
            f"{run} has no checkpoint, and the projector is nowhere else.",
            f"run voco pretrain on it again; the encoder alone is enough for: voco embed {run} SCAN -o FILE",
        )
    chosen = (best_of(checkpoints) if which == "best" else None) or checkpoints[-1]
    place = _place(settings)
    model = build_model(settings, place.device)
    if not isinstance(model, VolumeContrast):
        raise UsageError(
            f"{run} was not trained by volume contrast alone, and nothing else locates crops.",
            f"the encoder of any run embeds scans: voco embed {run} SCAN -o FILE",
        )
    load_model(chosen, model)
    return Pretrained(run, settings, model.to(place.device).eval(), chosen.step, place)


def open_encoder(run: Path, device: str | None = None) -> PretrainedEncoder:
    """Open the encoder of a run folder of `voco pretrain`; its checkpoints need not be there.

    Args:
        device: as for :func:`open_pretrained`.
    Raises:
        UsageError: no pre-training run, or a device that is not here.
        DataError: a run that has no weights yet, or damaged ones.
    """
    settings = _settings(run, device)
    file = RunFolder(run).weights / "encoder.safetensors"
    if not file.is_file():
        raise DataError(f"{run} has no weights yet.", "run voco pretrain on it again, to the first checkpoint")
    weights = read_weights(file)
    place = _place(settings)
    encoder = build_encoder(settings.model)
    load_into(encoder, weights, min_loaded=1.0)
    crops = settings.crops
    half = in_half(settings.run, place.device)
    num_bases = crops.grid_xyz[0] * crops.grid_xyz[1] * crops.grid_xyz[2]
    group_size = plan_grouping(settings.model, num_bases, crops.network_size_vox, place.device, half=half).size
    width = encoder.out_features
    assert isinstance(width, int)
    encoder.to(place.device).eval()
    return PretrainedEncoder(run, settings, encoder, weights.step, place, group_size, width)


def _settings(run: Path, device: str | None) -> Settings:
    file = RunFolder(run).settings_file
    if not run.exists():
        raise DataError(f"{run} does not exist.", "give the run folder that voco pretrain wrote with -o")
    if not file.is_file():
        raise UsageError(f"{run} is not a run folder: it has no {file.name}.", "give what voco pretrain wrote with -o")
    settings = read_saved(file, (), {"run.device": device})
    if settings.task.preset is not None:
        origin = settings.model.weights
        hint = f"it started from {origin}" if origin else "it started from fresh weights, which locate nothing"
        raise UsageError(f"{run} is a fine-tuning run, and a pre-training run is needed.", hint)
    return settings


def _place(settings: Settings) -> DeviceContext:
    device, autocast = device_alone(settings.run)
    return DeviceContext(device, 0, 1, autocast)


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
