"""The backbone ``unet``: DynUNet with MONAI's blocks and names; its encoder is pooled to one embedding a crop.

N crops, f = feature_size; levels of f, 2f, 4f, ... channels, each but the first halving the crop.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count, pairwise, takewhile
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from voco_cli.config.schema import Model
from voco_cli.models.backbone import (
    PAIR,
    POINT,
    Architecture,
    Backbone,
    Memory,
    Named,
    NetworkPart,
    TensorPatterns,
    block_shapes,
    layer_shapes,
)
from voco_cli.models.weights.nnunet import NnunetNetwork, nnunet_architecture, plain_conv_unet


class UNetEncoder(nn.Module):
    """DynUNet's input block, down-sampling blocks and bottleneck, under MONAI's names."""

    def __init__(self, in_channels: int, feature_size: int, levels: int = 5) -> None:
        from monai.networks.blocks.dynunet_block import UnetBasicBlock  # late: MONAI loads all of itself
        from monai.networks.nets import DynUNet

        super().__init__()
        widths = level_widths(feature_size, levels)
        norm = ("INSTANCE", {"affine": True})
        self.out_features, self.map_widths = sum(widths), tuple(widths)
        blocks = [
            UnetBasicBlock(3, before, after, kernel_size=3, stride=2 if level else 1, norm_name=norm)
            for level, (before, after) in enumerate(pairwise((in_channels, *widths)))
        ]
        self.input_block, self.downsamples, self.bottleneck = blocks[0], nn.ModuleList(blocks[1:-1]), blocks[-1]
        self.apply(DynUNet.initialize_weights)
        # Convolutions of few channels run 1.3 times as fast forward and backward on a CPU in this layout.
        self.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]  # not in torch's stubs

    def forward(self, crops_N1XYZ: Tensor) -> Tensor:
        """Return pooled features.

        Args:
            crops_N1XYZ: values in [0, 1]; more voxels an edge than the levels halve away: 17 for five levels.
        Returns:
            embeddings_NE with E = (2**levels - 1) * feature_size.
        """
        return torch.cat([level.mean((2, 3, 4)) for level in self.feature_maps(crops_N1XYZ)], dim=1)

    def feature_maps(self, crops_N1XYZ: Tensor) -> list[Tensor]:
        """Return what each block gives, the finest first."""
        x, levels = crops_N1XYZ.contiguous(memory_format=torch.channels_last_3d), []
        for block in (self.input_block, *self.downsamples, self.bottleneck):
            x = block(x)
            levels.append(x)
        return levels

    def visible_maps(self, crops_N1XYZ: Tensor, visible_N1XYZ: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Return the levels computed from visible voxels alone, and which voxels of each are visible.

        Hidden voxels are 0 after every layer, and norms take their statistics from the visible: what a convolution of
        sparse tensors computes. A voxel of a coarser level is visible where any of those that it halves is.

        Args:
            visible_N1XYZ: 1 or 0, of the type of the crops.
        Returns:
            maps_NWXYZ, visible_N1XYZ, both the finest first.
        Source: SparK, Tian et al., ICLR 2023 (arXiv 2301.03580).
        """
        x = (crops_N1XYZ * visible_N1XYZ).contiguous(memory_format=torch.channels_last_3d)
        levels, masks = [], [visible_N1XYZ]
        for number, block in enumerate((self.input_block, *self.downsamples, self.bottleneck)):
            if number:
                masks.append(F.max_pool3d(masks[-1], 2, ceil_mode=True))
            for conv, norm in ((block.conv1, block.norm1), (block.conv2, block.norm2)):
                x = block.lrelu(_visible_norm(conv(x) * masks[-1], masks[-1], norm))
            levels.append(x)
        return levels, masks


def _visible_norm(x_NWXYZ: Tensor, visible_N1XYZ: Tensor, norm: Any) -> Tensor:
    """Compute an instance norm whose mean and variance are those of visible voxels; hidden ones are and stay 0."""
    seen = visible_N1XYZ.sum((2, 3, 4), keepdim=True).clamp(min=1)
    centred = (x_NWXYZ - x_NWXYZ.sum((2, 3, 4), keepdim=True) / seen) * visible_N1XYZ
    variance = centred.square().sum((2, 3, 4), keepdim=True) / seen
    gain, shift = (one.view(1, -1, 1, 1, 1) for one in (norm.weight, norm.bias))
    normed: Tensor = centred * ((variance + norm.eps).rsqrt() * gain) + shift * visible_N1XYZ
    return normed


