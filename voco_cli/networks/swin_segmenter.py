"""MONAI's SwinUNETR v2 as a whole; its parameters are computed with channels last where its encoder's are.

N volumes; X, Y, Z voxels or tokens along the axes; C channels; K classes.
"""

from __future__ import annotations

from typing import Any

import torch
from monai.networks.nets import SwinUNETR
from torch import Tensor

from voco_cli.networks.channels_last import encoder_levels, is_covered
from voco_cli.networks.decoder import decoder_block
from voco_cli.networks.onednn import linear

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
        """Logits_NKXYZ of volumes_NCXYZ with edges that are multiples of 32 voxels."""
        if is_covered(x_in, self.swinViT.embed_dim):
            return self.channels_last_forward(x_in)
        return self.stock_forward(x_in)

    def stock_forward(self, volumes_NCXYZ: Tensor) -> Tensor:
        """By MONAI's own modules: where nothing faster is known."""
        logits: Tensor = super().forward(volumes_NCXYZ)
        return logits

    def channels_last_forward(self, volumes_NCXYZ: Tensor) -> Tensor:
        """The same, faster."""
        recompute = self.recompute and torch.is_grad_enabled()
        fine, plain, x = encoder_levels(self, volumes_NCXYZ.movedim(1, -1).contiguous(), recompute)
        ups = (self.decoder5, self.decoder4, self.decoder3, self.decoder2, self.decoder1)
        for up, skip in zip(ups, (plain, *reversed(fine)), strict=True):
            x = decoder_block(x, skip, up)
        out = self.out.conv.conv
        return linear(x, out.weight.flatten(1), out.bias).movedim(-1, 1)
