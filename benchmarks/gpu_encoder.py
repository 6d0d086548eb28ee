"""SwinUNETR's encoder for the GPU benchmark, on torch alone: MONAI's parameter names, two ways to compute.

As released it does what MONAI's modules do, operation by operation: channels first, padding, roll, partition, mask,
softmax; a test compares the two bit for bit. The other way is our package's, which takes any modules of these names.

N crops, W windows, H heads, n tokens of a window, C channels, f = feature size; X, Y, Z voxels or tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from voco_cli.models.fast_swin import CURRENT_SLICES, encoder_levels, pooled

WINDOW, SHIFT, HEADS = 7, 3, (3, 6, 12, 24)
FORBIDDEN = -100.0


class GpuEncoder(nn.Module):
    """Embeddings_NE of crops_N1XYZ, E = 24 f.

    Args:
        size_vox: edges of a crop.
        released: computed as MONAI does, else as our package does.
        recompute: activations of the released transformer are forgotten and computed again, as the releases have it.
    """

    def __init__(
        self,
        feature_size: int,
        size_vox: Sequence[int] = (64, 64, 64),
        *,
        released: bool = False,
        recompute: bool = False,
    ) -> None:
        super().__init__()
        f = feature_size
        self.out_features, self.released, self.recompute = 24 * f, released, recompute
        self.swinViT = _Transformer(f)
        self.encoder1 = _Block(1, f)
        self.encoder2, self.encoder3, self.encoder4 = _Block(f, f), _Block(2 * f, 2 * f), _Block(4 * f, 4 * f)
        self.encoder10 = _Block(16 * f, 16 * f)
        for stage in range(4):
            mask = region_mask([edge // 2 ** (stage + 1) for edge in size_vox])
            self.register_buffer(f"mask{stage}", mask, persistent=False)

    def forward(self, crops_N1XYZ: Tensor) -> Tensor:
        """Pooled features; edges are multiples of 32 voxels."""
        if not self.released:
            return pooled(encoder_levels(self, crops_N1XYZ.movedim(1, -1).contiguous()))
        swin = self.swinViT
        x = swin.patch_embed.proj(crops_N1XYZ)
        levels = [self.encoder1(crops_N1XYZ)]
        encoders = (self.encoder2, self.encoder3, self.encoder4, None)
        for stage, encoder in enumerate(encoders):
            if encoder is not None:
                levels.append(encoder(_normalised(x)))
            x = swin.residuals[stage](x)
            x = checkpoint(self._stage, x, stage, use_reentrant=False) if self.recompute else self._stage(x, stage)
        levels.append(self.encoder10(_normalised(x)))
        return torch.cat([level.mean((2, 3, 4)) for level in levels], dim=1)

    def _stage(self, x_NCXYZ: Tensor, stage: int) -> Tensor:
        """Two blocks and the merging, on tokens."""
        layer = self.swinViT.stages[stage]
        x = x_NCXYZ.permute(0, 2, 3, 4, 1).contiguous()
        for block, shift in zip(layer.blocks, (0, SHIFT), strict=True):
            x = x + _plain_attention(block.norm1(x), block.attn, shift, getattr(self, f"mask{stage}"))
            x = x + block.mlp(block.norm2(x))
        merged = torch.cat([x[:, i::2, j::2, k::2] for i, j, k in CURRENT_SLICES], dim=-1)
        reduced: Tensor = layer.downsample.reduction(layer.downsample.norm(merged))
        return reduced.permute(0, 4, 1, 2, 3).contiguous()


class _Convolution(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, size: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(in_channels, out_channels, size, padding=size // 2, bias=False)


class _Residual(nn.Module):
    """MONAI's residual block; its instance norms have no parameters."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = _Convolution(in_channels, out_channels, 3), _Convolution(out_channels, out_channels, 3)
        self.downsample = in_channels != out_channels
        if self.downsample:
            self.conv3 = _Convolution(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        hidden = F.leaky_relu(F.instance_norm(self.conv1.conv(x)), 0.01)
        hidden = F.instance_norm(self.conv2.conv(hidden))
        residual = F.instance_norm(self.conv3.conv(x)) if self.downsample else x
        return F.leaky_relu(hidden + residual, 0.01)


class _Block(nn.Module):
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.layer = _Residual(in_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x)
        return out


class _Attention(nn.Module):
    relative_position_index: Tensor

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.num_heads, self.window_size = heads, (WINDOW,) * 3
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * WINDOW - 1) ** 3, heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.register_buffer("relative_position_index", position_index(WINDOW))
        self.qkv, self.proj = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)

    def position_bias(self, tokens: int) -> Tensor:
        """bias_Hnn of a window of so many tokens; a smaller window takes a corner of the index, as MONAI has it."""
        index = self.relative_position_index[:tokens, :tokens]
        return self.relative_position_bias_table[index.flatten()].view(tokens, tokens, -1).permute(2, 0, 1)


