"""The encoder of SwinUNETR v2 with MONAI's layers and names, pooled to one embedding a crop.

On a CPU the same parameters are computed with in another way, equal to rounding and twice as fast: tokens stay channels
last from the patch embedding to the pooled features (see residual_block), and attention leaves the padding out (see
window_attention). Everywhere else MONAI's own modules run.

N crops, f = feature_size; the embedding joins the means over space of five levels: f + f + 2f + 4f + 16f = 24f.
X, Y, Z voxels or tokens along the axes; C channels.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from monai.networks.blocks import UnetrBasicBlock
from monai.networks.blocks.dynunet_block import UnetResBlock
from monai.networks.nets import SwinUNETR
from monai.networks.nets.swin_unetr import BasicLayer, PatchMerging, SwinTransformer
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from voco_cli.networks.residual_block import residual_block
from voco_cli.networks.window_attention import window_attention

CURRENT_SLICES = ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, 0, 1), (0, 1, 1), (1, 1, 1))
"""Offsets (x, y, z) of the tokens that MONAI merges, in the order of the weights."""
LEGACY_SLICES = ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (0, 1, 0), (0, 0, 1), (1, 1, 1))
"""Offsets (x, y, z) that MONAI merged before release 1.5 (its issue 8285): two stand twice, two are left out."""
EDGE_VOX = 32
"""Edges must be multiples: 2 for the patches and 2 for each of four mergings."""


class LegacyPatchMerging(PatchMerging):  # type: ignore[misc]
    """Patch merging as MONAI had it when the authors' weights were trained; the weights fit both."""

    def forward(self, x: Tensor) -> Tensor:
        """Halve each axis of x_NXYZC and double its channels."""
        padding = [edge for axis in (3, 2, 1) for edge in (0, x.shape[axis] % 2)]
        x = F.pad(x, (0, 0, *padding))
        merged = torch.cat([x[:, i::2, j::2, k::2, :] for i, j, k in LEGACY_SLICES], dim=-1)
        reduced: Tensor = self.reduction(self.norm(merged))
        return reduced


class SwinEncoder(nn.Module):
    """SwinUNETR's transformer and its five residual encoder blocks, under MONAI's names."""

    def __init__(self, in_channels: int, feature_size: int, patch_merging: str) -> None:
        super().__init__()
        f = feature_size
        self.out_features = 24 * f
        self.swinViT = SwinTransformer(
            in_chans=in_channels,
            embed_dim=f,
            window_size=(7, 7, 7),
            patch_size=(2, 2, 2),
            depths=(2, 2, 2, 2),
            num_heads=(3, 6, 12, 24),
            downsample=PatchMerging if patch_merging == "current" else LegacyPatchMerging,
            spatial_dims=3,
            use_v2=True,
        )
        self.encoder1 = self._block(in_channels, f)
        self.encoder2 = self._block(f, f)
        self.encoder3 = self._block(2 * f, 2 * f)
        self.encoder4 = self._block(4 * f, 4 * f)
        self.encoder10 = self._block(16 * f, 16 * f)

    @staticmethod
    def _block(in_channels: int, out_channels: int) -> nn.Module:
        block: nn.Module = UnetrBasicBlock(
            3, in_channels, out_channels, kernel_size=3, stride=1, norm_name="instance", res_block=True
        )
        return block

    def forward(self, crops_N1XYZ: Tensor) -> Tensor:
        """Pooled features.

        Args:
            crops_N1XYZ: values in [0, 1]; edges are multiples of 32 voxels.
        Returns:
            embeddings_NE with E = 24 * feature_size.
        """
        return self.channels_last_forward(crops_N1XYZ) if is_covered(crops_N1XYZ) else self.stock_forward(crops_N1XYZ)

    def stock_forward(self, crops_N1XYZ: Tensor) -> Tensor:
        """Pooled features by MONAI's own modules: for accelerators, autocast, compilation, other edges."""
        stages = self.swinViT(crops_N1XYZ, True)
        levels = (
            self.encoder1(crops_N1XYZ),
            self.encoder2(stages[0]),
            self.encoder3(stages[1]),
            self.encoder4(stages[2]),
            self.encoder10(stages[4]),
        )
        return torch.cat([level.mean((2, 3, 4)) for level in levels], dim=1)

    def channels_last_forward(self, crops_N1XYZ: Tensor) -> Tensor:
        """The same for CPUs."""
        levels = encoder_levels(self, crops_N1XYZ.movedim(1, -1).contiguous())
        return torch.cat([level.mean((1, 2, 3)) for level in (*levels.fine, levels.coarsest)], dim=1)


