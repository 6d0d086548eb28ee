"""The encoder's channels-last forward against MONAI's stock modules with the same weights."""

from __future__ import annotations

import pytest
import torch
from monai.networks.nets import SwinUNETR
from monai.networks.nets.swin_unetr import PatchMerging
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from voco_cli.models import fast_swin
from voco_cli.models.fast_swin import CURRENT_SLICES, is_covered
from voco_cli.models.residual_block import convolve, project, residual_block
from voco_cli.models.swin import LEGACY_SLICES, LegacyPatchMerging, SwinEncoder


def made_encoder(in_channels: int = 1, feature_size: int = 12, merging: str = "current") -> SwinEncoder:
    torch.manual_seed(0)
    encoder = SwinEncoder(in_channels, feature_size, merging)
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if name.endswith(("bias", "bias_table")):
                parameter.normal_(std=0.2)  # so that padded tokens matter
    return encoder


def gradients(encoder: SwinEncoder, embeddings: Tensor) -> dict[str, Tensor]:
    weights = torch.linspace(-1, 1, embeddings.numel(), dtype=embeddings.dtype).view_as(embeddings)
    names, parameters = zip(*encoder.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad((embeddings * weights).sum(), parameters), strict=True))


def assert_same_gradients(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        scale = max(1.0, float(gradient.abs().max()))
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=tolerance * scale, msg=name)


@pytest.mark.parametrize("sizes", [(64, 64, 64), (96, 64, 32)])
def test_embeddings_are_monai_s_in_single_precision(sizes: tuple[int, int, int]) -> None:
    encoder, crops = made_encoder(), torch.rand(1, 1, *sizes)
    with torch.no_grad():
        found, expected = encoder(crops), encoder.stock_forward(crops)
        exact = encoder.double().stock_forward(crops.double())
    torch.testing.assert_close(found.double(), exact, rtol=0, atol=6e-6)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_embeddings_are_monai_s_at_96_voxels() -> None:
    encoder, crops = made_encoder(), torch.rand(1, 1, 96, 96, 96)
    with torch.no_grad():
        exact = encoder.double().stock_forward(crops.double())
        found = encoder.float()(crops)
    torch.testing.assert_close(found.double(), exact, rtol=0, atol=6e-6)


@pytest.mark.parametrize(
    ("sizes", "channels", "merging"),
    [
        ((64, 32, 32), 1, "current"),
        pytest.param((32, 64, 32), 2, "legacy", marks=pytest.mark.slow),
        pytest.param((64, 64, 32), 1, "legacy", marks=pytest.mark.slow),
        pytest.param((96, 64, 32), 1, "current", marks=pytest.mark.slow),
    ],
)
def test_gradients_are_monai_s_in_double_precision(sizes: tuple[int, int, int], channels: int, merging: str) -> None:
    encoder = made_encoder(channels, merging=merging).double()
    crops = torch.rand(1, channels, *sizes, dtype=torch.float64)
    embeddings = encoder(crops), encoder.stock_forward(crops)
    torch.testing.assert_close(embeddings[0], embeddings[1], rtol=0, atol=1e-11)
    found, expected = (gradients(encoder, e) for e in embeddings)
    assert_same_gradients(found, expected, 1e-10)


def test_gradient_of_the_crops_is_monai_s() -> None:
    encoder = made_encoder().double()
    crops = torch.rand(1, 1, 64, 32, 32, dtype=torch.float64, requires_grad=True)
    found, expected = (
        torch.autograd.grad(out.square().sum(), crops)[0] for out in (encoder(crops), encoder.stock_forward(crops))
    )
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


def test_recomputed_activations_give_the_same_gradients() -> None:
    encoder, crops = made_encoder().double(), torch.rand(1, 1, 64, 32, 32, dtype=torch.float64)
    kept = gradients(encoder, encoder(crops))
    again = gradients(encoder, checkpoint(encoder, crops, use_reentrant=False))
    assert all(torch.equal(kept[name], again[name]) for name in kept)


def test_every_parameter_gets_a_gradient_as_distributed_training_asks() -> None:
    encoder = made_encoder()
    encoder(torch.rand(1, 1, 64, 32, 32)).sum().backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters())


def test_names_are_those_of_monai_s_network() -> None:
    ours, network = made_encoder().state_dict(), SwinUNETR(1, 2, feature_size=12, use_v2=True).state_dict()
    assert {name: value.shape for name, value in ours.items()} == {
        name: value.shape for name, value in network.items() if not name.startswith(("decoder", "out."))
    }


def test_what_is_not_covered_runs_in_monai_s_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, crops = made_encoder(), torch.rand(1, 1, 64, 32, 32)
    monkeypatch.setattr(SwinEncoder, "channels_last_forward", lambda *_: pytest.fail("not covered"))
    monkeypatch.setattr(SwinEncoder, "stock_forward", lambda *_: "stock")
    assert encoder(torch.rand(1, 1, 48, 32, 32)) == "stock"
    assert encoder(torch.rand(1, 1, 32, 32, 32)) == "stock"  # MONAI refuses it
    assert encoder(crops.bfloat16()) == "stock"
    assert encoder(crops.to("meta")) == "stock"
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert encoder(crops) == "stock"
    with monkeypatch.context() as compiling:
        compiling.setattr(torch.compiler, "is_compiling", lambda: True)
        assert not is_covered(crops, 12)
    assert is_covered(crops, 12)


@pytest.mark.parametrize("kind", [PatchMerging, LegacyPatchMerging])
def test_merged_patches_are_monai_s(kind: type[PatchMerging]) -> None:
    merging = kind(6, spatial_dims=3)
    slices = LEGACY_SLICES if kind is LegacyPatchMerging else CURRENT_SLICES
    x = torch.randn(2, 4, 6, 8, 6)
    expected = merging(x)
    torch.testing.assert_close(merging.reduction(merging.norm(fast_swin.merge_patches(x, slices))), expected)


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_residual_block_is_monai_s(channels: int) -> None:
    block = SwinEncoder._block(channels, 6).layer.double()
    x = torch.randn(2, 5, 9, 12, channels, dtype=torch.float64, requires_grad=True)
    outputs = residual_block(x, block), block(x.movedim(-1, 1)).movedim(1, -1)
    torch.testing.assert_close(*outputs, rtol=0, atol=1e-12)
    found, expected = (torch.autograd.grad(out.square().sum(), [x, *block.parameters()]) for out in outputs)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10)


def test_norm_of_many_blocks_of_rows_is_that_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight = torch.randn(2, 4, 5, 6, 3, dtype=torch.float64), torch.randn(4, 3, 1, 1, 1, dtype=torch.float64)
    whole = project(x, weight)
    monkeypatch.setattr("voco_cli.models.residual_block.NORM_AT_ONCE", 64)
    torch.testing.assert_close(project(x, weight), whole, rtol=0, atol=1e-13)
    expected = torch.nn.functional.instance_norm(torch.nn.functional.conv3d(x.movedim(-1, 1), weight)).movedim(1, -1)
    torch.testing.assert_close(whole, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("channels", [1, 3])
def test_convolution_is_torch_s(channels: int) -> None:
    x, weight = torch.randn(2, 4, 5, 6, channels), torch.randn(4, channels, 3, 3, 3)
    expected = torch.nn.functional.conv3d(x.movedim(-1, 1), weight, padding=1).movedim(1, -1)
    torch.testing.assert_close(convolve(x, weight), expected, rtol=0, atol=1e-5)