class _Perceptron(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.linear1, self.linear2 = nn.Linear(channels, 4 * channels), nn.Linear(4 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.linear2(F.gelu(self.linear1(x)))
        return out


class _SwinBlock(nn.Module):
    def __init__(self, channels: int, heads: int, shift: int) -> None:
        super().__init__()
        self.shift_size = (shift,) * 3
        self.norm1, self.attn = nn.LayerNorm(channels), _Attention(channels, heads)
        self.norm2, self.mlp = nn.LayerNorm(channels), _Perceptron(channels)


class _Merging(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduction, self.norm = nn.Linear(8 * channels, 2 * channels, bias=False), nn.LayerNorm(8 * channels)


class _Stage(nn.Module):
    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([_SwinBlock(channels, heads, shift) for shift in (0, SHIFT)])
        self.downsample = _Merging(channels)


class _Embedding(nn.Module):
    def __init__(self, feature_size: int) -> None:
        super().__init__()
        self.proj = nn.Conv3d(1, feature_size, 2, stride=2)


class _Transformer(nn.Module):
    """The names are MONAI's: layers1 to layers4 in lists of one, and the residual blocks before them with a c."""

    def __init__(self, feature_size: int) -> None:
        super().__init__()
        self.patch_embed = _Embedding(feature_size)
        for stage, heads in enumerate(HEADS):
            channels = feature_size * 2**stage
            setattr(self, f"layers{stage + 1}", nn.ModuleList([_Stage(channels, heads)]))
            setattr(self, f"layers{stage + 1}c", nn.ModuleList([_Block(channels, channels)]))

    @property
    def stages(self) -> list[Any]:
        """The four stages."""
        return [getattr(self, f"layers{number}")[0] for number in range(1, 5)]

    @property
    def residuals(self) -> list[nn.Module]:
        """The block before each stage."""
        return [getattr(self, f"layers{number}c")[0] for number in range(1, 5)]


def _normalised(x_NCXYZ: Tensor) -> Tensor:
    tokens = x_NCXYZ.permute(0, 2, 3, 4, 1)
    normalised: Tensor = F.layer_norm(tokens, tokens.shape[-1:])
    return normalised.permute(0, 4, 1, 2, 3)


def position_index(window: int) -> Tensor:
    """Row of the bias table for each pair of tokens of a window."""
    places = torch.tensor(list(product(range(window), repeat=3)))
    apart = places[:, None] - places[None] + window - 1
    return (apart[..., 0] * (2 * window - 1) + apart[..., 1]) * (2 * window - 1) + apart[..., 2]


def _layout(sizes: Sequence[int], shift: int) -> tuple[list[int], list[int], list[int]]:
    """Window and shift along each axis, and what is padded at its end."""
    windows = [min(size, WINDOW) for size in sizes]
    shifts = [0 if size <= WINDOW else shift for size in sizes]
    return windows, shifts, [-size % window for size, window in zip(sizes, windows, strict=True)]


def _partition(x_NXYZC: Tensor, windows: Sequence[int]) -> Tensor:
    """Tokens by window, (N, W, n, C)."""
    a, b, c = windows
    x: Tensor = x_NXYZC.unflatten(3, (-1, c)).unflatten(2, (-1, b)).unflatten(1, (-1, a))
    return x.permute(0, 1, 3, 5, 2, 4, 6, 7).flatten(4, 6).flatten(1, 3)


def _together(windows_NWnC: Tensor, sizes: Sequence[int], windows: Sequence[int]) -> Tensor:
    """The inverse of `_partition`."""
    counts = [size // window for size, window in zip(sizes, windows, strict=True)]
    x: Tensor = windows_NWnC.unflatten(2, tuple(windows)).unflatten(1, tuple(counts))
    return x.permute(0, 1, 4, 2, 5, 3, 6, 7).flatten(5, 6).flatten(3, 4).flatten(1, 2)


def region_mask(sizes: Sequence[int]) -> Tensor:
    """mask_Wnn of a shifted block: -100 where two tokens of a window were not neighbours before the roll."""
    windows, shifts, pads = _layout(sizes, SHIFT)
    regions = torch.zeros(1, *(size + pad for size, pad in zip(sizes, pads, strict=True)), 1)
    for axis, (window, shift) in enumerate(zip(windows, shifts, strict=True), start=1):
        place = torch.arange(regions.shape[axis])
        last = regions.shape[axis]
        region = (place >= last - window).int() + (place >= last - shift).int() if shift else torch.zeros_like(place)
        regions = regions * 3 + region.view([-1 if i == axis else 1 for i in range(5)])
    by_window = _partition(regions, windows)[0, ..., 0]
    return torch.where(by_window[:, None] == by_window[..., None], 0.0, FORBIDDEN)


def _windows_of(x_NXYZC: Tensor, shift: int) -> tuple[Tensor, list[int], list[int], list[int]]:
    """Padded, rolled, partitioned tokens; padded sizes, windows and shifts."""
    windows, shifts, pads = _layout(x_NXYZC.shape[1:4], shift)
    if any(pads):
        x_NXYZC = F.pad(x_NXYZC, (0, 0, 0, pads[2], 0, pads[1], 0, pads[0]))
    if any(shifts):
        x_NXYZC = torch.roll(x_NXYZC, [-by for by in shifts], (1, 2, 3))
    return _partition(x_NXYZC, windows), list(x_NXYZC.shape[1:4]), windows, shifts


def _whole(mixed_NWnC: Tensor, sizes: list[int], windows: list[int], shifts: list[int], like: Tensor) -> Tensor:
    x = _together(mixed_NWnC, sizes, windows)
    if any(shifts):
        x = torch.roll(x, shifts, (1, 2, 3))
    return x[:, : like.shape[1], : like.shape[2], : like.shape[3]]


def _plain_attention(x_NXYZC: Tensor, attn: _Attention, shift: int, mask_Wnn: Tensor) -> Tensor:
    tokens, sizes, windows, shifts = _windows_of(x_NXYZC, shift)
    n, channels = tokens.shape[2:]
    q, k, v = attn.qkv(tokens).unflatten(-1, (3, attn.num_heads, -1)).permute(3, 0, 1, 4, 2, 5)
    scores = (q * (channels // attn.num_heads) ** -0.5) @ k.mT + attn.position_bias(n)
    if any(shifts):
        scores = scores + mask_Wnn[:, None]
    mixed = (scores.softmax(-1).to(v.dtype) @ v).transpose(2, 3).flatten(3)
    return _whole(attn.proj(mixed), sizes, windows, shifts, x_NXYZC)