class Levels(NamedTuple):
    """What the encoder blocks make of an image, channels last.

    Attributes:
        fine: four levels, from the voxels of the image to an eighth along each axis.
        plain: the normalised tokens at a sixteenth, which no block follows.
        coarsest: the last block's, at a thirty-second.
    """

    fine: list[Tensor]
    plain: Tensor
    coarsest: Tensor


def encoder_levels(network: SwinUNETR | SwinEncoder, image_NXYZC: Tensor, recompute: bool = False) -> Levels:
    """All levels of a SwinUNETR v2, for CPUs.

    Args:
        network: MONAI's, or the encoder of the same names.
        recompute: forget the activations of a stage and compute them again in the backward pass.
    """
    swin = network.swinViT
    tokens = embed_patches(image_NXYZC, swin.patch_embed.proj)
    fine = [residual_block(image_NXYZC, network.encoder1.layer)]
    stages = (
        (network.encoder2, swin.layers1c, swin.layers1),
        (network.encoder3, swin.layers2c, swin.layers2),
        (network.encoder4, swin.layers3c, swin.layers3),
        (None, swin.layers4c, swin.layers4),
    )
    plain = tokens
    for encoder, (residual,), (layer,) in stages:
        plain = _normalised(tokens)
        if encoder is not None:
            fine.append(residual_block(plain, encoder.layer))
        stage = partial(_stage, residual=residual.layer, layer=layer)
        tokens = checkpoint(stage, tokens, use_reentrant=False) if recompute else stage(tokens)
    return Levels(fine, plain, residual_block(_normalised(tokens), network.encoder10.layer))


def _stage(tokens_NXYZC: Tensor, residual: UnetResBlock, layer: BasicLayer) -> Tensor:
    return swin_stage(residual_block(tokens_NXYZC, residual), layer)


def is_covered(crops: Tensor) -> bool:
    """Whether the channels-last forward may be taken: it is the faster one where nothing else changes the rules."""
    return (
        crops.device.type == "cpu"
        and crops.dtype in (torch.float32, torch.float64)
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and all(edge % EDGE_VOX == 0 for edge in crops.shape[2:])
        # The last level of 32^3 voxels is one voxel, and MONAI's instance norm says why that cannot be.
        and any(edge > EDGE_VOX for edge in crops.shape[2:])
    )


def swin_stage(tokens_NXYZC: Tensor, layer: BasicLayer) -> Tensor:
    """A stage of MONAI's transformer: its blocks, then its patch merging."""
    x = tokens_NXYZC
    for block in layer.blocks:
        x = x + window_attention(block.norm1(x), block.attn, block.shift_size)
        x = x + block.mlp(block.norm2(x))
    slices = LEGACY_SLICES if isinstance(layer.downsample, LegacyPatchMerging) else CURRENT_SLICES
    merging = layer.downsample
    merged: Tensor = merging.reduction(merging.norm(merge_patches(x, slices)))
    return merged


def embed_patches(crops_NXYZC: Tensor, projection: nn.Conv3d) -> Tensor:
    """MONAI's patch embedding, whose patches do not overlap: one matrix product."""
    patches = _patches(crops_NXYZC).movedim(-1, -2).flatten(-2)
    return F.linear(patches, projection.weight.flatten(1), projection.bias)


def merge_patches(tokens_NXYZC: Tensor, slices: tuple[tuple[int, int, int], ...]) -> Tensor:
    """The channels of 2x2x2 tokens in a row, in the order of ``slices``: one copy forward and one back."""
    order = torch.tensor([4 * i + 2 * j + k for i, j, k in slices])
    return _patches(tokens_NXYZC).index_select(-2, order).flatten(-2)


def _patches(tokens_NXYZC: Tensor) -> Tensor:
    """Each 2x2x2 tokens as eight rows: (N, X/2, Y/2, Z/2, 8, C)."""
    halved: Tensor = tokens_NXYZC.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).unflatten(1, (-1, 2))
    return halved.permute(0, 1, 3, 5, 2, 4, 6, 7).flatten(4, 6)


def _normalised(tokens_NXYZC: Tensor) -> Tensor:
    return F.layer_norm(tokens_NXYZC, tokens_NXYZC.shape[-1:])
