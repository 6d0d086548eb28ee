"""The convolutional encoder against MONAI's own DynUNet."""

from __future__ import annotations

import pytest
import torch
from monai.networks.nets import DynUNet
from torch import Tensor, nn

from voco_cli.models.unet import UNetEncoder

F = 4


def encoder(in_channels: int = 1) -> UNetEncoder:
    torch.manual_seed(0)
    return UNetEncoder(in_channels, F)


def monais_network(in_channels: int = 1) -> DynUNet:
    return DynUNet(
        spatial_dims=3,
        in_channels=in_channels,
        out_channels=2,
        kernel_size=[3] * 5,
        strides=[1, 2, 2, 2, 2],
        upsample_kernel_size=[2, 2, 2, 2],
        filters=[F, 2 * F, 4 * F, 8 * F, 16 * F],
    )


@pytest.mark.parametrize("in_channels", [1, 2])
@torch.no_grad()
def test_features_are_those_of_monais_network(in_channels: int) -> None:
    ours, network = encoder(in_channels), monais_network(in_channels)
    found = network.load_state_dict(ours.state_dict(), strict=False)
    assert not found.unexpected_keys
    means: list[Tensor] = []

    def keep(module: nn.Module, args: object, out: Tensor) -> None:
        means.append(out.mean((2, 3, 4)))

    for block in (network.input_block, *network.downsamples, network.bottleneck):
        block.register_forward_hook(keep)
    crops = torch.rand(2, in_channels, 32, 32, 48)
    network(crops)
    features = ours(crops)
    assert features.shape == (2, ours.out_features) == (2, 31 * F)
    torch.testing.assert_close(features, torch.cat(means, 1), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_an_encoder_never_mixes_crops() -> None:
    ours, crops = encoder(), torch.rand(3, 1, 24, 24, 24)
    torch.testing.assert_close(ours(crops)[1:2], ours(crops[1:2]), atol=1e-5, rtol=1e-5)


def test_least_crop() -> None:
    """The rule of the settings: 17 voxels an edge; of 16 a single voxel reaches the last level."""
    assert encoder()(torch.rand(1, 1, 17, 17, 17)).isfinite().all()
    with pytest.raises(ValueError, match="more than 1 spatial element"):
        encoder()(torch.rand(1, 1, 16, 16, 16))


def test_all_weights_get_a_gradient() -> None:
    ours = encoder()
    ours(torch.rand(2, 1, 24, 24, 24)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in ours.parameters())
    assert len(list(ours.parameters())) == 5 * 6  # two convolutions and two norms of two weights, on five levels
