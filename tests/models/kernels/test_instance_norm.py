"""Instance norm, sum and leaky ReLU in one, against torch's three in double precision."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.models.kernels.on_triton import DEVICE, INTERPRETED, bounds_of_loops, needs_triton
from voco_cli.models.kernels import instance_norm

__all__ = ["bounds_of_loops"]
pytestmark = needs_triton


def plainly(x: Tensor, residual: Tensor | None, slope: float) -> Tensor:
    y = F.instance_norm(x.movedim(-1, 1)).movedim(1, -1)
    return F.leaky_relu(y if residual is None else y + residual, slope)


@pytest.mark.parametrize("slope", [0.01, 1.0])
@pytest.mark.parametrize("has_residual", [True, False])
@pytest.mark.parametrize("shape", [(2, 8, 6, 4, 12), (1, 3, 3, 3, 130), (2, 16, 8, 8, 48)])
def test_values_and_gradients(shape: tuple[int, ...], has_residual: bool, slope: float) -> None:
    torch.manual_seed(0)
    x, residual, grad = (3 * torch.randn(shape, device=DEVICE) + 5 for _ in range(3))
    found, exact = [], []
    for results, kind, forward in (
        (found, torch.float32, instance_norm.norm_add_leaky),
        (exact, torch.float64, plainly),
    ):
        inputs = [one.to(kind).requires_grad_() for one in ((x, residual) if has_residual else (x,))]
        y = forward(inputs[0], inputs[1] if has_residual else None, slope)
        results += [y, *torch.autograd.grad(y, inputs, grad.to(kind))]
    for one, other in zip(found, exact, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-5)


def test_gradient_of_a_mean_over_space() -> None:
    torch.manual_seed(0)
    x, weights = torch.randn(2, 4, 4, 4, 24, device=DEVICE), torch.randn(2, 24, device=DEVICE)
    gradients = []
    for kind, forward in ((torch.float32, instance_norm.norm_add_leaky), (torch.float64, plainly)):
        one = x.to(kind).requires_grad_()
        gradients += torch.autograd.grad((forward(one, None, 0.01).mean((1, 2, 3)) * weights).sum(), one)
    torch.testing.assert_close(gradients[0].double(), gradients[1], rtol=1e-5, atol=1e-6)


def test_compilers_can_see_through_it() -> None:
    x, residual = (torch.randn(2, 4, 2, 2, 12, device=DEVICE).requires_grad_() for _ in range(2))
    for added in (residual, None):
        checks = torch.library.opcheck(instance_norm._norm_add_leaky, (x, added, 0.01))
        assert set(checks.values()) == {"SUCCESS"}


def test_half_precision_is_rounded_once() -> None:
    torch.manual_seed(0)
    x, residual = (torch.randn(2, 8, 4, 4, 48, device=DEVICE) for _ in range(2))
    y = instance_norm.norm_add_leaky(x.bfloat16(), residual, 0.01)
    assert y.dtype == torch.bfloat16
    exact = plainly(x.bfloat16().double(), residual.double(), 0.01)
    # The interpreter cuts what a device rounds.
    torch.testing.assert_close(y.double(), exact, rtol=2**-7 if INTERPRETED else 2**-8, atol=1e-4)
