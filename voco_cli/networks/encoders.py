"""Encoders behind one protocol: crops in, one embedding a crop out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import psutil
import torch
from torch import Tensor, nn

from voco_cli.networks.swin import SwinEncoder
from voco_cli.networks.unet import UNetEncoder
from voco_cli.settings.sections import Model

CPU_KEPT_BYTES = {"swinunetr": 1.27e9 / (64**3 * 48), "unet": 36.0}
"""Activations kept for the backward pass, bytes of each voxel of a crop and each channel of the first level, float32.

Measured for swinunetr at 64^3 voxels and 48 channels; for unet the convolutions and norms of five levels.
"""
GPU_KEPT_BYTES = {"swinunetr": 70.0, "unet": 36.0}
"""The same on a GPU: measured for swinunetr in bf16, where 36 crops of 64^3 take 16, 34 and 75 GB at 48, 96 and 192
channels, networks and optimizer included."""
HALF = {"swinunetr": 0.5, "unet": 0.6}
"""Activations in bf16, of those in float32."""
MEMORY_SHARE = {"cpu": 0.4, "cuda": 0.8}
"""Activations may take this share of the free memory before they are recomputed instead."""
CPU_GROUP_BYTES = 256e6
"""Activations of crops that go through an encoder together on a CPU: few enough for its caches and allocator."""


class Encoder(Protocol):
    """What pre-training asks of a network."""

    out_features: int

    def __call__(self, crops_N1XYZ: Tensor) -> Tensor:
        """Embeddings_NE of crops, with E = ``out_features``."""


@dataclass(frozen=True)
class Grouping:
    """How crops go through an encoder, which never mixes them.

    Attributes:
        size: crops at a time.
        recompute: forget the activations of a group and compute them again in the backward pass.
    """

    size: int
    recompute: bool


def build_encoder(model: Model, in_channels: int = 1) -> nn.Module:
    """The encoder that the settings ask for, with fresh weights from torch's global generator."""
    if model.backbone == "swinunetr":
        return SwinEncoder(in_channels, model.feature_size, model.patch_merging)
    return UNetEncoder(in_channels, model.feature_size, model.levels)


def compile_encoder(encoder: nn.Module) -> None:
    """Let torch.compile make one graph of the encoder's forward pass, for batches of one size.

    Calls of the module take it; its ``forward`` stays as it was, for batches of other sizes.
    """
    encoder.compile(fullgraph=True, dynamic=False)


def kept_bytes(model: Model, device: torch.device, precision: str) -> float:
    """What an encoder keeps for its backward pass, bytes of each voxel that goes in.

    Args:
        precision: as ``run.precision`` has it; anything but fp32 is bf16 on a GPU.
    """
    if device.type != "cuda":
        return CPU_KEPT_BYTES[model.backbone] * model.feature_size
    share = 1.0 if precision == "fp32" else HALF[model.backbone]
    return GPU_KEPT_BYTES[model.backbone] * model.feature_size * share


def room_bytes(device: torch.device) -> float:
    """What activations may take of the free memory."""
    return MEMORY_SHARE["cuda" if device.type == "cuda" else "cpu"] * free_memory_bytes(device)


def plan_grouping(
    model: Model, num_crops: int, size_vox: Sequence[int], device: torch.device, precision: str = "fp32"
) -> Grouping:
    """Crops at a time, and whether to recompute: as ``model.checkpointing`` has it, or as the memory asks.

    Args:
        num_crops: crops in a step of one process.
        size_vox: size of a crop as the network gets it, voxels.
        precision: as ``run.precision`` has it.
    """
    crop_bytes = kept_bytes(model, device, precision) * size_vox[0] * size_vox[1] * size_vox[2]
    room = room_bytes(device)
    recompute = model.checkpointing == "on"
    if model.checkpointing == "auto":
        recompute = crop_bytes * num_crops > room
    if not recompute and device.type != "cpu":
        return Grouping(num_crops, recompute)
    # On a CPU the free memory decides nothing that changes a rounding: a run may be resumed with less of it.
    at_once_bytes = CPU_GROUP_BYTES if device.type == "cpu" else room
    fitting = min(num_crops, max(1, int(at_once_bytes // crop_bytes)))
    if device.type == "cpu":
        return Grouping(fitting, recompute)
    # Groups of one size, of which one compiled graph is enough.
    return Grouping(-(-num_crops // -(-num_crops // fitting)), recompute)


def free_memory_bytes(device: torch.device) -> int:
    """Free memory of the device, or of the machine where the device has none of its own."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)
