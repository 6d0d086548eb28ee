"""What training will take by its settings alone: parameters and activations counted, nothing run.

It decides whether a trial is safe, and which other settings might fit; a trial says how much it really is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn

from voco_cli.config import Settings
from voco_cli.finetune.classification import build_network as build_classification
from voco_cli.finetune.labelled_task import parameter_groups
from voco_cli.finetune.segmentation import build_network as build_segmentation
from voco_cli.finetune.segmentation import needs_recomputing
from voco_cli.models.memory import kept_bytes, plan_grouping
from voco_cli.models.weights import own_tensors
from voco_cli.models.weights.architecture import shapes_only
from voco_cli.pretrain.task import build_model
from voco_cli.resources.tried import FLOAT_BYTES, PROCESS_BYTES, Footprint, Parameters
from voco_cli.training.distributed import in_half

CPU = torch.device("cpu")
CUDA_HOST_BYTES = int(2.5e9)
"""The same with a CUDA context."""
LOADER_BYTES = int(0.15e9)
"""What a loader process has of its own, besides its batches."""
DECODER = 2
"""A decoder keeps about as much as its encoder."""
TRANSFORMER_RECOMPUTED = 0.6
"""Share of a SwinUNETR's activations that stay where only its transformer computes them again."""
VOXEL_COPIES = 3
"""Float copies of the crops or patches of a step, besides the activations: moved, augmented, joined."""


def count_parameters(settings: Settings) -> Parameters:
    """Count the numbers of the model that the settings ask for, without making it."""
    with shapes_only():
        model = _build(settings)
    exported = model if settings.task.preset is not None else model.encoder
    assert isinstance(exported, nn.Module)
    if settings.task.preset is not None:
        trained = sum(p.numel() for group in parameter_groups(model, settings) for p in group.parameters)
    else:
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return Parameters(_numbers(model), trained, _numbers(exported))


def training_footprint(settings: Settings, device: torch.device, loader_processes: int) -> Footprint:
    """Estimate what a training takes.

    Args:
        device: where it will run; free memory there decides whether activations are recomputed.
        loader_processes: of this run.
    """
    parameters = count_parameters(settings)
    voxels = step_voxels(settings)
    working = parameters.training_bytes(settings.train.amsgrad)
    working += activation_bytes(settings, device, working)
    working += VOXEL_COPIES * FLOAT_BYTES * voxels
    batch_bytes = voxels  # as stored, a byte a voxel at least
    loading = loader_processes * (LOADER_BYTES + batch_bytes * settings.data.prefetch)
    if device.type == "cuda":
        return Footprint(CUDA_HOST_BYTES + loading + batch_bytes, working, parameters)
    return Footprint(PROCESS_BYTES + loading + batch_bytes + working, 0, parameters)


def activation_bytes(settings: Settings, device: torch.device, network_bytes: int = 0) -> int:
    """Activations that a step keeps at one time."""
    task, model, train = settings.task, settings.model, settings.train
    half = in_half(settings.run, device)
    of_voxel = kept_bytes(model, device, half=half)
    if task.preset is not None and task.kind == "segmentation":
        patches = train.batch_size * task.patches_per_volume
        kept = DECODER * of_voxel * math.prod(task.patch_size)
        if not needs_recomputing(settings, device):
            return int(kept * patches)
        return int(kept * (1 if device.type == "cpu" else patches * TRANSFORMER_RECOMPUTED))
    rows, size = _rows(settings)
    grouping = plan_grouping(model, rows, size, device, half=half, network_bytes=network_bytes)
    return int(of_voxel * math.prod(size) * (grouping.size if grouping.recompute else rows))


def step_voxels(settings: Settings) -> int:
    """Voxels that go through the network in a batch, all channels."""
    task = settings.task
    if task.preset is not None and task.kind == "segmentation":
        patches = settings.train.batch_size * task.patches_per_volume
        return patches * math.prod(task.patch_size) * (1 + len(task.channels))
    rows, size = _rows(settings)
    return rows * math.prod(size) * (len(task.channels) if task.preset is not None else 1)


def _rows(settings: Settings) -> tuple[int, tuple[int, int, int]]:
    """Crops of a step and their size; of a classification, its volumes."""
    batch = settings.train.batch_size
    if settings.task.preset is not None:
        size = settings.preprocess.resize_vox
        assert size is not None  # the settings see to it
        return batch, size
    crops = settings.crops
    return batch * (crops.random_per_volume + math.prod(crops.grid_xyz)), crops.network_size_vox


