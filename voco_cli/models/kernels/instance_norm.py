"""Instance norm, residual sum and leaky ReLU of channels-last tokens on GPUs, in Triton.

One pass measures, a second computes. Torch has no instance norm for this layout: it would move the channels first and
back, and walk over the tokens again for the sum and the ReLU.

What is computed: y = leaky ReLU(h + residual), h = scale (x - mean), with the mean over the voxels of a crop and
scale = 1 / sqrt(variance + eps).

Letters: B crops; V voxels of a crop; C channels; K chunks of equally many voxels: a program sums over one of them.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, disable-error-code="untyped-decorator"

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from voco_cli.models.kernels.triton_here import kernel, tl, triton

NORM_EPS = 1e-5
"""Added to the variance, as torch's instance norm has it."""
MOST_CHUNKS = 128
TILE = 4096
"""Values that a program holds at a time."""
WIDEST = 128
"""Channels of a tile at most."""


def norm_add_leaky(x_BXYZC: Tensor, residual_BXYZC: Tensor | None, slope: float) -> Tensor:
    """Return leaky ReLU(instance norm(x) + residual).

    Args:
        x_BXYZC: float32, bfloat16 or float16.
        residual_BXYZC: of any of these types; none adds nothing.
        slope: of the leaky ReLU below 0; 1 leaves it out.
    Returns:
        y_BXYZC in the type of ``x_BXYZC``.
    """
    residual = None if residual_BXYZC is None else residual_BXYZC.contiguous()
    y: Tensor = _norm_add_leaky(x_BXYZC.contiguous(), residual, slope)[0]
    return y


@torch.library.custom_op("voco::norm_add_leaky", mutates_args=())
def _norm_add_leaky(x: Tensor, residual: Tensor | None, slope: float) -> tuple[Tensor, Tensor, Tensor]:
    y, launch = torch.empty_like(x), _Launch(x)
    mean_BKC, variance_BKC = x.new_empty(2, len(x), launch.chunks, x.shape[-1], dtype=torch.float32)
    with torch.cuda.device_of(x):
        launch.by_chunk(_moments, x, mean_BKC, variance_BKC)
        mean_BC = mean_BKC.mean(1)
        scale_BC = (variance_BKC.mean(1) + mean_BKC.var(1, correction=0) + NORM_EPS).rsqrt()
        added = x if residual is None else residual
        launch.by_tile(_forward, x, added, y, mean_BC, scale_BC, slope, residual is not None)
    return y, mean_BC, scale_BC


@_norm_add_leaky.register_fake
def _(x: Tensor, residual: Tensor | None, slope: float) -> tuple[Tensor, Tensor, Tensor]:
    of_crops = x.new_empty(len(x), x.shape[-1], dtype=torch.float32)
    return torch.empty_like(x), of_crops, torch.empty_like(of_crops)


@torch.library.custom_op("voco::norm_add_leaky_backward", mutates_args=())
def _differentiate(
    grad: Tensor,
    x: Tensor,
    y: Tensor,
    mean_BC: Tensor,
    scale_BC: Tensor,
    slope: float,
    residual_type: torch.dtype | None,
) -> tuple[Tensor, Tensor]:
    """Compute grad_x = scale (g - mean of g - h * mean of g h) from h's gradient g, which is the residual's too."""
    launch, grad_x = _Launch(x), torch.empty_like(x)
    grad_residual = torch.empty_like(x, dtype=residual_type) if residual_type else x.new_empty(0)
    g_BKC, along_BKC = x.new_empty(2, len(x), launch.chunks, x.shape[-1], dtype=torch.float32)
    # The gradient of a mean over space is the same row again and again, and need not be written out.
    strides = grad.stride(0), grad.stride(3)
    with torch.cuda.device_of(x):
        launch.by_chunk(_gradient_means, grad, x, y, mean_BC, scale_BC, g_BKC, along_BKC, slope, *strides)
        means = g_BKC.mean(1), along_BKC.mean(1)
        written = grad_residual if residual_type else grad_x
        known = (grad, x, y, mean_BC, scale_BC, *means)
        launch.by_tile(_backward, *known, grad_x, written, slope, *strides, residual_type is not None)
    return grad_x, grad_residual


