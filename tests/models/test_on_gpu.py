"""The networks on a GPU against MONAI's own forward there, with the same weights."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tests.models.test_swin_segmenter import made_network
from voco_cli.models.kernels import triton_here
from voco_cli.models.swin import SwinEncoder, SwinSegmenter

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.skipif(not triton_here.is_available(), reason="needs triton"),
    pytest.mark.filterwarnings("ignore"),  # torch.compile tells of its own modules' deprecations
]
GPU = torch.device("cuda")


@pytest.fixture(autouse=True)
def exact_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def made_encoder(feature_size: int, merging: str = "current") -> SwinEncoder:
    torch.manual_seed(0)
    encoder = SwinEncoder(1, feature_size, merging)
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if name.endswith(("bias", "bias_table")):
                parameter.normal_(std=0.2)  # so that padded tokens matter
    return encoder.to(GPU)


def run(network: nn.Module, forward: Callable[[Tensor], Tensor], images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    out = forward(images).double()
    weights = torch.linspace(-1, 1, out.numel(), dtype=torch.float64, device=GPU).view_as(out)
    names, parameters = zip(*network.named_parameters(), strict=True)
    return out.detach(), dict(zip(names, torch.autograd.grad((out * weights).sum(), parameters), strict=True))


def relative(found: Tensor, exact: Tensor) -> float:
    return float((found.double() - exact.double()).norm() / exact.double().norm().clamp_min(1e-9))


@pytest.mark.parametrize(("merging", "size"), [("legacy", (64, 32, 32)), ("current", (64, 64, 64))])
def test_embeddings_and_gradients_are_monai_s(merging: str, size: tuple[int, int, int]) -> None:
    encoder, crops = made_encoder(48, merging), torch.rand(2, 1, *size, device=GPU)
    exact, exact_gradients = run(encoder.double(), encoder.stock_forward, crops.double())
    found, gradients = run(encoder.float(), encoder.channels_last_forward, crops)
    # Not closer: the last norm of the small size is over two voxels.
    assert relative(found, exact) < 1e-4
    errors = sorted(relative(gradients[name], exact_gradients[name]) for name in gradients)
    assert errors[len(errors) // 2] < 1e-3


def test_half_precision_is_as_exact_as_monai_s() -> None:
    encoder, crops = made_encoder(48), torch.rand(2, 1, 64, 64, 64, device=GPU)
    with torch.no_grad():
        exact = encoder.stock_forward(crops)
        with torch.autocast("cuda", torch.bfloat16):
            stock, ours = encoder.stock_forward(crops), encoder.channels_last_forward(crops)
    assert relative(ours, exact) < 1.5 * relative(stock, exact)


def test_compiled_as_one_graph_it_is_the_same() -> None:
    encoder, crops = made_encoder(24), torch.rand(2, 1, 64, 64, 64, device=GPU)
    expected, gradients = run(encoder, encoder.channels_last_forward, crops)
    found, compiled = run(encoder, torch.compile(encoder, fullgraph=True, dynamic=False), crops)
    assert relative(found, expected) < 1e-5
    errors = sorted(relative(compiled[name], gradients[name]) for name in gradients)
    assert errors[len(errors) // 2] < 1e-3


def test_logits_are_monai_s() -> None:
    network = made_network()
    network.to(GPU)
    assert isinstance(network, SwinSegmenter)
    volumes = torch.rand(1, 1, 96, 64, 32, device=GPU)
    exact, exact_gradients = run(network.double(), network.stock_forward, volumes.double())
    found, gradients = run(network.float(), network.channels_last_forward, volumes)
    assert relative(found, exact) < 1e-5
    errors = sorted(relative(gradients[name], exact_gradients[name]) for name in gradients)
    assert errors[len(errors) // 2] < 1e-3
