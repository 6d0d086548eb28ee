"""The whole SwinUNETR with channels last against MONAI's own forward with the same weights."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from voco_cli.config.schema import Model
from voco_cli.models import fast_swin
from voco_cli.models.build import build_segmenter
from voco_cli.models.swin import SwinSegmenter


def made_network(*, channels: int = 1, merging: str = "current", recompute: bool = False) -> SwinSegmenter:
    torch.manual_seed(0)
    model = Model(backbone="swinunetr", feature_size=12, patch_merging=merging)
    network = build_segmenter(model, channels, 3, recompute=recompute)
    assert isinstance(network, SwinSegmenter)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith(("bias", "bias_table")):
                parameter.normal_(std=0.2)  # so that padded tokens matter
    return network


def gradients(network: SwinSegmenter, forward: Callable[[Tensor], Tensor], volumes: Tensor) -> dict[str, Tensor]:
    logits = forward(volumes)
    weights = torch.linspace(-1, 1, logits.numel(), dtype=logits.dtype).view_as(logits)
    names, parameters = zip(*network.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad((logits * weights).sum(), parameters), strict=True))


@pytest.fixture(autouse=True)
def folded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The finest decoder block is folded at these sizes too."""
    monkeypatch.setattr(fast_swin, "FOLD_VOXELS", 1 << 13)


def test_logits_are_monai_s_in_single_precision() -> None:
    network, volumes = made_network(), torch.rand(2, 1, 64, 32, 32)
    with torch.no_grad():
        found, expected = network(volumes), network.stock_forward(volumes)
        exact = network.double().stock_forward(volumes.double())
    assert found.shape == (2, 3, 64, 32, 32)
    torch.testing.assert_close(found.double(), exact, rtol=0, atol=1e-5)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("recompute", [False, True])
def test_gradients_are_monai_s_in_double_precision(recompute: bool) -> None:
    network = made_network(channels=2, merging="legacy", recompute=recompute).double()
    volumes = torch.rand(1, 2, 64, 32, 32, dtype=torch.float64)
    found = gradients(network, network.channels_last_forward, volumes)
    for name, expected in gradients(network, network.stock_forward, volumes).items():
        scale = max(1.0, float(expected.abs().max()))
        torch.testing.assert_close(found[name], expected, rtol=0, atol=1e-10 * scale, msg=name)


def test_gradients_in_single_precision_are_as_near_as_monai_s() -> None:
    network, volumes = made_network(), torch.rand(1, 1, 64, 32, 32)
    found, stock = (gradients(network, way, volumes) for way in (network, network.stock_forward))
    network, volumes = network.double(), volumes.double()
    exact = gradients(network, network.stock_forward, volumes)
    errors = {
        who: max(float((given[name] - exact[name]).norm() / (exact[name].norm() + 1e-3)) for name in exact)
        for who, given in (("ours", found), ("MONAI's", stock))
    }
    assert errors["ours"] < 2 * errors["MONAI's"] + 1e-4


def test_dropout_is_refused() -> None:
    with pytest.raises(ValueError, match="drop_rate"):
        SwinSegmenter(in_channels=1, out_channels=2, feature_size=12, drop_rate=0.1)


def test_other_edges_are_left_to_monai() -> None:
    with pytest.raises(ValueError, match="must be divisible by 2"):
        made_network()(torch.rand(1, 1, 48, 32, 32))
