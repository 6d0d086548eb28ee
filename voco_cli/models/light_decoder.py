"""A decoder over any encoder: small, so that what is learned is learned by the encoder.

N crops; W channels of a level; K values of a voxel; X, Y, Z voxels of a level along the axes.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

HIDDEN = 16
"""Channels at every level."""


class LightDecoder(nn.Module):
    """Add up the levels of an encoder from the coarsest to the finest, each brought to the same few channels.

    A step up is trilinear; convolutions are of one voxel. The way of adding is that of feature pyramids (Lin et al.,
    CVPR 2017), without their convolutions of three voxels.

    Args:
        widths: channels of each level, the finest first.
        out_channels: K.
        hidden: channels of the sums.
    """

    def __init__(self, widths: Sequence[int], out_channels: int, hidden: int = HIDDEN) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(nn.Conv3d(width, hidden, 1) for width in widths)
        self.mixers = nn.ModuleList(nn.Conv3d(hidden, hidden, 1) for _ in widths)
        self.output = nn.Conv3d(hidden, out_channels, 1)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Return values_NKXYZ of maps_NWXYZ, in the size of the first of them."""
        x = None
        for level, lateral, mixer in reversed(list(zip(levels, self.laterals, self.mixers, strict=True))):
            own = lateral(level)
            if x is not None:
                own = own + F.interpolate(x, own.shape[2:], mode="trilinear", align_corners=False)
            x = F.leaky_relu(mixer(F.leaky_relu(own)))
        values_NKXYZ: Tensor = self.output(x)
        return values_NKXYZ
