"""What a forward pass keeps for its backward pass, what room there is for it, and how crops are grouped to fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import psutil
import torch

from voco_cli.config.schema import Model
from voco_cli.models.fast_swin import WIDEST_ON_GPU
from voco_cli.models.kernels import triton_here

CPU_BYTES = {"swinunetr": 1.27e9 / (64**3 * 48), "unet": 36.0}
"""Activations kept for the backward pass, bytes of each voxel of a crop and each channel of the first level, float32.

Measured for swinunetr at 64^3 voxels and 48 channels; for unet the convolutions and norms of five levels.
"""
GPU_BYTES = {"swinunetr": 66.0, "unet": 36.0}
"""The same on a GPU with kernels. Measured for swinunetr in bf16, on top of networks and optimizer: 33, 31 and 30 bytes
at 48, 96 and 192 channels."""
STOCK_GPU_BYTES = {"swinunetr": 290.0, "unet": 36.0}
"""The same by MONAI's modules, which write matrices of scores: 145 bytes in bf16, measured at 48 channels."""
HALF = {"swinunetr": 0.5, "unet": 0.6}
"""Activations in bf16, of those in float32."""
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
    """What an encoder keeps for its backward pass, bytes of each voxel that goes in.

    Args:
        half: it computes in bf16; counts on a GPU alone.
    """
    if device.type != "cuda":
        return CPU_BYTES[model.backbone] * model.feature_size
    by_kernels = triton_here.is_available(device.index) and model.feature_size <= WIDEST_ON_GPU
    of_channel = (GPU_BYTES if by_kernels else STOCK_GPU_BYTES)[model.backbone]
    return of_channel * model.feature_size * (HALF[model.backbone] if half else 1.0)


def training_bytes(kept: int, trained: int, *, amsgrad: bool) -> int:
    """Networks in training, float32: all numbers, and of those that learn gradients and the optimizer's moments."""
    return 4 * (kept + (4 if amsgrad else 3) * trained)


def room_bytes(device: torch.device, network_bytes: float = 0.0) -> float:
    """What activations may take of the free memory.

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
    """Crops at a time, and whether to recompute: as ``model.checkpointing`` has it, or as the memory asks.

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
    """Free memory of the device, or of the machine where the device has none of its own."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)
