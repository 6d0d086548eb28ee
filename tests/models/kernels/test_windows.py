"""Window attention on GPUs against padding, rolling, cutting, masking and softmax written out.

The kernels run on a CUDA device, or on a CPU in Triton's interpreter (TRITON_INTERPRET=1); elsewhere nothing runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.models.kernels.on_triton import DEVICE, INTERPRETED, bounds_of_loops, needs_triton, on_gpu
from voco_cli.models.kernels import window_attention
from voco_cli.models.kernels.window_attention import attend

__all__ = ["bounds_of_loops"]
pytestmark = needs_triton
Axes = tuple[int, int, int]
Attention = Callable[[Tensor, Tensor, Axes, Axes], Tensor]


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


# Sizes, window, shift, d: pads on all axes or none; the last window cut, empty, one token; clamped axes; odd d.
GEOMETRIES = (
    ((5, 4, 7), (3, 4, 3), (1, 0, 2), 8),
    ((7, 5, 2), (3, 3, 2), (0, 0, 0), 16),
    ((6, 6, 5), (3, 3, 3), (1, 1, 1), 16),
    ((2, 1, 3), (2, 1, 3), (0, 0, 0), 12),
)


@pytest.mark.parametrize(("sizes", "window", "shift", "d"), GEOMETRIES)
def test_output_and_gradients_are_those_of_the_plain_steps(sizes: Axes, window: Axes, shift: Axes, d: int) -> None:
    tensors = made(2, sizes, window, 2, d)
    expected = output_and_gradients(literal, *tensors, window, shift)
    for theirs, ours in zip(expected, output_and_gradients(attend, *tensors, window, shift), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=2e-5)


def test_windows_of_several_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums over blocks, over parts of the windows and over the tokens of one group of windows after the other."""
    monkeypatch.setattr(window_attention, "WINDOWS_AT_ONCE", 2)
    monkeypatch.setattr(window_attention, "WINDOWS_OF_A_PART", 2)
    tensors = made(1, (8, 6, 5), (4, 3, 5), 1, 8)
    expected = output_and_gradients(literal, *tensors, (4, 3, 5), (2, 1, 0))
    for theirs, ours in zip(expected, output_and_gradients(attend, *tensors, (4, 3, 5), (2, 1, 0)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=2e-5)


# The interpreter cannot multiply bfloat16.
HALF = (torch.float16,) if INTERPRETED else (torch.float16, torch.bfloat16)


def assert_near(found: list[Tensor], expected: list[Tensor], share: float) -> None:
    """The root mean square of the difference is at most a share of that of the values."""
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours.float() - theirs).square().mean().sqrt() <= share * theirs.square().mean().sqrt()


@pytest.mark.parametrize("dtype", HALF)
def test_half_precision_rounds_and_no_more(dtype: torch.dtype) -> None:
    geometry = (4, 4, 2), (2, 2, 0)
    qkv, bias, weights = made(1, (5, 7, 2), geometry[0], 1, 16)
    qkv, weights = qkv.to(dtype), weights.to(dtype)
    found = output_and_gradients(attend, qkv, bias, weights, *geometry)
    assert [values.dtype for values in found] == [dtype, dtype, torch.float32]
    expected = output_and_gradients(literal, qkv.float(), bias, weights.float(), *geometry)
    assert_near(found, expected, 4 * torch.finfo(dtype).eps)


def test_compilers_see_one_operator() -> None:
    qkv, bias, weights = made(1, (2, 3, 3), (2, 3, 2), 1, 8)
    compiled = torch.compile(attend, backend="aot_eager", fullgraph=True)
    shift = (0, 0, 1)
    expected = output_and_gradients(attend, qkv, bias, weights, (2, 3, 2), shift)
    for theirs, ours in zip(
        expected, output_and_gradients(compiled, qkv, bias, weights, (2, 3, 2), shift), strict=True
    ):
        assert torch.equal(ours, theirs)
    torch.library.opcheck(torch.ops.voco.window_attention.default, (qkv, bias, [2, 3, 2], list(shift)))


@pytest.mark.parametrize(
    ("window", "shift"),
    [((4, 2, 2), (0, 0, 0)), ((3, 2, 2), (3, 0, 0)), ((3, 2, 2), (1, 1, 0)), ((3, 2, 1), (1, 0, 0))],
)
def test_windows_that_do_not_fit_are_refused(window: Axes, shift: Axes) -> None:
    """Longer than an axis; shifted by a window; shifted where there is one; other than the biases."""
    qkv, bias, _ = made(1, (3, 2, 2), (3, 2, 2), 1, 8)
    with pytest.raises(ValueError, match=r"do not fit|are not those"):
        attend(qkv[:, :, :, :2], bias, window, shift)


@on_gpu
@pytest.mark.gpu
@pytest.mark.parametrize("d", [8, 16, 32, 64])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("size", "shift"), [(32, 3), (32, 0), (16, 3), (8, 3), (8, 0), (4, 0)])
def test_pre_training_crops(size: int, shift: int, dtype: torch.dtype, d: int) -> None:
    window: Axes = (min(size, 7),) * 3
    qkv, bias, weights = made(3, (size,) * 3, window, 3, d)
    qkv, weights = qkv.to(dtype), weights.to(dtype)
    found = output_and_gradients(attend, qkv, bias, weights, window, (shift,) * 3)
    expected = output_and_gradients(literal, qkv.float(), bias, weights.float(), window, (shift,) * 3)
    assert_near(found, expected, 1e-5 if dtype == torch.float32 else 4 * torch.finfo(dtype).eps)


@on_gpu
@pytest.mark.gpu
def test_gradients_are_the_same_each_time() -> None:
    tensors = made(4, (16, 16, 16), (7, 7, 7), 3, 16)
    first, second = (output_and_gradients(attend, *tensors, (7, 7, 7), (3, 3, 3)) for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
