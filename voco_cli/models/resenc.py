"""The backbone ``resenc``: nnU-Net's residual encoder U-Net, as dynamic-network-architectures has it.

N crops, f = feature_size; levels of f, 2f, 4f, ... up to 10f channels, each but the first halving the crop. A block is
two convolutions and a short cut past them; the decoder has one convolution a level.

Source: Isensee et al., "nnU-Net Revisited", arXiv 2404.09556; numbers from nnU-Net's ResEncUNetPlanner, whose presets
M, L and XL have one network and larger and larger patches, and from nnssl's ResEncL, which is that network.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from dynamic_network_architectures.architectures.unet import ResidualEncoderUNet
from dynamic_network_architectures.building_blocks.residual_encoders import ResidualEncoder
from dynamic_network_architectures.building_blocks.unet_decoder import UNetDecoder
from torch import Tensor, nn
from torch.nn import functional as F

from voco_cli.config.schema import Model
from voco_cli.models.backbone import (
    Architecture,
    Backbone,
    Memory,
    Named,
    NetworkPart,
    TensorPatterns,
)
from voco_cli.models.weights.nnunet import NnunetNetwork, architecture_entry, layers_for_nnunet
from voco_cli.models.weights.write import own_tensors

_FULL, _SMALL = (1, 3, 4, 6, 6, 6, 6), (1, 2, 2, 2, 2, 2, 2)
BLOCKS = {"L": _FULL, "M": _FULL, "S": _SMALL}
"""Residual blocks of each level, by ``model.size``. nnU-Net has no S: it is ours, for processors."""
WIDEST = 10
"""Channels of a level, at most, in units of the first one's: 320 for nnU-Net's 32."""
_STEM = "encoder.stem.convs.0.conv.weight"


class ResEncEncoder(nn.Module):
    """The package's residual encoder, pooled to one embedding a crop."""

    def __init__(self, in_channels: int, feature_size: int, levels: int, size: str) -> None:
        super().__init__()
        network = ResEncArchitecture(level_widths(feature_size, levels), in_channels, None, BLOCKS[size][:levels])
        self.map_widths = network.filters
        self.out_features = sum(self.map_widths)
        self.encoder = network.build_encoder()
        self.apply(ResidualEncoderUNet.initialize)

    def forward(self, crops_N1XYZ: Tensor) -> Tensor:
        """Return pooled features.

        Args:
            crops_N1XYZ: values in [0, 1]; edges are multiples of 2**(levels - 1) voxels.
        Returns:
            embeddings_NE with E the sum of the channels of all levels: 1120 for 32 and six levels.
        """
        return torch.cat([level.mean((2, 3, 4)) for level in self.feature_maps(crops_N1XYZ)], dim=1)

    def feature_maps(self, crops_N1XYZ: Tensor) -> list[Tensor]:
        """Return what each level gives, the finest first."""
        levels: list[Tensor] = self.encoder(crops_N1XYZ)
        return levels


class ResEncDecoder(nn.Module):
    """The package's decoder, which the package makes with its encoder inside, without that.

    Args:
        supervised: coarser outputs beside the finest one, which training has and prediction has not.
    """

    def __init__(self, feature_size: int, levels: int, out_channels: int, supervised: int = 0) -> None:
        super().__init__()
        blocks = (1,) * levels  # of the encoder, which goes
        network = ResEncArchitecture(level_widths(feature_size, levels), 1, out_channels, blocks)
        with torch.device("meta"):
            encoder = network.build_encoder()
        self.decoder = UNetDecoder(encoder, out_channels, 1, deep_supervision=supervised > 0)
        del self.decoder.encoder
        self.supervised = supervised
        self.apply(ResidualEncoderUNet.initialize)
        _keep_still(self.decoder, supervised)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Return values_NKXYZ of the maps of `ResEncEncoder.feature_maps`.

        In training with coarser outputs it is values_NDKXYZ, all of one size, the finest first.
        """
        return _stacked(self.decoder(levels), self.supervised, self.training)


class ResEncSegmenter(ResidualEncoderUNet):  # type: ignore[misc]  # untyped
    """The package's whole network, whose coarser outputs come as DynUNet's do.

    Args:
        supervised: coarser outputs beside the finest one, which training has and prediction has not.
        arguments: of the package's class.
    """

    def __init__(self, supervised: int, **arguments: Any) -> None:
        super().__init__(**arguments, deep_supervision=supervised > 0)
        self.supervised = supervised
        self.apply(self.initialize)
        _keep_still(self.decoder, supervised)

    def forward(self, volumes_NCXYZ: Tensor) -> Tensor:
        """Return logits_NKXYZ; in training with coarser outputs logits_NDKXYZ, all of one size, the finest first."""
        return _stacked(super().forward(volumes_NCXYZ), self.supervised, self.training)


def _stacked(outputs: Any, supervised: int, training: bool) -> Tensor:
    """Return the finest of the package's outputs, in training with the coarser ones that are supervised."""
    finest: Tensor = outputs[0] if supervised else outputs
    if not (supervised and training):
        return finest
    coarser = (F.interpolate(output, finest.shape[2:]) for output in outputs[1 : 1 + supervised])
    return torch.stack([finest, *coarser], dim=1)


