"""A fine-tuned network, taken from its run folder to be applied, and scans prepared for it as for training."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from voco_cli.config import Settings, read_saved
from voco_cli.data.cache.grid import GridMap
from voco_cli.data.cache.preprocess import preprocess
from voco_cli.data.cache.volume import quantise
from voco_cli.data.index.datalist import Entry, read_entry
from voco_cli.data.io.geometry import Placement, grid_shift_mm, storage_order
from voco_cli.data.io.image import Scan
from voco_cli.errors import DataError, GeometryError, UsageError
from voco_cli.models.build import build_task_network
from voco_cli.models.class_union import ClassUnion, build_class_union
from voco_cli.models.weights import own_tensors, set_patch_merging
from voco_cli.tasks.targets import as_task, is_class_union, tells_classes
from voco_cli.training.distributed import device_alone
from voco_cli.training.run_dir import RunFolder

CHANGEABLE = ("predict.", "run.device", "run.precision", "run.threads", "run.keep_memory")
"""Settings that belong to the prediction and not to the network."""

MOST_APART_VOX = 0.5
"""Grids of channels may lie this far apart; more and a structure would be elsewhere in another channel."""


@dataclass(frozen=True)
class Origin:
    """What `load_trained` was given, so that another process can do the same.

    Attributes:
        run: absolute path.
        predict: settings of the prediction by name.
    """

    run: Path
    device: str | None
    overrides: tuple[str, ...]
    predict: tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Trained:
    """A network and all that is needed to apply it.

    Attributes:
        run: the folder that it came from.
        settings: those of the run, but for what was asked of the prediction.
        network: in evaluation mode, on the device.
        about: what the file of weights says of itself.
        digest: hash of that file, 32 hexadecimal digits.
        device: where it computes.
        autocast: context of its number format.
        origin: what it was loaded from; none where it was put together otherwise.
    """

    run: Path
    settings: Settings
    network: nn.Module
    about: Mapping[str, Any]
    digest: str
    device: torch.device
    autocast: Callable[[], AbstractContextManager[Any]]
    origin: Origin | None = None

    def __call__(self, windows_NCXYZ: Tensor) -> Tensor:
        """Return logits in float32, in the number format of the run on the way there."""
        with torch.no_grad(), self.autocast():
            logits: Tensor = self.network(windows_NCXYZ)
        return logits.float()


def load_trained(run: Path, device: str | None = None, overrides: Sequence[str] = (), **predict: Any) -> Trained:
    """Open a run folder of `voco finetune`, or of a `voco pretrain` whose network tells classes.

    Args:
        device: auto, cpu, cuda, cuda:N or mps; none is the run's.
        overrides: ``key=value`` of `CHANGEABLE` settings, as given to ``--set``.
        predict: values of the section ``predict``; none is the run's.
    Raises:
        UsageError: no fine-tuning run, another's setting, or a device that is not here.
        DataError: a run that has no weights yet, or damaged ones.
    """
    settings = _settings(run, overrides, {"run.device": device, **{f"predict.{key}": predict[key] for key in predict}})
    place, autocast = device_alone(settings.run)
    content, about = _read(RunFolder(run).weights)
    network = _network(settings)
    set_patch_merging(network, about.get("model", {}).get("patch_merging", settings.model.patch_merging))
    _fill(network.segmenter if isinstance(network, ClassUnion) else network, content, run)
    digest = hashlib.blake2b(content, digest_size=16).hexdigest()
    origin = Origin(run.absolute(), device, tuple(overrides), tuple(sorted(predict.items())))
    return Trained(run, settings, network.to(place).eval(), about, digest, place, autocast, origin)


def _network(settings: Settings) -> nn.Module:
    """Build the network of a task, or that of a pre-training which tells classes."""
    if not is_class_union(settings):
        return build_task_network(settings)
    options = settings.objective.supervised
    return build_class_union(settings.model, len(options.classes), options.inside, options.deep_supervision)


def _settings(run: Path, overrides: Sequence[str], flags: Mapping[str, Any]) -> Settings:
    file = RunFolder(run).settings_file
    if not file.is_file():
        raise UsageError(f"{run} is not a run folder: it has no {file.name}.", "give what voco finetune wrote with -o")
    foreign = [one for one in overrides if not one.strip().startswith(CHANGEABLE)]
    if foreign:
        raise UsageError(
            f"--set {foreign[0]} would change the network or what it sees.",
            f"settings of a prediction are {', '.join(f'{one}*' if one.endswith('.') else one for one in CHANGEABLE)}",
        )
    settings = read_saved(file, overrides, flags)
    if tells_classes(settings):
        return as_task(settings)
    if settings.task.preset is None:
        raise UsageError(
            f"{run} is a pre-training run, whose network tells no structures apart.",
            f"fine-tune it first: voco finetune --task TASK --weights {shlex.quote(str(run))}",
        )
    return settings


def _read(folder: Path) -> tuple[bytes, Mapping[str, Any]]:
    file, described = folder / "model.safetensors", folder / "model.json"
    if not file.is_file() or not described.is_file():
        raise DataError(f"{folder.parent} has no trained network yet.", "run voco finetune on it again, to the end")
    try:
        about: Any = json.loads(described.read_bytes())
    except ValueError as error:
        raise DataError(f"{described} is damaged: {error}.", "run voco finetune on the folder again") from error
    return file.read_bytes(), about if isinstance(about, dict) else {}


def _fill(network: nn.Module, content: bytes, run: Path) -> None:
    file = RunFolder(run).weights / "model.safetensors"
    try:
        tensors = load(content)
    except SafetensorError as error:
        raise DataError(f"{file} is damaged: {error}.", "copy it again, or run voco finetune on the folder") from error
    own = own_tensors(network)
    wrong = sorted(own.keys() ^ tensors.keys()) or [name for name in own if own[name].shape != tensors[name].shape]
    if wrong:
        raise DataError(f"{file} is of another network than settings.yaml beside it says: {wrong[0]} does not fit.")
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(tensors[name])


@dataclass(frozen=True)
class Prepared:
    """A case, preprocessed as for training.

    Attributes:
        channels_CXYZ: stored numbers, C-contiguous.
        record: how they lie in the grid of the scan.
        scan: the first channel's place; its voxels are gone, which a large scan has better use for.
    """

    channels_CXYZ: NDArray[Any]
    record: GridMap
    scan: Scan


def prepare(entry: Entry, settings: Settings) -> Prepared:
    """Read and preprocess all channels of a case, one after another.

    Raises:
        DataError: a channel that cannot be read or is empty, or another number of them than the network has inputs.
        GeometryError: channels on different grids.
    """
    names = settings.task.channels
    channels = entry.channel_entries()
    if len(channels) != len(names):
        raise DataError(channel_fault(entry.name, [one.image.name for one in channels], names))
    volumes: list[NDArray[Any]] = []
    placed: list[tuple[Scan, GridMap]] = []
    for channel in channels:
        scan = read_entry(channel)
        made = preprocess(scan, settings.preprocess)
        volumes.append(quantise(made.array_xyz, settings.cache.dtype))
        without_voxels = np.broadcast_to(np.zeros((), dtype=scan.array_zyx.dtype), scan.array_zyx.shape)
        placed.append((replace(scan, array_zyx=without_voxels), made.record))
        _require_same_grid(placed[0], placed[-1])
    stored = volumes[0][None] if len(volumes) == 1 else np.stack(volumes)
    return Prepared(stored, placed[0][1], placed[0][0])


def channel_fault(case: str, found: list[str], needed: tuple[str, ...]) -> str:
    """Return one sentence on a wrong number of channels."""
    has = f"{len(found)} channel{'s' if len(found) != 1 else ''} ({', '.join(found)})"
    return f"{case} has {has}, and the network needs {len(needed)}: {', '.join(needed)}."


def _require_same_grid(first: tuple[Scan, GridMap], other: tuple[Scan, GridMap]) -> None:
    (scan, record), (channel, its_record) = first, other
    order = storage_order(_placement(channel), channel.shape_xyz, _placement(scan), scan.shape_xyz)
    if order is not None and record.shape_xyz == its_record.shape_xyz:
        return
    if (record.source_shape_xyz, record.shape_xyz) == (its_record.source_shape_xyz, its_record.shape_xyz):
        apart_mm = grid_shift_mm(_placement(channel), _placement(scan), scan.shape_xyz)
        if apart_mm <= MOST_APART_VOX * min(scan.spacing_xyz_mm):
            return
    raise GeometryError(
        f"{channel.path} lies on another grid than {scan.path}, the first channel.",
        "resample the channels to one grid first",
    )


def _placement(scan: Scan) -> Placement:
    return Placement(scan.spacing_xyz_mm, scan.origin_xyz_mm, scan.direction)
