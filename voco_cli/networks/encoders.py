"""Encoders behind one protocol: crops in, one embedding a crop out."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn

from voco_cli.settings.sections import Model


class Encoder(Protocol):
    """What pre-training asks of a network."""

    out_features: int

    def __call__(self, crops_N1XYZ: Tensor) -> Tensor:
        """Embeddings_NE of crops, with E = ``out_features``."""


def build_encoder(model: Model, in_channels: int = 1) -> nn.Module:
    """The encoder that the settings ask for, with fresh weights from torch's global generator."""
    # Late: whoever only names an encoder need not wait until MONAI has loaded all of itself.
    if model.backbone == "swinunetr":
        from voco_cli.networks.swin import SwinEncoder

        return SwinEncoder(in_channels, model.feature_size, model.patch_merging)
    from voco_cli.networks.unet import UNetEncoder

    return UNetEncoder(in_channels, model.feature_size, model.levels)


def compile_encoder(encoder: nn.Module) -> None:
    """Let torch.compile make one graph of the encoder's forward pass, for batches of one size.

    Calls of the module take it; its ``forward`` stays as it was, for batches of other sizes.
    """
    encoder.compile(fullgraph=True, dynamic=False)