class UNetDecoder(nn.Module):
    """DynUNet's up-sampling blocks and output blocks, under MONAI's names.

    Args:
        supervised: coarser outputs beside the finest one, which training has and prediction has not.
    """

    def __init__(self, feature_size: int, levels: int, out_channels: int, supervised: int = 0) -> None:
        from monai.networks.blocks.dynunet_block import UnetOutBlock, UnetUpBlock  # late: MONAI loads all of itself
        from monai.networks.nets import DynUNet

        super().__init__()
        widths = level_widths(feature_size, levels)
        norm = ("INSTANCE", {"affine": True})
        self.upsamples = nn.ModuleList(
            UnetUpBlock(3, below, beside, kernel_size=3, stride=1, upsample_kernel_size=2, norm_name=norm)
            for below, beside in pairwise(reversed(widths))
        )
        self.output_block = UnetOutBlock(3, feature_size, out_channels)
        if supervised:
            heads = (UnetOutBlock(3, width, out_channels) for width in widths[1 : 1 + supervised])
            self.deep_supervision_heads = nn.ModuleList(heads)
        self.supervised = supervised
        self.apply(DynUNet.initialize_weights)
        self.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]  # as the encoder

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Return values_NKXYZ of the maps of `UNetEncoder.feature_maps`, whose edges halve evenly.

        In training with coarser outputs it is values_NDKXYZ, all of one size, the finest first.
        """
        *skips, x = levels
        decoded = []
        for block, skip in zip(self.upsamples, reversed(skips), strict=True):
            x = block(x, skip)
            decoded.append(x)
        values_NKXYZ: Tensor = self.output_block(x)
        if not (self.supervised and self.training):
            return values_NKXYZ
        coarser = zip(self.deep_supervision_heads, decoded[-2::-1], strict=False)
        values = [F.interpolate(head(one), values_NKXYZ.shape[2:]) for head, one in coarser]
        return torch.stack([values_NKXYZ, *values], dim=1)


def level_widths(feature_size: int, levels: int) -> list[int]:
    """Return the channels of each level."""
    return [feature_size * 2**level for level in range(levels)]


def build_encoder(model: Model, in_channels: int) -> nn.Module:
    """Return the way down."""
    return UNetEncoder(in_channels, model.feature_size, model.levels)


def build_segmenter(
    model: Model, in_channels: int, out_channels: int, *, deep_supervision: int = 0, recompute: bool = False
) -> nn.Module:
    """Return the whole network, which recomputes nothing."""
    from monai.networks.nets import DynUNet  # late: MONAI loads all of itself

    filters = tuple(level_widths(model.feature_size, model.levels))
    architecture = UNetArchitecture(filters, in_channels, out_channels, supervised=deep_supervision)
    unet: nn.Module = DynUNet(**architecture.arguments(), norm_name=("INSTANCE", {"affine": True}))
    return unet


def build_decoder(model: Model, out_channels: int, *, deep_supervision: int = 0) -> nn.Module:
    """Return the way up."""
    return UNetDecoder(model.feature_size, model.levels, out_channels, deep_supervision)


@dataclass(frozen=True)
class UNetArchitecture(Architecture):
    """A DynUNet with kernels of 3 voxels and instance norms.

    Attributes:
        residual: blocks of the way down have a short cut.
        up_bias: transposed convolutions have biases.
        supervised: coarser outputs, the heads of deep supervision.
    """

    residual: bool = False
    up_bias: bool = False
    supervised: int = 0
    backbone = "unet"

    @property
    def encoder_words(self) -> str:
        """Channels of the levels, and what is special about blocks."""
        blocks = " and residual blocks" if self.residual else ""
        return f"DynUNet with filters {'-'.join(map(str, self.filters))}{blocks}"

    @property
    def is_ours(self) -> bool:
        """True for plain blocks whose channels double at each level."""
        return not self.residual and self.filters == tuple(level_widths(self.feature_size, len(self.filters)))

    def settings(self) -> dict[str, Any]:
        """Return the settings of ``model`` that choose this network."""
        return {**super().settings(), "levels": len(self.filters)}

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of DynUNet."""
        levels = len(self.filters)
        arguments: dict[str, Any] = {
            "spatial_dims": 3,
            "in_channels": self.in_channels,
            "out_channels": self.classes,
            "kernel_size": [3] * levels,
            "strides": [1] + [2] * (levels - 1),
            "upsample_kernel_size": [2] * (levels - 1),
            "filters": list(self.filters),
        }
        if self.supervised:
            arguments |= {"deep_supervision": True, "deep_supr_num": self.supervised}
        options = {"res_block": self.residual, "trans_bias": self.up_bias}
        return arguments | {name: True for name, wanted in options.items() if wanted}

    def shapes(self) -> Named:
        """Yield the tensors; one that stands twice in the state dict once."""
        filters, last = self.filters, len(self.filters) - 1
        for level, (before, after) in enumerate(pairwise((self.in_channels, *filters))):
            name = "input_block" if level == 0 else "bottleneck" if level == last else f"downsamples.{level - 1}"
            # A short cut is a convolution where it changes the width or halves.
            shortcut = self.residual and (level > 0 or before != after)
            yield from block_shapes(name, before, after, shortcut=shortcut, norms=True)
        for number, (below, beside) in enumerate(pairwise(reversed(filters))):
            yield f"upsamples.{number}.transp_conv.conv.weight", (below, beside, *PAIR)
            if self.up_bias:
                yield f"upsamples.{number}.transp_conv.conv.bias", (beside,)
            yield from block_shapes(f"upsamples.{number}.conv_block", 2 * beside, beside, shortcut=False, norms=True)
        yield from layer_shapes("output_block.conv.conv", (self.classes, filters[0], *POINT))
        for number in range(self.supervised):
            name = f"deep_supervision_heads.{number}.conv.conv"
            yield from layer_shapes(name, (self.classes, filters[number + 1], *POINT))

    def for_nnunet(self, tensors: Mapping[str, Tensor], axes: str) -> NnunetNetwork | None:
        """Return nnU-Net's PlainConvUNet of the same tensors; None for residual blocks, which that has not."""
        if self.residual:
            return None
        return NnunetNetwork(
            plain_conv_unet(tensors, self.filters, axes),
            nnunet_architecture(self.filters),
            key_to_encoder="encoder.stages",
            key_to_stem="encoder.stages.0",
            keys_to_in_proj=("encoder.stages.0.0.convs.0.all_modules.0", "encoder.stages.0.0.convs.0.conv"),
        )


