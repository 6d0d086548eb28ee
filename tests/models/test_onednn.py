"""Linear layers and convolutions through oneDNN against torch's own, in values and gradients."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from voco_cli.models import onednn


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_linear_and_its_gradients(dtype: torch.dtype, with_bias: bool) -> None:
    torch.manual_seed(0)
    tokens = torch.rand(2, 3, 4, 5, 6, dtype=dtype).movedim(1, 2).requires_grad_()  # not contiguous
    weight = torch.rand(7, 6, dtype=dtype, requires_grad=True)
    bias = torch.rand(7, dtype=dtype, requires_grad=True) if with_bias else None
    inputs = [one for one in (tokens, weight, bias) if one is not None]
    outputs = onednn.linear(tokens, weight, bias), F.linear(tokens, weight, bias)
    torch.testing.assert_close(*outputs)
    weights = torch.linspace(-1, 1, outputs[0].numel(), dtype=dtype).view_as(outputs[0])
    for found, expected in zip(*(torch.autograd.grad((out * weights).sum(), inputs) for out in outputs), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_tokens_that_need_no_gradient_get_none() -> None:
    tokens, weight = torch.rand(3, 2), torch.rand(4, 2, requires_grad=True)
    onednn.linear(tokens, weight).sum().backward()
    assert tokens.grad is None
    assert weight.grad is not None
    torch.testing.assert_close(weight.grad, tokens.sum(0).expand(4, -1))


def test_a_compiler_sees_torchs_own_ways_and_no_break() -> None:
    tokens, weight = torch.rand(3, 2), torch.rand(4, 2)
    found = torch.compile(onednn.linear, backend="eager", fullgraph=True)(tokens, weight)
    torch.testing.assert_close(found, F.linear(tokens, weight))
    image, kernel = torch.rand(1, 2, 3, 3, 3), torch.rand(2, 2, 1, 1, 1)
    found = torch.compile(onednn.convolve, backend="eager", fullgraph=True)(image, kernel, 0)
    torch.testing.assert_close(found, F.conv3d(image, kernel))


def test_what_is_done_to_the_tokens_in_place_is_differentiated() -> None:
    tokens, weight = torch.rand(3, 2), torch.rand(4, 2, requires_grad=True)
    made = onednn.linear(tokens, weight)
    made[1:].mul_(2.0)
    (gradient,) = torch.autograd.grad(made.sum(), weight)
    torch.testing.assert_close(gradient, (tokens * torch.tensor([[1.0], [2.0], [2.0]])).sum(0).expand(4, -1))


@pytest.mark.parametrize(("size", "padding"), [(3, 1), (2, 1), (1, 0)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_convolution_of_one_small_volume(size: int, padding: int, layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    x = torch.rand(1, 4, 5, 6, 7).contiguous(memory_format=layout).requires_grad_()
    weight = torch.rand(3, 4, size, size, size, requires_grad=True)
    outputs = onednn.convolve(x, weight, padding), F.conv3d(x, weight, padding=padding)
    torch.testing.assert_close(*outputs)
    for found, expected in zip(*(torch.autograd.grad((out**2).sum(), (x, weight)) for out in outputs), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