@_differentiate.register_fake
def _(_grad: Tensor, x: Tensor, *others: Any) -> tuple[Tensor, Tensor]:
    residual_type = others[-1]
    return torch.empty_like(x), torch.empty_like(x, dtype=residual_type) if residual_type else x.new_empty(0)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    x, residual, ctx.slope = inputs
    ctx.residual_type = None if residual is None else residual.dtype
    ctx.save_for_backward(x, *output)
    ctx.set_materialize_grads(False)


def _derive(ctx: Any, grad: Tensor | None, *_: Tensor | None) -> tuple[Tensor | None, Tensor | None, None]:
    if grad is None:
        return None, None, None
    rows = grad.stride(4) == 1 and grad.stride(2) == grad.shape[3] * grad.stride(3)
    if not (rows and grad.stride(1) == grad.shape[2] * grad.stride(2)):
        grad = grad.contiguous()
    grad_x, grad_residual = _differentiate(grad, *ctx.saved_tensors, ctx.slope, ctx.residual_type)
    return grad_x, grad_residual if ctx.residual_type else None, None


_norm_add_leaky.register_autograd(_derive, setup_context=_remember)


class _Launch:
    """How the kernels are launched for tokens of a shape."""

    def __init__(self, x: Tensor) -> None:
        self.crops, self.channels = len(x), x.shape[-1]
        self.voxels = x[0, ..., 0].numel()
        self.columns = min(WIDEST, triton.next_power_of_2(self.channels))
        self.rows = TILE // self.columns
        self.chunks = min(MOST_CHUNKS, self.voxels & -self.voxels)

    def by_chunk(self, one: Any, *arguments: Any) -> None:
        grid = (self.chunks, self.crops, triton.cdiv(self.channels, self.columns))
        one[grid](*arguments, self.voxels // self.chunks, self.channels, self.rows, self.columns)

    def by_tile(self, one: Any, *arguments: Any) -> None:
        grid = (triton.cdiv(self.voxels, self.rows), self.crops, triton.cdiv(self.channels, self.columns))
        *tensors, flag = arguments
        one[grid](*tensors, self.voxels, self.channels, flag, self.rows, self.columns)


@kernel(do_not_specialize=["size"])
def _moments(x, means, variances, size, channels, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Write mean and variance over a chunk of ``size`` voxels, summing differences from the first tile's mean."""
    part = tl.program_id(1) * tl.num_programs(0) + tl.program_id(0)
    row, column = tl.arange(0, ROWS), tl.program_id(2) * COLUMNS + tl.arange(0, COLUMNS)
    places = x + part.to(tl.int64) * size * channels + row[:, None] * channels + column[None, :]
    exists = (column < channels)[None, :]
    first = tl.load(places, mask=(row < size)[:, None] & exists, other=0.0).to(tl.float32)
    pivot = tl.sum(first, 0) / tl.minimum(size, ROWS)
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    squares = tl.zeros((ROWS, COLUMNS), tl.float32)
    for start in range(0, size, ROWS):
        there = (start + row < size)[:, None] & exists
        values = tl.load(places + start * channels, mask=there, other=0.0).to(tl.float32)
        apart = tl.where(there, values - pivot[None, :], 0.0)
        total += apart
        squares += apart * apart
    mean = tl.sum(total, 0) / size
    target = part * channels + column
    tl.store(means + target, pivot + mean, mask=column < channels)
    tl.store(variances + target, tl.maximum(tl.sum(squares, 0) / size - mean * mean, 0.0), mask=column < channels)


@kernel
def _tile(size, channels, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Return this program's crop, voxels and channels, the places of its values, and which of them exist."""
    crop = tl.program_id(1).to(tl.int64)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(2) * COLUMNS + tl.arange(0, COLUMNS)
    there = (row < size)[:, None] & (column < channels)[None, :]
    return crop, row, column, crop * size * channels + row[:, None].to(tl.int64) * channels + column[None, :], there


@kernel(do_not_specialize=["size", "slope"])
def _forward(
    x, residual, y, means, scales, slope, size, channels, HAS_RESIDUAL: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    crop, _row, column, places, there = _tile(size, channels, ROWS, COLUMNS)
    mean = tl.load(means + crop * channels + column, mask=column < channels, other=0.0)
    scale = tl.load(scales + crop * channels + column, mask=column < channels, other=0.0)
    values = (tl.load(x + places, mask=there, other=0.0).to(tl.float32) - mean[None, :]) * scale[None, :]
    if HAS_RESIDUAL:
        values += tl.load(residual + places, mask=there, other=0.0).to(tl.float32)
    values = tl.where(values > 0, values, values * slope)
    tl.store(y + places, values.to(y.dtype.element_ty), mask=there)


@kernel(do_not_specialize=["size", "slope"])
def _gradient_means(
    grad, x, y, means, scales, of_g, of_along, slope, of_crop, of_row, size, channels,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Write the means over a chunk of g and of g h."""
    chunk, crop = tl.program_id(0), tl.program_id(1).to(tl.int64)
    part = crop * tl.num_programs(0) + chunk
    row, column = tl.arange(0, ROWS), tl.program_id(2) * COLUMNS + tl.arange(0, COLUMNS)
    mean = tl.load(means + crop * channels + column, mask=column < channels, other=0.0)
    scale = tl.load(scales + crop * channels + column, mask=column < channels, other=0.0)
    places = part * size * channels + row[:, None] * channels + column[None, :]
    of_grad = crop * of_crop + (chunk * size + row)[:, None].to(tl.int64) * of_row + column[None, :]
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    along = tl.zeros((ROWS, COLUMNS), tl.float32)
    for start in range(0, size, ROWS):
        there = (start + row < size)[:, None] & (column < channels)[None, :]
        g = tl.load(grad + of_grad + start * of_row, mask=there, other=0.0).to(tl.float32)
        g = tl.where(tl.load(y + places + start * channels, mask=there, other=0.0) > 0, g, g * slope)
        values = tl.load(x + places + start * channels, mask=there, other=0.0).to(tl.float32)
        total += g
        along += g * (values - mean[None, :])
    target = part * channels + column
    tl.store(of_g + target, tl.sum(total, 0) / size, mask=column < channels)
    tl.store(of_along + target, tl.sum(along, 0) * scale / size, mask=column < channels)


@kernel(do_not_specialize=["size", "slope"])
def _backward(
    grad, x, y, means, scales, of_g, of_along, grad_x, grad_residual, slope, of_crop, of_row, size,
    channels, HAS_RESIDUAL: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    crop, row, column, places, there = _tile(size, channels, ROWS, COLUMNS)
    of_channels, exist = crop * channels + column, column < channels
    mean = tl.load(means + of_channels, mask=exist, other=0.0)
    scale = tl.load(scales + of_channels, mask=exist, other=0.0)
    mean_g = tl.load(of_g + of_channels, mask=exist, other=0.0)
    mean_along = tl.load(of_along + of_channels, mask=exist, other=0.0)
    of_grad = crop * of_crop + row[:, None].to(tl.int64) * of_row + column[None, :]
    g = tl.load(grad + of_grad, mask=there, other=0.0).to(tl.float32)
    g = tl.where(tl.load(y + places, mask=there, other=0.0) > 0, g, g * slope)
    if HAS_RESIDUAL:
        tl.store(grad_residual + places, g.to(grad_residual.dtype.element_ty), mask=there)
    h = (tl.load(x + places, mask=there, other=0.0).to(tl.float32) - mean[None, :]) * scale[None, :]
    found = (g - mean_g[None, :] - h * mean_along[None, :]) * scale[None, :]
    tl.store(grad_x + places, found.to(grad_x.dtype.element_ty), mask=there)
