"""Layer norm on GPUs in Triton: many short rows at a time, in the number format that they come in.

Torch takes a block of threads for each row, which is slow for the 48 channels of early tokens, and under autocast it
reads and writes single precision.

Letters: R rows, one for each token; C channels.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, disable-error-code="untyped-decorator"

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from voco_cli.models.kernels.triton_here import kernel, tl, triton

TILE = 4096
"""Values that a program holds at a time; a row is never cut."""
MOST_PROGRAMS = 1024
"""Of the backward pass, each with sums of its own for weight and bias."""


def layer_norm(x_RC: Tensor, weight_C: Tensor | None = None, bias_C: Tensor | None = None) -> Tensor:
    """Return each row without its mean, over its standard deviation, times weight plus bias.

    Args:
        x_RC: channels last, any axes before.
        weight_C, bias_C: both or none.
    Returns:
        the same shape and type.
    """
    y: Tensor = _layer_norm(x_RC.contiguous(), weight_C, bias_C)[0]
    return y


@torch.library.custom_op("voco::layer_norm", mutates_args=())
def _layer_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    y, mean_R, scale_R = _outputs(x, weight, bias)
    rows, channels = mean_R.numel(), x.shape[-1]
    columns, at_once, warps = _tile(channels)
    affine = (x, x) if weight is None or bias is None else (weight, bias)
    with torch.cuda.device_of(x):
        _forward[(triton.cdiv(rows, at_once),)](
            *(x, *affine, y, mean_R, scale_R, rows, channels, weight is not None, at_once, columns), num_warps=warps
        )
    return y, mean_R, scale_R


@_layer_norm.register_fake
def _outputs(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    mean_R = x.new_empty(x.shape[:-1], dtype=torch.float32)
    return torch.empty_like(x), mean_R, torch.empty_like(mean_R)


@torch.library.custom_op("voco::layer_norm_backward", mutates_args=())
def _differentiate(
    grad: Tensor, x: Tensor, mean_R: Tensor, scale_R: Tensor, weight: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    rows, channels = mean_R.numel(), x.shape[-1]
    columns, at_once, warps = _tile(channels)
    programs = min(MOST_PROGRAMS, triton.cdiv(rows, at_once))
    parts_2PC = x.new_empty(2, programs, channels, dtype=torch.float32)
    grad_x, steps = torch.empty_like(x), triton.cdiv(triton.cdiv(rows, at_once), programs)
    with torch.cuda.device_of(x):
        _backward[(programs,)](
            *(grad, x, mean_R, scale_R, x if weight is None else weight, grad_x, *parts_2PC, rows, channels, steps),
            *(weight is not None, at_once, columns),
            num_warps=warps,
        )
    grad_weight_C, grad_bias_C = parts_2PC.sum(1) if weight is not None else parts_2PC.new_empty(2, 0)
    return grad_x, grad_weight_C.clone(), grad_bias_C.clone()


@_differentiate.register_fake
def _(grad: Tensor, x: Tensor, mean_R: Tensor, scale_R: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    of_channels = x.new_empty(0 if weight is None else x.shape[-1], dtype=torch.float32)
    return torch.empty_like(x), of_channels, torch.empty_like(of_channels)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    x, weight, _bias = inputs
    ctx.save_for_backward(x, *output[1:], weight)
    ctx.set_materialize_grads(False)


def _derive(ctx: Any, grad: Tensor | None, *_: Tensor | None) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    if grad is None:
        return None, None, None
    grad_x, grad_weight_C, grad_bias_C = _differentiate(grad.contiguous(), *ctx.saved_tensors)
    weight = ctx.saved_tensors[-1]
    return (grad_x, None, None) if weight is None else (grad_x, grad_weight_C, grad_bias_C)


_layer_norm.register_autograd(_derive, setup_context=_remember)


def _tile(channels: int) -> tuple[int, int, int]:
    """Return the columns and rows of a tile, and the warps that compute it."""
    columns = triton.next_power_of_2(channels)
    return columns, max(1, TILE // columns), min(16, max(4, columns // 1024))


@kernel(do_not_specialize=["rows"])
def _forward(
    x, weight, bias, y, means, scales, rows, channels, AFFINE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):
    row, column = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS), tl.arange(0, COLUMNS)
    there = (row < rows)[:, None] & (column < channels)[None, :]
    places = row[:, None] * channels + column[None, :]
    values = tl.load(x + places, mask=there, other=0.0).to(tl.float32)
    mean = tl.sum(values, 1) / channels
    apart = tl.where(there, values - mean[:, None], 0.0)
    scale = tl.rsqrt(tl.sum(apart * apart, 1) / channels + 1e-5)  # as torch's layer norm has it
    found = apart * scale[:, None]
    if AFFINE:
        found = found * tl.load(weight + column, mask=column < channels, other=0.0).to(tl.float32)[None, :]
        found += tl.load(bias + column, mask=column < channels, other=0.0).to(tl.float32)[None, :]
    tl.store(y + places, found.to(y.dtype.element_ty), mask=there)
    tl.store(means + row, mean, mask=row < rows)
    tl.store(scales + row, scale, mask=row < rows)


@kernel(do_not_specialize=["rows", "steps"])
def _backward(
    grad, x, means, scales, weight, grad_x, weight_parts, bias_parts, rows, channels, steps,
    AFFINE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Write grad_x = scale (g - mean of g - h * mean of g h), g being the gradient of the normalised row h."""
    column = tl.arange(0, COLUMNS)
    exist = column < channels
    of_weight = tl.zeros((ROWS, COLUMNS), tl.float32)
    of_bias = tl.zeros((ROWS, COLUMNS), tl.float32)
    for step in range(steps):
        row = (tl.program_id(0).to(tl.int64) * steps + step) * ROWS + tl.arange(0, ROWS)
        there = (row < rows)[:, None] & exist[None, :]
        places = row[:, None] * channels + column[None, :]
        g = tl.load(grad + places, mask=there, other=0.0).to(tl.float32)
        mean = tl.load(means + row, mask=row < rows, other=0.0)[:, None]
        scale = tl.load(scales + row, mask=row < rows, other=0.0)[:, None]
        h = tl.where(there, (tl.load(x + places, mask=there, other=0.0).to(tl.float32) - mean) * scale, 0.0)
        if AFFINE:
            of_weight += g * h
            of_bias += g
            g = g * tl.load(weight + column, mask=exist, other=0.0).to(tl.float32)[None, :]
        mean_g, along = tl.sum(g, 1) / channels, tl.sum(g * h, 1) / channels
        found = (g - mean_g[:, None] - h * along[:, None]) * scale
        tl.store(grad_x + places, found.to(grad_x.dtype.element_ty), mask=there)
    if AFFINE:
        tl.store(weight_parts + tl.program_id(0) * channels + column, tl.sum(of_weight, 0), mask=exist)
        tl.store(bias_parts + tl.program_id(0) * channels + column, tl.sum(of_bias, 0), mask=exist)