def infer_architecture(tensors: Mapping[str, Tensor]) -> UNetArchitecture | None:
    """Return the DynUNet that tensors belong to; None where they tell too little."""
    first, last = (tensors.get(f"{block}.conv1.conv.weight") for block in ("input_block", "bottleneck"))
    if first is None or last is None:
        return None
    between = takewhile(lambda name: name in tensors, (f"downsamples.{i}.conv1.conv.weight" for i in count()))
    classes = tensors.get("output_block.conv.conv.weight")
    return UNetArchitecture(
        (first.shape[0], *(tensors[name].shape[0] for name in between), last.shape[0]),
        first.shape[1],
        None if classes is None else classes.shape[0],
        residual="input_block.conv3.conv.weight" in tensors,
        up_bias="upsamples.0.transp_conv.conv.bias" in tensors,
        supervised=sum(name.startswith("deep_supervision_heads.") and name.endswith("weight") for name in tensors),
    )


BACKBONE = Backbone(
    loads_into="monai.networks.nets.DynUNet",
    build_encoder=build_encoder,
    build_segmenter=build_segmenter,
    build_decoder=build_decoder,
    # To train: the convolutions and norms of five levels. Forward: growth of the resident set, as for swinunetr.
    memory=Memory(cpu=36.0, gpu=36.0, half=0.6, forward=(0, 45), forward_kept=(0, 48)),
    patterns=TensorPatterns(
        parts={
            NetworkPart.ENCODER: r"input_block\.|downsamples\.\d+\.|bottleneck\.",
            NetworkPart.DECODER: r"upsamples\.\d+\.|output_block\.|deep_supervision_heads\.|(skip_layers|heads)\.",
        },
        first_layers=r"input_block\.conv[13]\.conv\.weight",
        last_layers=r"(output_block|deep_supervision_heads\.\d+)\.conv\.conv\.(weight|bias)",
        levels=((r"input_block\.", 0), (r"downsamples\.(\d+)\.", 1)),
    ),
    infer_architecture=infer_architecture,
)
