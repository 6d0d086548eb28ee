"""What a forward pass keeps for its backward pass, what room there is for it, and how crops are grouped to fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import psutil
import torch

from voco_cli.config.schema import Model
from voco_cli.models.backbone import backbone_of
from voco_cli.models.kernels import triton_here

CPU_SHARE, GPU_SHARE = 0.4, 0.8
"""Of the free memory, what activations (on a GPU with networks and optimizer) may take before they are recomputed."""
CPU_GROUP_BYTES = 256e6
"""Activations of crops that go through an encoder together on a CPU: few enough for its caches and allocator."""


LIGHT_DECODER_BYTES = 290.0
"""What a `LightDecoder` keeps of each voxel, float32, measured. A segmentation decoder keeps as much as its encoder."""


@dataclass(frozen=True)
class Grouping:
    """How crops go through an encoder, which never mixes them.

    Attributes:
        size: crops at a time.
        recompute: forget the activations of a group and compute them again in the backward pass.
    """

    size: int
    recompute: bool


def kept_bytes(
    model: Model, device: torch.device, *, half: bool, decoder: Literal["light", "segmentation"] | None = None
) -> float:
    """Return the bytes that a network keeps for its backward pass, of each voxel that goes in.

    Args:
        half: it computes in bf16; counts on a GPU alone.
        decoder: that goes on from the encoder; None is the encoder alone.
    """
    memory, on_gpu = backbone_of(model.backbone).memory, device.type == "cuda"
    of_channel = memory.cpu
    if on_gpu:
        runs = model.feature_size <= memory.widest_by_kernels and triton_here.is_available(device.index)
        of_channel = memory.kernels if runs and memory.kernels is not None else memory.gpu
    encoder = of_channel * model.feature_size
    decoding = {None: 0.0, "light": LIGHT_DECODER_BYTES, "segmentation": encoder}[decoder]
    return (encoder + decoding) * (memory.half if on_gpu and half else 1.0)


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
    decoder: Literal["light", "segmentation"] | None = None,
) -> Grouping:
    """Choose how many crops go at a time, and whether to recompute: by ``model.checkpointing``, or by the memory.

    Args:
        num_crops: crops in a step of one process.
        size_vox: size of a crop as the network gets it, voxels.
        half, decoder: as for :func:`kept_bytes`.
        network_bytes: as for :func:`room_bytes`.
    """
    crop_bytes = kept_bytes(model, device, half=half, decoder=decoder) * size_vox[0] * size_vox[1] * size_vox[2]
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
