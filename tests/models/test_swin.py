"""The transformer's encoder against MONAI's own SwinUNETR, and the old patch merging against its slices."""

from __future__ import annotations

import types

import pytest
import torch
from monai.networks.nets import SwinUNETR
from monai.networks.nets.swin_unetr import PatchMerging
from torch import Tensor, nn
from torch.nn import functional as F

from voco_cli.models.swin import LegacyPatchMerging, SwinEncoder

LEVELS = ("encoder1", "encoder2", "encoder3", "encoder4", "encoder10")


class Enough(Exception):
    """The encoder has run; the decoder need not."""


def encoder(patch_merging: str = "current", in_channels: int = 1) -> SwinEncoder:
    torch.manual_seed(0)
    return SwinEncoder(in_channels, 12, patch_merging).eval()


def old_slices(self: nn.Module, x: Tensor) -> Tensor:
    """What MONAI did before its release 1.5: eight slices, of which the last but two repeat others."""
    _, d, h, w, _ = x.shape
    x = F.pad(x, (0, 0, 0, w % 2, 0, h % 2, 0, d % 2))
    x0 = x[:, 0::2, 0::2, 0::2, :]
    x1 = x[:, 1::2, 0::2, 0::2, :]
    x2 = x[:, 0::2, 1::2, 0::2, :]
    x3 = x[:, 0::2, 0::2, 1::2, :]
    x4 = x[:, 1::2, 0::2, 1::2, :]
    x5 = x[:, 0::2, 1::2, 0::2, :]
    x6 = x[:, 0::2, 0::2, 1::2, :]
    x7 = x[:, 1::2, 1::2, 1::2, :]
    x = torch.cat([x0, x1, x2, x3, x4, x5, x6, x7], -1)
    return self.reduction(self.norm(x))  # type: ignore[no-any-return, operator]


def monais_features(weights: dict[str, Tensor], crops: Tensor, legacy: bool) -> Tensor:
    """Means over space of what passes through the encoder blocks of MONAI's own network, in double precision."""
    network = SwinUNETR(crops.shape[1], 2, feature_size=12, use_v2=True).double().eval()
    found = network.load_state_dict(weights, strict=False)
    assert not found.unexpected_keys
    assert all(key.startswith(("decoder", "out.")) for key in found.missing_keys)
    if legacy:
        for module in network.modules():
            if isinstance(module, PatchMerging):
                module.forward = types.MethodType(old_slices, module)
    means: dict[str, Tensor] = {}
    for name in LEVELS:

        def keep(module: nn.Module, args: object, out: Tensor, name: str = name) -> None:
            means[name] = out.mean((2, 3, 4))
            if name == LEVELS[-1]:
                raise Enough

        network.get_submodule(name).register_forward_hook(keep)
    with pytest.raises(Enough):
        network(crops)
    return torch.cat([means[name] for name in LEVELS], dim=1)


@pytest.mark.parametrize("patch_merging", ["current", "legacy"])
@torch.no_grad()
def test_features_are_those_of_monais_network(patch_merging: str) -> None:
    # In double precision, as the norm of the two voxels at the last level magnifies roundings.
    ours, crops = encoder(patch_merging).double(), torch.rand(1, 1, 64, 32, 32, dtype=torch.float64)
    found = ours(crops)
    assert found.shape == (1, ours.out_features) == (1, 24 * 12)
    expected = monais_features(ours.state_dict(), crops, patch_merging == "legacy")
    torch.testing.assert_close(found, expected, atol=1e-9, rtol=1e-9)
    single = encoder(patch_merging)(crops.float())
    torch.testing.assert_close(single.double(), expected, atol=1e-3, rtol=1e-3)


@pytest.mark.slow
@torch.no_grad()
def test_several_input_channels() -> None:
    ours, crops = encoder(in_channels=2).double(), torch.rand(1, 2, 32, 64, 32, dtype=torch.float64)
    torch.testing.assert_close(ours(crops), monais_features(ours.state_dict(), crops, False), atol=1e-9, rtol=1e-9)


@torch.no_grad()
def test_old_and_new_patch_merging_share_their_weights_and_not_their_features() -> None:
    current, legacy = encoder("current"), encoder("legacy")
    assert current.state_dict().keys() == legacy.state_dict().keys()
    legacy.load_state_dict(current.state_dict())
    crops = torch.rand(1, 1, 64, 32, 32)
    one, other = current(crops), legacy(crops)
    # The first two levels come before any merging.
    torch.testing.assert_close(one[:, :24], other[:, :24])
    assert (one[:, 24:] - other[:, 24:]).abs().max() > 1e-2


def test_old_patch_merging_voxel_by_voxel() -> None:
    merging = LegacyPatchMerging(1, nn.LayerNorm, 3)
    merging.norm, merging.reduction = nn.Identity(), nn.Identity()
    voxels = torch.tensor([4.0 * x + 2.0 * y + z for x in (0, 1) for y in (0, 1) for z in (0, 1)])
    merged = merging(voxels.view(1, 2, 2, 2, 1)).flatten().tolist()
    # Voxels (1, 1, 0) = 6 and (0, 1, 1) = 3 are left out; 2 and 1 stand twice.
    assert merged == [0, 4, 2, 1, 5, 2, 1, 7]


@pytest.mark.parametrize("size", [(4, 4, 4), (3, 4, 5), (5, 3, 3)])
def test_old_patch_merging_also_of_odd_sizes(size: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    merging = LegacyPatchMerging(6, nn.LayerNorm, 3)
    x = torch.rand(2, *size, 6)
    found = merging(x)
    assert found.shape == (2, *[(edge + 1) // 2 for edge in size], 12)
    torch.testing.assert_close(found, old_slices(merging, x))


@pytest.mark.slow
@torch.no_grad()
def test_an_encoder_never_mixes_crops() -> None:
    ours, crops = encoder().double().train(), torch.rand(2, 1, 64, 32, 32, dtype=torch.float64)
    torch.testing.assert_close(ours(crops)[:1], ours(crops[:1]), atol=1e-9, rtol=1e-9)


def test_least_crop() -> None:
    """The rule of the settings: 64x32x32; of 32x32x32 MONAI's last level has one voxel, and no variance."""
    assert encoder().train()(torch.rand(1, 1, 64, 32, 32)).isfinite().all()
    with torch.no_grad(), pytest.raises(ValueError, match="more than 1 spatial element"):
        SwinUNETR(1, 2, feature_size=12, use_v2=True)(torch.rand(1, 1, 32, 32, 32))
