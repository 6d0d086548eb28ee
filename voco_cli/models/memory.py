"""What a forward pass keeps for its backward pass, what room there is for it, and how crops are grouped to fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import psutil
import torch

from voco_cli.config.schema import Model
from voco_cli.models.backbone import backbone_of
from voco_cli.models.kernels import triton_here

CPU_SHARE, GPU_SHARE = 0.4, 0.8
"""Of the free memory, what activations (on a GPU with networks and optimizer) may take before they are recomputed."""
CPU_GROUP_BYTES = 256e6
"""Activations of crops that go through an encoder together on a CPU: few enough for its caches and allocator."""


@dataclass(frozen=True)
class Grouping:
    """How crops go through an encoder, which never mixes them.

    Attributes:
        size: crops at a time.
        recompute: forget the activations of a group and compute them again in the backward pass.
    """

    size: int
    recompute: bool


def kept_bytes(model: Model, device: torch.device, *, half: bool) -> float:
    """Return the bytes that an encoder keeps for its backward pass, of each voxel that goes in.

    Args:
        half: it computes in bf16; counts on a GPU alone.
    """
    memory = backbone_of(model.backbone).memory
    if device.type != "cuda":
        return memory.cpu * model.feature_size
    runs = model.feature_size <= memory.widest_by_kernels and triton_here.is_available(device.index)
    of_channel = memory.kernels if runs and memory.kernels is not None else memory.gpu
    return of_channel * model.feature_size * (memory.half if half else 1.0)


def training_bytes(kept: int, trained: int, *, amsgrad: bool) -> int:
    """Return the bytes of networks in training, float32: all numbers, and gradients and moments of those that learn."""
    return 4 * (kept + (4 if amsgrad else 3) * trained)


def room_bytes(device: torch.device, network_bytes: float = 0.0) -> float:
    """Return the bytes of the free memory that activations may take.

    Args:
        network_bytes: what networks and optimizer will take of a GPU; a CPU's share is small enough for both.
    """
    if device.type != "cuda":
        return CPU_SHARE * free_memory_bytes(device)
    return GPU_SHARE * free_memory_bytes(device) - network_bytes


def plan_grouping(
    model: Model,
    num_crops: int,
    size_vox: Sequence[int],
    device: torch.device,
    *,
    half: bool,
    network_bytes: float = 0.0,
) -> Grouping:
    """Choose how many crops go at a time, and whether to recompute: by ``model.checkpointing``, or by the memory.

    Args:
        num_crops: crops in a step of one process.
        size_vox: size of a crop as the network gets it, voxels.
        half: as for :func:`kept_bytes`.
        network_bytes: as for :func:`room_bytes`.
    """
    crop_bytes = kept_bytes(model, device, half=half) * size_vox[0] * size_vox[1] * size_vox[2]
    room = room_bytes(device, network_bytes)
    recompute = crop_bytes * num_crops > room if model.checkpointing == "auto" else model.checkpointing == "on"
    if device.type == "cpu":
        # The free memory decides nothing that changes a rounding: a run may be resumed with less of it.
        return Grouping(_fitting(num_crops, CPU_GROUP_BYTES / crop_bytes), recompute)
    if not recompute:
        return Grouping(num_crops, False)
    groups = -(-num_crops // _fitting(num_crops, room / crop_bytes))
    return Grouping(-(-num_crops // groups), True)  # as equal as may be: a compiled graph is for one size


def _fitting(num_crops: int, at_once: float) -> int:
    return min(num_crops, max(1, int(at_once)))


def free_memory_bytes(device: torch.device) -> int:
    """Return the free memory of the device, or of the machine where the device has none of its own."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)
