"""A backbone of two convolutions, written as somebody would who adds one: this module, and an entry in the registry."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from voco_cli.config.backbones import BackboneRules
from voco_cli.config.schema import Model
from voco_cli.models.backbone import Backbone, Memory, NetworkPart, TensorPatterns

RULES = BackboneRules("tests.models.toy_backbone", halvings=1, deepest_level=1, width_multiple=2)


class ToyEncoder(nn.Module):
    """Voxels, and half as many along each axis."""

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        self.fine = nn.Conv3d(in_channels, width, 3, padding=1)
        self.coarse = nn.Conv3d(width, width, 2, stride=2)
        self.out_features, self.map_widths = 2 * width, (width, width)

    def forward(self, crops_N1XYZ: Tensor) -> Tensor:
        return torch.cat([level.mean((2, 3, 4)) for level in self.feature_maps(crops_N1XYZ)], dim=1)

    def feature_maps(self, crops_N1XYZ: Tensor) -> list[Tensor]:
        fine = self.fine(crops_N1XYZ).relu()
        return [fine, self.coarse(fine)]


class ToySegmenter(ToyEncoder):
    """The encoder's tensors, and an output for each voxel."""

    def __init__(self, in_channels: int, width: int, out_channels: int) -> None:
        super().__init__(in_channels, width)
        self.answer = nn.ConvTranspose3d(width, out_channels, 2, stride=2)

    def forward(self, volumes_NCXYZ: Tensor) -> Tensor:
        logits: Tensor = self.answer(self.coarse(self.fine(volumes_NCXYZ).relu()).relu())
        return logits


class ToyDecoder(nn.Module):
    """The output layer."""

    def __init__(self, width: int, out_channels: int) -> None:
        super().__init__()
        self.answer = nn.ConvTranspose3d(width, out_channels, 2, stride=2)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        values: Tensor = self.answer(levels[-1].relu())
        return values


def build_decoder(model: Model, out_channels: int, *, deep_supervision: int = 0) -> nn.Module:
    return ToyDecoder(model.feature_size, out_channels)


def build_encoder(model: Model, in_channels: int) -> nn.Module:
    return ToyEncoder(in_channels, model.feature_size)


def build_segmenter(
    model: Model, in_channels: int, out_channels: int, *, deep_supervision: int = 0, recompute: bool = False
) -> nn.Module:
    return ToySegmenter(in_channels, model.feature_size, out_channels)


BACKBONE = Backbone(
    loads_into="tests.models.toy_backbone.ToySegmenter",
    build_encoder=build_encoder,
    build_segmenter=build_segmenter,
    build_decoder=build_decoder,
    memory=Memory(cpu=16.0, gpu=16.0, half=0.5, forward=(0, 16), forward_kept=(0, 16)),
    patterns=TensorPatterns(
        parts={NetworkPart.ENCODER: r"(fine|coarse)\.", NetworkPart.DECODER: r"answer\."},
        first_layers=r"fine\.weight",
        last_layers=r"answer\.(weight|bias)",
        levels=((r"fine\.", 0),),
    ),
)
