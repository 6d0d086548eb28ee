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

# Bytes of activations kept for the backward pass, of each voxel of a crop and each channel of the first level, in
# float32: 1.27 GB for swinunetr at 64^3 and 48 channels, measured; for unet the convolutions and norms of five levels.
ACTIVATION_BYTES = {"swinunetr": 1.27e9 / (64**3 * 48), "unet": 36.0}
MEMORY_SHARE = 0.4
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


def plan_grouping(model: Model, num_crops: int, size_vox: Sequence[int], device: torch.device) -> Grouping:
    """Crops at a time, and whether to recompute: as ``model.checkpointing`` has it, or as the memory asks.

    Args:
        num_crops: crops in a step of one process.
        size_vox: size of a crop as the network gets it, voxels.
    """
    crop_bytes = ACTIVATION_BYTES[model.backbone] * model.feature_size * size_vox[0] * size_vox[1] * size_vox[2]
    room_bytes = MEMORY_SHARE * free_memory_bytes(device)
    recompute = model.checkpointing == "on"
    if model.checkpointing == "auto":
        recompute = crop_bytes * num_crops > room_bytes
    # On a CPU the free memory decides nothing that changes a rounding: a run may be resumed with less of it.
    at_once_bytes = CPU_GROUP_BYTES if device.type == "cpu" else room_bytes
    if not recompute and device.type != "cpu":
        return Grouping(num_crops, recompute)
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
