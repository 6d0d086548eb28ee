"""The encoder of SwinUNETR v2 with MONAI's layers and names, pooled to one embedding a crop.

N crops, f = feature_size; the embedding joins the means over space of five levels: f + f + 2f + 4f + 16f = 24f.
X, Y, Z voxels or tokens along the axes; C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.networks.blocks import UnetOutBlock, UnetrBasicBlock, UnetrUpBlock
from monai.networks.nets import SwinUNETR
from monai.networks.nets.swin_unetr import PatchMerging, SwinTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from voco_cli.models.fast_swin import Levels, decoded, encoder_levels, is_covered, pooled

LEGACY_SLICES = ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (0, 1, 0), (0, 0, 1), (1, 1, 1))
"""Offsets (x, y, z) that MONAI merged before release 1.5 (its issue 8285): two stand twice, two are left out."""


class LegacyPatchMerging(PatchMerging):  # type: ignore[misc]
    """Patch merging as MONAI had it when the authors' weights were trained; the weights fit both."""

    slices = LEGACY_SLICES

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
        self.out_features, self.map_widths = 24 * f, (f, f, 2 * f, 4 * f, 8 * f, 16 * f)
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
        """Return pooled features.

        Args:
            crops_N1XYZ: values in [0, 1]; edges are multiples of 32 voxels.
        Returns:
            embeddings_NE with E = 24 * feature_size.
        """
        if is_covered(crops_N1XYZ, self.swinViT.embed_dim):
            return self.channels_last_forward(crops_N1XYZ)
        return self.stock_forward(crops_N1XYZ)

    def stock_forward(self, crops_N1XYZ: Tensor) -> Tensor:
        """Return pooled features by MONAI's own modules, for where nothing faster is known."""
        *fine, _, coarsest = self.stock_maps(crops_N1XYZ)
        return torch.cat([level.mean((2, 3, 4)) for level in (*fine, coarsest)], dim=1)

    def channels_last_forward(self, crops_N1XYZ: Tensor) -> Tensor:
        """Return the same features to rounding, faster."""
        return pooled(encoder_levels(self, crops_N1XYZ.movedim(1, -1).contiguous()))

    def feature_maps(self, crops_N1XYZ: Tensor) -> list[Tensor]:
        """Return the levels of the encoder blocks, and before the coarsest the tokens that no block follows."""
        if not is_covered(crops_N1XYZ, self.swinViT.embed_dim):
            return self.stock_maps(crops_N1XYZ)
        levels = encoder_levels(self, crops_N1XYZ.movedim(1, -1).contiguous())
        return [tokens.movedim(-1, 1) for tokens in (*levels.fine, levels.plain, levels.coarsest)]

    def stock_maps(self, crops_N1XYZ: Tensor) -> list[Tensor]:
        """Return the same maps by MONAI's own modules."""
        stages = self.swinViT(crops_N1XYZ, True)
        return [
            self.encoder1(crops_N1XYZ),
            self.encoder2(stages[0]),
            self.encoder3(stages[1]),
            self.encoder4(stages[2]),
            stages[3],
            self.encoder10(stages[4]),
        ]


class SwinDecoder(nn.Module):
    """SwinUNETR's five residual decoder blocks and its output layer, under MONAI's names."""

    def __init__(self, feature_size: int, out_channels: int) -> None:
        super().__init__()
        f = feature_size
        self.feature_size = f
        self.decoder5 = self._block(16 * f, 8 * f)
        self.decoder4 = self._block(8 * f, 4 * f)
        self.decoder3 = self._block(4 * f, 2 * f)
        self.decoder2 = self._block(2 * f, f)
        self.decoder1 = self._block(f, f)
        self.out = UnetOutBlock(3, f, out_channels)

    @staticmethod
    def _block(in_channels: int, out_channels: int) -> nn.Module:
        block: nn.Module = UnetrUpBlock(
            3, in_channels, out_channels, kernel_size=3, upsample_kernel_size=2, norm_name="instance", res_block=True
        )
        return block

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Return values_NKXYZ of the maps of `SwinEncoder.feature_maps`."""
        if is_covered(levels[0], self.feature_size):
            *fine, plain, coarsest = (level.movedim(1, -1).contiguous() for level in levels)
            return decoded(self, Levels(fine, plain, coarsest))
        *skips, x = levels
        blocks = (self.decoder5, self.decoder4, self.decoder3, self.decoder2, self.decoder1)
        for block, skip in zip(blocks, reversed(skips), strict=True):
            x = block(x, skip)
        values_NKXYZ: Tensor = self.out(x)
        return values_NKXYZ


DROPOUT = ("drop_rate", "attn_drop_rate", "dropout_path_rate")


class SwinSegmenter(SwinUNETR):  # type: ignore[misc]
    """MONAI's network with a second way through it.

    Args:
        recompute: the transformer forgets its activations and computes them again in the backward pass.
        arguments: of MONAI's SwinUNETR, without ``use_v2``.
    Raises:
        ValueError: a rate of dropout is not 0; the second way knows none.
    """

    def __init__(self, *, recompute: bool = False, **arguments: Any) -> None:
        if any(arguments.get(rate) for rate in DROPOUT):
            raise ValueError(f"{', '.join(DROPOUT)} must be 0.")
        super().__init__(use_v2=True, use_checkpoint=recompute, **arguments)
        self.recompute = recompute

    def forward(self, x_in: Tensor) -> Tensor:
        """Return logits_NKXYZ of volumes_NCXYZ with edges that are multiples of 32 voxels."""
        if is_covered(x_in, self.swinViT.embed_dim):
            return self.channels_last_forward(x_in)
        return self.stock_forward(x_in)

    def stock_forward(self, volumes_NCXYZ: Tensor) -> Tensor:
        """Return logits by MONAI's own modules, for where nothing faster is known."""
        logits: Tensor = super().forward(volumes_NCXYZ)
        return logits

    def channels_last_forward(self, volumes_NCXYZ: Tensor) -> Tensor:
        """Return the same logits to rounding, faster."""
        recompute = self.recompute and torch.is_grad_enabled()
        return decoded(self, encoder_levels(self, volumes_NCXYZ.movedim(1, -1).contiguous(), recompute))
