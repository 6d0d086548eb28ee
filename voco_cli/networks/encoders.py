"""Encoders behind one protocol: crops in, one embedding a crop out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import psutil
import torch
from torch import Tensor, nn

from voco_cli.networks.swin import SwinEncoder
from voco_cli.networks.unet import UNetEncoder
from voco_cli.settings.sections import Model

# Bytes of activations kept for the backward pass, of each voxel of a crop and each channel of the first level,
# float32, without checkpointing: 1.27 GB for swinunetr at 64^3 and 48 channels, measured; for unet the two
# convolutions and norms of five levels.
ACTIVATION_BYTES = {"swinunetr": 1.27e9 / (64**3 * 48), "unet": 36.0}
MEMORY_SHARE = 0.4
"""Activations may take this share of the free memory before checkpointing is switched on by itself."""


class Encoder(Protocol):
    """What pre-training asks of a network."""

    out_features: int

    def __call__(self, crops_N1XYZ: Tensor) -> Tensor:
        """Embeddings_NE of crops, with E = ``out_features``."""


def build_encoder(model: Model, checkpointing: bool, in_channels: int = 1) -> nn.Module:
    """The encoder that the settings ask for, with fresh weights from torch's global generator."""
    if model.backbone == "swinunetr":
        return SwinEncoder(in_channels, model.feature_size, model.patch_merging, checkpointing)
    return UNetEncoder(in_channels, model.feature_size, checkpointing)


def needs_checkpointing(model: Model, num_crops: int, size_vox: Sequence[int], device: torch.device) -> bool:
    """Resolve ``model.checkpointing``: as set, or whether the activations of a step would crowd the memory.

    Args:
        num_crops: crops in a step of one process.
        size_vox: size of a crop as the network gets it, voxels.
    """
    if model.checkpointing != "auto":
        return model.checkpointing == "on"
    voxels = size_vox[0] * size_vox[1] * size_vox[2]
    needed_bytes = ACTIVATION_BYTES[model.backbone] * model.feature_size * voxels * num_crops
    return needed_bytes > MEMORY_SHARE * free_memory_bytes(device)


def free_memory_bytes(device: torch.device) -> int:
    """Free memory of the device, or of the machine where the device has none of its own."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)
