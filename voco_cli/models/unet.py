"""The encoder of DynUNet with MONAI's blocks and names, pooled to one embedding a crop.

N crops, f = feature_size; levels of f, 2f, 4f, ... channels, each but the first halving the crop.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from monai.networks.blocks.dynunet_block import UnetBasicBlock
from monai.networks.nets import DynUNet
from torch import Tensor, nn

from voco_cli.models.tensor_shapes import level_widths


class UNetEncoder(nn.Module):
    """DynUNet's input block, down-sampling blocks and bottleneck, under MONAI's names."""

    def __init__(self, in_channels: int, feature_size: int, levels: int = 5) -> None:
        super().__init__()
        widths = level_widths(feature_size, levels)
        self.out_features = sum(widths)
        self.input_block = self._block(in_channels, widths[0], stride=1)
        *downsamples, bottleneck = (self._block(before, after, stride=2) for before, after in pairwise(widths))
        self.downsamples = nn.ModuleList(downsamples)
        self.bottleneck = bottleneck
        self.apply(DynUNet.initialize_weights)
        # Convolutions of few channels run 1.3 times as fast forward and backward on a CPU in this layout.
        self.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]  # not in torch's stubs

    @staticmethod
    def _block(in_channels: int, out_channels: int, stride: int) -> nn.Module:
        norm = ("INSTANCE", {"affine": True})
        block: nn.Module = UnetBasicBlock(3, in_channels, out_channels, kernel_size=3, stride=stride, norm_name=norm)
        return block

    def forward(self, crops_N1XYZ: Tensor) -> Tensor:
        """Pooled features.

        Args:
            crops_N1XYZ: values in [0, 1]; more voxels an edge than the levels halve away: 17 for five levels.
        Returns:
            embeddings_NE with E = (2**levels - 1) * feature_size.
        """
        x, means = crops_N1XYZ.contiguous(memory_format=torch.channels_last_3d), []
        for block in (self.input_block, *self.downsamples, self.bottleneck):
            x = block(x)
            means.append(x.mean((2, 3, 4)))
        return torch.cat(means, dim=1)
