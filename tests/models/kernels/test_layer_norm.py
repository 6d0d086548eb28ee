"""Layer norm in Triton against torch's in double precision."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from tests.models.kernels.on_triton import DEVICE, bounds_of_loops, needs_triton
from voco_cli.models.kernels.layer_norm import _layer_norm, layer_norm

__all__ = ["bounds_of_loops"]
pytestmark = needs_triton


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("shape", [(3, 70, 12), (2, 5, 300), (3, 5000)])
def test_values_and_gradients(shape: tuple[int, ...], affine: bool) -> None:
    assert_equals_double(shape, affine)


def assert_equals_double(shape: tuple[int, ...], affine: bool) -> None:
    torch.manual_seed(0)
    x, grad = (3 * torch.randn(shape, device=DEVICE) + 5 for _ in range(2))
    parameters = [torch.randn(shape[-1], device=DEVICE) for _ in range(2 * affine)]
    results = []
    for kind in (torch.float32, torch.float64):
        inputs = [one.to(kind).requires_grad_() for one in (x, *parameters)]
        exact = kind == torch.float64
        y = F.layer_norm(inputs[0], shape[-1:], *inputs[1:]) if exact else layer_norm(*inputs)
        results.append([y, *torch.autograd.grad(y, inputs, grad.to(kind))])
    for found, expected in zip(*results, strict=True):
        # Of sums over all rows the rounding is that of their largest addends.
        torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=max(2e-5, 2e-6 * len(x.flatten(0, -2))))


def test_programs_of_many_steps_sum_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voco_cli.models.kernels.layer_norm.MOST_PROGRAMS", 2)
    assert_equals_double((7, 130, 24), affine=True)


def test_compilers_can_see_through_it() -> None:
    x, weight, bias = torch.randn(6, 12, device=DEVICE), torch.randn(12, device=DEVICE), torch.randn(12, device=DEVICE)
    for parameters in ((weight, bias), (None, None)):
        inputs = [None if one is None else one.clone().requires_grad_() for one in (x, *parameters)]
        assert set(torch.library.opcheck(_layer_norm, tuple(inputs)).values()) == {"SUCCESS"}


def test_half_precision_stays() -> None:
    x = torch.randn(100, 48, device=DEVICE).bfloat16()
    y = layer_norm(x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.double(), F.layer_norm(x.double(), (48,)), rtol=2**-7, atol=1e-3)
