"""Window attention on GPUs against padding, rolling, cutting, masking and softmax written out.

The kernels run on a CUDA device, or on a CPU in Triton's interpreter (TRITON_INTERPRET=1); elsewhere nothing runs.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from voco_cli.networks import window_kernels
from voco_cli.networks.window_kernels import attend

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
pytestmark = pytest.mark.skipif(
    not window_kernels.is_available() or not (INTERPRETED or torch.cuda.is_available()),
    reason="needs Triton with its interpreter or a CUDA device",
)
on_gpu = pytest.mark.skipif(INTERPRETED or not torch.cuda.is_available(), reason="needs a CUDA device")
Axes = tuple[int, int, int]
Attention = Callable[[Tensor, Tensor, Axes, Axes], Tensor]


@pytest.fixture(autouse=True)
def _bounds_of_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton's interpreter calls int() on arrays of one number, which numpy 2.5 no longer converts."""
    if not INTERPRETED:
        return
    interpreter = pytest.importorskip("triton.runtime.interpreter")
    patch = interpreter._patch_lang_tensor

    def patch_and_convert(tensor: object, scope: Any) -> None:
        patch(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    monkeypatch.setattr(interpreter, "_patch_lang_tensor", patch_and_convert)


def cut(x_BXYZC: Tensor, window: Axes) -> Tensor:
    """Windows as (B, windows, tokens, C)."""
    a, b, c = window
    split = x_BXYZC.unflatten(3, (-1, c)).unflatten(2, (-1, b)).unflatten(1, (-1, a))
    return split.permute(0, 1, 3, 5, 2, 4, 6, 7).flatten(4, 6).flatten(1, 3)


def literal(qkv_BXYZF: Tensor, bias_Hnn: Tensor, window: Axes, shift: Axes) -> Tensor:
    """MONAI's steps one by one; a token's region is told by where it stands after padding and rolling."""
    sizes, heads = qkv_BXYZF.shape[1:4], len(bias_Hnn)
    px, py, pz = (-size % length for size, length in zip(sizes, window, strict=True))
    rolled = F.pad(qkv_BXYZF, (0, 0, 0, pz, 0, py, 0, px)).roll([-by for by in shift], (1, 2, 3))
    padded = rolled.shape[1:4]
    region = torch.zeros(1, *padded, 1, device=qkv_BXYZF.device)
    for axis, (size, length, by) in enumerate(zip(padded, window, shift, strict=True), start=1):
        of_axis = [0 if by == 0 or i < size - length else 1 if i < size - by else 2 for i in range(size)]
        region = 3 * region + region.new_tensor(of_axis).view([-1 if i == axis else 1 for i in range(5)])
    regions = cut(region, window)[..., 0]
    q, k, v = cut(rolled, window).unflatten(-1, (3, heads, -1)).permute(3, 0, 1, 4, 2, 5)
    scores = q @ k.mT / math.sqrt(q.shape[-1]) + bias_Hnn
    scores = scores - 100.0 * (regions[:, :, None] != regions[..., None])[:, :, None]
    mixed = (scores.softmax(-1) @ v).transpose(2, 3).flatten(3)
    counts = [size // length for size, length in zip(padded, window, strict=True)]
    whole = mixed.unflatten(2, window).unflatten(1, counts).permute(0, 1, 4, 2, 5, 3, 6, 7)
    whole = whole.flatten(5, 6).flatten(3, 4).flatten(1, 2).roll(shift, (1, 2, 3))
    return whole[:, : sizes[0], : sizes[1], : sizes[2]]


def made(crops: int, sizes: Axes, window: Axes, heads: int, d: int) -> tuple[Tensor, Tensor, Tensor]:
    """qkv_BXYZF, bias_Hnn and weights of the outputs, whose weighted sum is differentiated."""
    generator = torch.Generator().manual_seed(0)
    shapes = (crops, *sizes, 3 * heads * d), (heads, *[math.prod(window)] * 2), (crops, *sizes, heads * d)
    qkv, bias, weights = (torch.randn(shape, generator=generator).to(DEVICE) for shape in shapes)
    return qkv, bias, weights


def output_and_gradients(
    attention: Attention, qkv: Tensor, bias: Tensor, weights: Tensor, window: Axes, shift: Axes
) -> list[Tensor]:
    qkv, bias = qkv.clone().requires_grad_(), bias.clone().requires_grad_()
    out = attention(qkv, bias, window, shift)
    return [out.detach(), *torch.autograd.grad((out * weights).sum(), [qkv, bias])]


# Sizes, window, shift: pads on all axes or none; cut windows of one token and of pads alone; clamped axes.
GEOMETRIES = (
    ((9, 8, 7), (4, 4, 4), (2, 2, 2), 8),
    ((9, 8, 7), (4, 4, 4), (0, 0, 0), 16),
    ((5, 6, 7), (4, 4, 4), (3, 1, 2), 16),
    ((5, 7, 4), (4, 4, 4), (2, 2, 0), 8),
    ((2, 1, 3), (2, 1, 3), (0, 0, 0), 12),
)


@pytest.mark.parametrize(("sizes", "window", "shift", "d"), GEOMETRIES)
def test_output_and_gradients_are_those_of_the_plain_steps(sizes: Axes, window: Axes, shift: Axes, d: int) -> None:
    tensors = made(2, sizes, window, 2, d)
    expected = output_and_gradients(literal, *tensors, window, shift)
    for theirs, ours in zip(expected, output_and_gradients(attend, *tensors, window, shift), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=2e-5)
