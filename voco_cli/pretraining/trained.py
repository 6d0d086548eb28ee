"""A pre-trained network, taken from its run folder to be asked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from voco_cli.engine.checkpoints import best_of, list_checkpoints, load_model
from voco_cli.engine.device import device_alone, in_half
from voco_cli.engine.job import Place
from voco_cli.engine.run_folder import RunFolder
from voco_cli.errors import DataError, UsageError
from voco_cli.method.objective import VolumeContrast
from voco_cli.networks.activation_memory import plan_grouping
from voco_cli.networks.encoders import build_encoder
from voco_cli.networks.weights import load_into, read_weights
from voco_cli.pretraining.job import build_model
from voco_cli.settings import Settings, read_saved

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
    place: Place


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
    place: Place
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


def _place(settings: Settings) -> Place:
    device, autocast = device_alone(settings.run)
    return Place(device, 0, 1, autocast)
