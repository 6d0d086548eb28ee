"""Names and shapes of the tensors of MONAI's SwinUNETR and DynUNet, without loading MONAI, which takes seconds.

Each function yields (name, shape) in the order of the network's state dict, a tensor that stands there twice once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

Shape = tuple[int, ...]
Named = Iterator[tuple[str, Shape]]

INDEX = "relative_position_index"
"""Ends the names of the only tensors that hold whole numbers, and no parameters."""
_WINDOW, _DEPTH, _HEADS, _MLP = 7, 2, (3, 6, 12, 24), 4
"""Of SwinUNETR: edge of a window in tokens, blocks of a stage, heads of each stage, and how much an MLP widens."""
_CUBE, _PAIR, _POINT = (3, 3, 3), (2, 2, 2), (1, 1, 1)


def level_widths(feature_size: int, levels: int) -> list[int]:
    """Channels of each level of a DynUNet."""
    return [feature_size * 2**level for level in range(levels)]


def swin_unetr_shapes(in_channels: int, classes: int, feature_size: int, use_v2: bool) -> Named:
    """Tensors of SwinUNETR, with the residual convolutions of its second version or without."""
    f = feature_size
    yield from _layer("swinViT.patch_embed.proj", (f, in_channels, *_PAIR))
    for stage, heads in enumerate(_HEADS):
        yield from _swin_stage(f"swinViT.layers{stage + 1}.0", f * 2**stage, heads)
    for stage in range(len(_HEADS) if use_v2 else 0):
        yield from _block(f"swinViT.layers{stage + 1}c.0.layer", f * 2**stage, f * 2**stage)
    yield from _block("encoder1.layer", in_channels, f)
    for number, width in ((2, f), (3, 2 * f), (4, 4 * f), (10, 16 * f)):
        yield from _block(f"encoder{number}.layer", width, width)
    for number, below, beside in ((5, 16, 8), (4, 8, 4), (3, 4, 2), (2, 2, 1), (1, 1, 1)):
        yield f"decoder{number}.transp_conv.conv.weight", (below * f, beside * f, *_PAIR)
        yield from _block(f"decoder{number}.conv_block", 2 * beside * f, beside * f)
    yield from _layer("out.conv.conv", (classes, f, *_POINT))


def _swin_stage(name: str, width: int, heads: int) -> Named:
    """Two transformer blocks, and the patch merging after them."""
    tokens, offsets = _WINDOW**3, (2 * _WINDOW - 1) ** 3
    for number in range(_DEPTH):
        block = f"{name}.blocks.{number}"
        yield from _norm(f"{block}.norm1", width)
        yield f"{block}.attn.relative_position_bias_table", (offsets, heads)
        yield f"{block}.attn.{INDEX}", (tokens, tokens)
        yield from _layer(f"{block}.attn.qkv", (3 * width, width))
        yield from _layer(f"{block}.attn.proj", (width, width))
        yield from _norm(f"{block}.norm2", width)
        yield from _layer(f"{block}.mlp.linear1", (_MLP * width, width))
        yield from _layer(f"{block}.mlp.linear2", (width, _MLP * width))
    yield f"{name}.downsample.reduction.weight", (2 * width, 8 * width)
    yield from _norm(f"{name}.downsample.norm", 8 * width)


def dyn_unet_shapes(
    in_channels: int, classes: int, filters: Sequence[int], *, residual: bool, up_bias: bool, supervised: int
) -> Named:
    """Tensors of DynUNet with kernels of 3 voxels and instance norms.

    Args:
        filters: channels of each level.
        residual: blocks of the way down have a short cut.
        up_bias: transposed convolutions have biases.
        supervised: coarser outputs.
    """
    last = len(filters) - 1
    for level, (before, after) in enumerate(pairwise((in_channels, *filters))):
        name = "input_block" if level == 0 else "bottleneck" if level == last else f"downsamples.{level - 1}"
        yield from _normed_block(name, before, after, residual and (level > 0 or before != after))
    for number, (below, beside) in enumerate(pairwise(reversed(filters))):
        yield f"upsamples.{number}.transp_conv.conv.weight", (below, beside, *_PAIR)
        if up_bias:
            yield f"upsamples.{number}.transp_conv.conv.bias", (beside,)
        yield from _normed_block(f"upsamples.{number}.conv_block", 2 * beside, beside, residual=False)
    yield from _layer("output_block.conv.conv", (classes, filters[0], *_POINT))
    for number in range(supervised):
        yield from _layer(f"deep_supervision_heads.{number}.conv.conv", (classes, filters[number + 1], *_POINT))


def _block(name: str, before: int, after: int) -> Named:
    """A residual block of SwinUNETR, whose norms have no parameters; a third convolution where the width changes."""
    yield f"{name}.conv1.conv.weight", (after, before, *_CUBE)
    yield f"{name}.conv2.conv.weight", (after, after, *_CUBE)
    if before != after:
        yield f"{name}.conv3.conv.weight", (after, before, *_POINT)


def _normed_block(name: str, before: int, after: int, residual: bool) -> Named:
    """A block of DynUNet; the short cut of a residual one is a convolution where it changes the width or halves."""
    yield f"{name}.conv1.conv.weight", (after, before, *_CUBE)
    yield f"{name}.conv2.conv.weight", (after, after, *_CUBE)
    yield from _norm(f"{name}.norm1", after)
    yield from _norm(f"{name}.norm2", after)
    if residual:
        yield f"{name}.conv3.conv.weight", (after, before, *_POINT)
        yield from _norm(f"{name}.norm3", after)


def _layer(name: str, weight: Shape) -> Named:
    yield f"{name}.weight", weight
    yield f"{name}.bias", (weight[0],)


def _norm(name: str, width: int) -> Named:
    yield f"{name}.weight", (width,)
    yield f"{name}.bias", (width,)