def _build(settings: Settings) -> nn.Module:
    if settings.task.preset is None:
        return build_model(settings, CPU)
    if settings.task.kind == "classification":
        return build_classification(settings, CPU)
    return build_segmentation(settings, recompute=False)


def _numbers(network: nn.Module) -> int:
    return sum(tensor.numel() for tensor in own_tensors(network).values())


Known = Literal["measured", "estimated"]
Kind = Literal["disk", "memory", "shared memory", "GPU memory"]


@dataclass(frozen=True)
class Amount:
    """Bytes or seconds.

    Attributes:
        value: the likeliest.
        known: measured here (scaled to the whole where only a part was measured), or worked out from sizes.
        low, high: where it will lie, as far as the measurements spread; equal to the value where they do not say.
    """

    value: float
    known: Known
    low: float
    high: float

    @classmethod
    def of(cls, value: float, known: Known, spread: float = 0.0) -> Amount:
        """An amount with a spread to either side, in the same unit."""
        return cls(value, known, max(0.0, value - spread), value + spread)

    def times(self, factor: float) -> Amount:
        """So many of it."""
        return Amount(self.value * factor, self.known, self.low * factor, self.high * factor)

    def to_json(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        return {"value": self.value, "known": self.known, "low": self.low, "high": self.high}


@dataclass(frozen=True)
class Part:
    """One of the things that an amount consists of."""

    name: str
    amount: Amount

    def to_json(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        return {"name": self.name, **self.amount.to_json()}


@dataclass(frozen=True)
class Need:
    """What is needed of one thing, and what is free of it.

    Attributes:
        kind: of the thing.
        where: a folder of the file system, the machine, or the device.
        parts: what adds up.
        free_bytes: of it.
        at_least: more would have been taken, had a trial not ended for want of it.
    """

    kind: Kind
    where: str
    parts: tuple[Part, ...]
    free_bytes: int
    at_least: bool = False

    @property
    def needed_bytes(self) -> float:
        """The sum of the parts."""
        return sum(part.amount.value for part in self.parts)

    @property
    def high_bytes(self) -> float:
        """The sum of what the parts may come to."""
        return sum(part.amount.high for part in self.parts)

    @property
    def known(self) -> Known:
        """How the larger part of it is known."""
        return max(self.parts, key=lambda part: part.amount.value).amount.known if self.parts else "measured"

    @property
    def fits(self) -> bool:
        """Whether there is room for the most that it may come to."""
        return not self.at_least and self.high_bytes <= self.free_bytes

    def to_json(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        return {
            "kind": self.kind,
            "where": self.where,
            "needed_bytes": round(self.needed_bytes),
            "high_bytes": round(self.high_bytes),
            "free_bytes": self.free_bytes,
            "known": self.known,
            "at_least": self.at_least,
            "fits": self.fits,
            "parts": [part.to_json() for part in self.parts],
        }


@dataclass(frozen=True)
class Plan:
    """What something will need here.

    Attributes:
        subject: what was planned, in a few words.
        needs: of disk and memory.
        times: parts of the time, in seconds; empty where no step was tried.
        notes: what a reader should know of it, one sentence each.
        advice: what to change where it does not fit, the most useful first.
        obstacles: what a trial ended with, that the run would end with, too: one sentence each.
        figures: everything that was measured, for ``--json``.
    """

    subject: str
    needs: tuple[Need, ...]
    times: tuple[Part, ...]
    notes: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()
    obstacles: tuple[str, ...] = ()
    figures: Mapping[str, Any] = field(default_factory=dict)

    @property
    def fits(self) -> bool:
        """Whether there is room for everything, and nothing else is in the way."""
        return not self.obstacles and all(need.fits for need in self.needs)

    @property
    def time_s(self) -> Amount | None:
        """All of the time; none where no step was tried."""
        return total(self.times) if self.times else None

    def to_json(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        time_s = self.time_s
        return {
            "subject": self.subject,
            "fits": self.fits,
            "needs": [need.to_json() for need in self.needs],
            "time_s": None if time_s is None else time_s.to_json(),
            "times": [part.to_json() for part in self.times],
            "notes": list(self.notes),
            "advice": list(self.advice),
            "obstacles": list(self.obstacles),
            "figures": dict(self.figures),
        }


def total(parts: Sequence[Part]) -> Amount:
    """The sum of some parts; measured where the larger part of it is."""
    amounts = [part.amount for part in parts]
    value, low, high = (sum(getattr(one, name) for one in amounts) for name in ("value", "low", "high"))
    measured = sum(one.value for one in amounts if one.known == "measured")
    return Amount(value, "measured" if 2 * measured >= value else "estimated", low, high)
