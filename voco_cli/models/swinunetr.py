"""The backbone ``swinunetr``: SwinUNETR v2, as MONAI has it; its networks are in swin.py, which loads MONAI."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from voco_cli.config.schema import Model
from voco_cli.models.backbone import (
    INDEX,
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
from voco_cli.models.weights.architecture import set_patch_merging

_WINDOW, _DEPTH, _HEADS, _MLP = 7, 2, (3, 6, 12, 24), 4
"""Edge of a window in tokens, blocks of a stage, heads of each stage, and how much an MLP widens."""


def build_encoder(model: Model, in_channels: int) -> nn.Module:
    """Return the transformer and the encoder blocks."""
    from voco_cli.models.swin import SwinEncoder  # late: MONAI loads all of itself

    return SwinEncoder(in_channels, model.feature_size, model.patch_merging)


def build_segmenter(
    model: Model, in_channels: int, out_channels: int, *, deep_supervision: int = 0, recompute: bool = False
) -> nn.Module:
    """Return the whole network, which has no coarser outputs."""
    from voco_cli.models.swin import SwinSegmenter  # late: MONAI loads all of itself

    swin = SwinSegmenter(
        in_channels=in_channels, out_channels=out_channels, feature_size=model.feature_size, recompute=recompute
    )
    set_patch_merging(swin, model.patch_merging)
    return swin


def build_decoder(model: Model, out_channels: int, *, deep_supervision: int = 0) -> nn.Module:
    """Return the five steps up, and the output layer; there are no coarser ones."""
    from voco_cli.models.swin import SwinDecoder  # late: MONAI loads all of itself

    return SwinDecoder(model.feature_size, out_channels)


@dataclass(frozen=True)
class SwinArchitecture(Architecture):
    """A SwinUNETR; ``filters`` holds the feature size alone.

    Attributes:
        use_v2: with the residual convolutions of its second version.
    """

    use_v2: bool = False
    backbone = "swinunetr"

    @property
    def encoder_words(self) -> str:
        """Version and width."""
        return f"SwinUNETR v{2 if self.use_v2 else 1} of feature_size {self.feature_size}"

    @property
    def is_ours(self) -> bool:
        """True for the second version."""
        return self.use_v2

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of SwinUNETR."""
        channels = {"in_channels": self.in_channels, "out_channels": self.classes, "feature_size": self.feature_size}
        return {**channels, "use_v2": self.use_v2}

    def shapes(self) -> Named:
        """Yield the tensors, with the residual convolutions of the second version or without."""
        f = self.feature_size
        yield from layer_shapes("swinViT.patch_embed.proj", (f, self.in_channels, *PAIR))
        for stage, heads in enumerate(_HEADS):
            yield from _stage_shapes(f"swinViT.layers{stage + 1}.0", f * 2**stage, heads)
        for stage in range(len(_HEADS) if self.use_v2 else 0):
            yield from _residual_shapes(f"swinViT.layers{stage + 1}c.0.layer", f * 2**stage, f * 2**stage)
        yield from _residual_shapes("encoder1.layer", self.in_channels, f)
        for number, width in ((2, f), (3, 2 * f), (4, 4 * f), (10, 16 * f)):
            yield from _residual_shapes(f"encoder{number}.layer", width, width)
        for number, below, beside in ((5, 16, 8), (4, 8, 4), (3, 4, 2), (2, 2, 1), (1, 1, 1)):
            yield f"decoder{number}.transp_conv.conv.weight", (below * f, beside * f, *PAIR)
            yield from _residual_shapes(f"decoder{number}.conv_block", 2 * beside * f, beside * f)
        yield from layer_shapes("out.conv.conv", (self.classes, f, *POINT))


def _stage_shapes(name: str, width: int, heads: int) -> Named:
    """Yield the tensors of two transformer blocks, and of the patch merging after them."""
    tokens, offsets = _WINDOW**3, (2 * _WINDOW - 1) ** 3
    for number in range(_DEPTH):
        block = f"{name}.blocks.{number}"
        yield from layer_shapes(f"{block}.norm1", (width,))
        yield f"{block}.attn.relative_position_bias_table", (offsets, heads)
        yield f"{block}.attn.{INDEX}", (tokens, tokens)
        yield from layer_shapes(f"{block}.attn.qkv", (3 * width, width))
        yield from layer_shapes(f"{block}.attn.proj", (width, width))
        yield from layer_shapes(f"{block}.norm2", (width,))
        yield from layer_shapes(f"{block}.mlp.linear1", (_MLP * width, width))
        yield from layer_shapes(f"{block}.mlp.linear2", (width, _MLP * width))
    yield f"{name}.downsample.reduction.weight", (2 * width, 8 * width)
    yield from layer_shapes(f"{name}.downsample.norm", (8 * width,))


def _residual_shapes(name: str, before: int, after: int) -> Named:
    """Yield the tensors of a residual block, whose short cut is a convolution where the width changes."""
    return block_shapes(name, before, after, shortcut=before != after, norms=False)


def infer_architecture(tensors: Mapping[str, Tensor]) -> SwinArchitecture | None:
    """Return the SwinUNETR that tensors belong to; None where they tell too little."""
    patch, classes = tensors.get("swinViT.patch_embed.proj.weight"), tensors.get("out.conv.conv.weight")
    if patch is None:
        return None
    use_v2 = any(name.startswith("swinViT.layers1c.") for name in tensors)
    return SwinArchitecture((patch.shape[0],), patch.shape[1], None if classes is None else classes.shape[0], use_v2)


BACKBONE = Backbone(
    loads_into="monai.networks.nets.SwinUNETR",
    build_encoder=build_encoder,
    build_segmenter=build_segmenter,
    build_decoder=build_decoder,
    memory=Memory(
        cpu=1.27e9 / (64**3 * 48),  # measured at 64^3 voxels and 48 channels
        gpu=290.0,  # MONAI's modules write matrices of scores: 145 bytes in bf16, measured at 48 channels
        half=0.5,
        # Measured in bf16, on top of networks and optimizer: 33, 31 and 30 bytes at 48, 96 and 192 channels.
        kernels=66.0,
        widest_by_kernels=192,  # fast_swin.WIDEST_ON_GPU, which would load the kernels
        # Growth of the resident set, windows of 96^3 and 128^3, 8 to 48 channels; the attention of the first level has
        # three heads whatever its width.
        forward=(1200, 10),
        forward_kept=(3000, 10),
    ),
    patterns=TensorPatterns(
        parts={
            NetworkPart.TRANSFORMER: r"swinViT\.",
            NetworkPart.ENCODER: r"encoder(1|2|3|4|10)\.",
            NetworkPart.DECODER: r"decoder[1-5]\.|out\.",
        },
        first_layers=r"swinViT\.patch_embed\.proj\.weight|encoder1\.layer\.conv[13]\.conv\.weight",
        last_layers=r"out\.conv\.conv\.(weight|bias)",
        levels=(
            (r"swinViT\.patch_embed\.", 0),
            (r"swinViT\.layers(\d)c?\.", 0),
            (r"encoder1\.", 0),
            (r"encoder([234])\.", -2),
            (r"encoder10\.", 4),
        ),
    ),
    infer_architecture=infer_architecture,
)