def _keep_still(decoder: nn.Module, supervised: int) -> None:
    """Let the output layers learn nothing that take no part; the package makes one for each level."""
    outputs = decoder.seg_layers
    assert isinstance(outputs, nn.ModuleList)
    for output in outputs[: -1 - supervised]:
        output.requires_grad_(False)


def level_widths(feature_size: int, levels: int) -> tuple[int, ...]:
    """Return the channels of each level."""
    return tuple(feature_size * min(2**level, WIDEST) for level in range(levels))


def build_encoder(model: Model, in_channels: int) -> nn.Module:
    """Return the way down."""
    return ResEncEncoder(in_channels, model.feature_size, model.levels, model.size)


def build_segmenter(
    model: Model, in_channels: int, out_channels: int, *, deep_supervision: int = 0, recompute: bool = False
) -> nn.Module:
    """Return the whole network, which recomputes nothing."""
    blocks = BLOCKS[model.size][: model.levels]
    network = ResEncArchitecture(level_widths(model.feature_size, model.levels), in_channels, out_channels, blocks)
    return ResEncSegmenter(deep_supervision, **network.arguments())


def build_decoder(model: Model, out_channels: int, *, deep_supervision: int = 0) -> nn.Module:
    """Return the way up."""
    return ResEncDecoder(model.feature_size, model.levels, out_channels, deep_supervision)


@dataclass(frozen=True)
class ResEncArchitecture(Architecture):
    """A ResidualEncoderUNet with instance norms and leaky rectifiers.

    Attributes:
        blocks: residual blocks of each level.
        kernels: edges of the kernels of each level, voxels; empty for 3 x 3 x 3 everywhere.
        strides: what each level divides the edges by; empty for 2 x 2 x 2 at each but the first.
        decoder_convs: convolutions of each level of the decoder, the coarsest first; empty for one each.
        stem: channels of the layer before the first level; none is as many as that has.
    """

    blocks: tuple[int, ...] = ()
    kernels: tuple[tuple[int, ...], ...] = ()
    strides: tuple[tuple[int, ...], ...] = ()
    decoder_convs: tuple[int, ...] = ()
    stem: int | None = None
    backbone = "resenc"

    @property
    def encoder_words(self) -> str:
        """Channels and blocks of the levels, and what is special about kernels."""
        words = f"ResidualEncoderUNet with {_dashed(self.filters)} channels and {_dashed(self.blocks)} blocks"
        kernels = "-".join("x".join(map(str, edges)) for edges in self.kernels)
        return f"{words}, kernels of {kernels}" if kernels else words

    @property
    def size(self) -> str | None:
        """Return what ``model.size`` calls it; None for other numbers of blocks."""
        return next((size for size, blocks in BLOCKS.items() if blocks[: len(self.blocks)] == self.blocks), None)

    @property
    def is_ours(self) -> bool:
        """True for channels and blocks that the settings can say, halved evenly."""
        plain = not (self.kernels or self.strides or self.decoder_convs or self.stem)
        return plain and self.size is not None and self.filters == level_widths(self.feature_size, len(self.filters))

    def settings(self) -> dict[str, Any]:
        """Return the settings of ``model`` that choose this network."""
        return {**super().settings(), "levels": len(self.filters), "size": self.size}

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of ResidualEncoderUNet."""
        levels = len(self.filters)
        arguments = {
            "input_channels": self.in_channels,
            "n_stages": levels,
            "features_per_stage": list(self.filters),
            "conv_op": nn.Conv3d,
            "kernel_sizes": [list(edges) for edges in self.kernels] or [[3, 3, 3]] * levels,
            "strides": [list(edges) for edges in self.strides] or [[1, 1, 1], *[[2, 2, 2]] * (levels - 1)],
            "n_blocks_per_stage": list(self.blocks),
            "num_classes": self.classes,
            "n_conv_per_stage_decoder": list(self.decoder_convs) or [1] * (levels - 1),
            "conv_bias": True,
            "norm_op": nn.InstanceNorm3d,
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "nonlin": nn.LeakyReLU,
            "nonlin_kwargs": {"inplace": True},
        }
        return arguments | ({"stem_channels": self.stem} if self.stem else {})

    def build_encoder(self) -> ResidualEncoder:
        """Return the package's encoder, which gives what each level gives."""
        arguments = {name: value for name, value in self.arguments().items() if name not in _DECODER_ONLY}
        return ResidualEncoder(**arguments, return_skips=True)

    def shapes(self) -> Named:
        """Yield the tensors of the package's network, made without memory; one that stands in several places once."""
        with torch.device("meta"):
            network = self.build()
        yield from ((name, tuple(tensor.shape)) for name, tensor in own_tensors(network).items())

    def for_nnunet(self, tensors: Mapping[str, Tensor], axes: str) -> NnunetNetwork:
        """Return the network as nnU-Net has it, with a fresh decoder where there is none among the tensors."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network: ResidualEncoderUNet = self.build()
            network.apply(network.initialize)
        return NnunetNetwork(
            layers_for_nnunet(network, tensors, axes),
            architecture_entry("ResidualEncoderUNet", self.arguments(), axes),
            key_to_encoder=network.key_to_encoder,
            key_to_stem=network.key_to_stem,
            keys_to_in_proj=network.keys_to_in_proj,
        )


_DECODER_ONLY = ("num_classes", "n_conv_per_stage_decoder")


def _dashed(numbers: Sequence[int]) -> str:
    return "-".join(map(str, numbers))


def infer_architecture(tensors: Mapping[str, Tensor]) -> ResEncArchitecture | None:
    """Return the ResidualEncoderUNet that tensors belong to; None where they tell too little.

    Strides are read off the decoder's transposed convolutions, and taken for 2 where there is none.
    """
    levels, stem = _count(tensors, r"encoder\.stages\.(\d+)\.blocks\."), tensors.get(_STEM)
    firsts = [tensors.get(f"encoder.stages.{level}.blocks.0.conv1.conv.weight") for level in range(levels)]
    filters = tuple(first.shape[0] for first in firsts if first is not None and first.ndim == 5)
    if stem is None or levels < 2 or len(filters) < levels or "encoder.stages.0.blocks.0.conv3.conv.weight" in tensors:
        return None
    kernels = tuple(tuple(first.shape[2:]) for first in firsts if first is not None)
    ups = [tensors.get(f"decoder.transpconvs.{number}.weight") for number in reversed(range(levels - 1))]
    strides = ((1, 1, 1), *(tuple(up.shape[2:]) if up is not None else (2, 2, 2) for up in ups))
    convs = [_count(tensors, rf"decoder\.stages\.{number}\.convs\.(\d+)\.") or 1 for number in range(levels - 1)]
    classes = tensors.get(f"decoder.seg_layers.{levels - 2}.weight")
    return ResEncArchitecture(
        filters,
        stem.shape[1],
        None if classes is None else classes.shape[0],
        tuple(_count(tensors, rf"encoder\.stages\.{level}\.blocks\.(\d+)\.") for level in range(levels)),
        kernels if set(kernels) != {(3, 3, 3)} else (),
        strides if set(strides[1:]) != {(2, 2, 2)} else (),
        tuple(convs) if set(convs) != {1} else (),
        stem.shape[0] if stem.shape[0] != filters[0] else None,
    )


def _count(tensors: Mapping[str, Tensor], numbered: str) -> int:
    """Return how many numbers a place in the names has, from 0 on."""
    return 1 + max((int(found[1]) for name in tensors if (found := re.match(numbered, name))), default=-1)


BACKBONE = Backbone(
    loads_into="dynamic_network_architectures.architectures.unet.ResidualEncoderUNet",
    build_encoder=build_encoder,
    build_segmenter=build_segmenter,
    build_decoder=build_decoder,
    # Size L, 64^3 voxels, 16 channels, growth of the resident set: 54 after the forward pass, 83 at the peak of the
    # backward pass, where a unet has 29 and 43 and says 36; size S 38 and 75. A GPU was not measured and has the CPU's.
    # Forward: windows of 96^3 and 128^3, 8 and 32 channels, without the logits.
    memory=Memory(cpu=68.0, gpu=68.0, half=0.6, forward=(45, 31), forward_kept=(0, 34)),
    patterns=TensorPatterns(
        parts={
            NetworkPart.ENCODER: r"encoder\.stem\.|encoder\.stages\.\d+\.blocks\.",
            NetworkPart.DECODER: r"decoder\.(stages|transpconvs|seg_layers|encoder)\.",
        },
        first_layers=re.escape(_STEM),
        last_layers=r"decoder\.seg_layers\.\d+\.(weight|bias)",
        levels=((r"encoder\.stem\.", 0), (r"encoder\.stages\.(\d+)\.blocks\.", 0)),
    ),
    infer_architecture=infer_architecture,
)
