"""Attention in shifted windows on GPUs: an operation of torch, and how it launches the programs of `window_programs`.

The letters of shapes are explained there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from typing import Any, NamedTuple

import torch
from torch import Tensor

from voco_cli.models.kernels.triton_here import triton
from voco_cli.models.kernels.window_programs import (
    bias_backward,
    forward,
    keys_backward,
    prepare,
    queries_backward,
    sum_parts,
)


class Blocks(NamedTuple):
    """How a program is cut and launched.

    Attributes:
        rows: queries of a block.
        columns: keys of a block.
        warps: groups of 32 threads.
        stages: blocks whose loads are under way; 1: each is waited for.
    """

    rows: int
    columns: int
    warps: int
    stages: int


HALF_PRECISION = Blocks(64, 64, 4, 1)
"""One stage: other windows fill the time in which a block is loaded."""
WIDE_HEAD, BIAS_OF_WIDE_HEADS = 32, Blocks(64, 32, 4, 1)
"""For the gradient of the biases from heads of more channels than that, whose blocks fill the registers."""
SINGLE_PRECISION = Blocks(32, 32, 4, 1)
"""For float32, which the tensor cores do not take as it is."""
WIDEST_HEAD = 64
"""Channels of a head that a block still holds."""
WIDEST_BLOCK = 128
"""The biases of a kind are stored up to a multiple of it, so that every block of keys can be read whole."""
WINDOWS_AT_ONCE = 512
"""Windows whose heads and queries are computed before the next ones: their tokens stay in the cache."""
WINDOWS_OF_A_PART = 256
"""Windows over which a program sums the gradient of the biases before it writes it."""
MOST_POSITIONS = 1024
"""Of a window: above it the division in ``window_programs`` is not exact."""


def attend(qkv_BXYZF: Tensor, bias_Hnn: Tensor, window: Sequence[int], shift: Sequence[int]) -> Tensor:
    """Return softmax(q k / sqrt(d) + bias) v in shifted windows; as in MONAI pads are keys and values of zeros.

    Args:
        qkv_BXYZF: bfloat16, float16 or float32; channels in the order (q, k, v), heads, d; d is at most 64.
        bias_Hnn: float32, position biases.
        window: tokens along each axis, no more than there are; at most 1024 in all.
        shift: of the windows, tokens; 0 along an axis of one window.
    Returns:
        mixed_BXYZC, in the type of ``qkv_BXYZF``.
    Raises:
        ValueError: windows, shift and tensors do not fit together.
    Source: Swin Transformer, arXiv 2103.14030, eq. 4; computed as FlashAttention does, arXiv 2307.08691.
    """
    sizes, channels, heads, n = qkv_BXYZF.shape[1:4], qkv_BXYZF.shape[4], bias_Hnn.shape[0], math.prod(window)
    for size, length, by in zip(sizes, window, shift, strict=True):
        if not (1 <= length <= size and 0 <= by < length and (by == 0 or length < size)):
            raise ValueError(f"windows of {window} tokens shifted by {shift} do not fit {tuple(sizes)} tokens.")
    if n > MOST_POSITIONS or bias_Hnn.shape[1:] != (n, n):
        raise ValueError(f"biases {tuple(bias_Hnn.shape)} are not those of a window of {window}, or it is too large.")
    if channels % (3 * heads) or channels // (3 * heads) > WIDEST_HEAD:
        raise ValueError(f"{channels} channels are not q, k and v of {heads} heads of at most {WIDEST_HEAD} channels.")
    mixed: Tensor = _attend(qkv_BXYZF.contiguous(), bias_Hnn.float().contiguous(), list(window), list(shift))[0]
    return mixed


@torch.library.custom_op("voco::window_attention", mutates_args=())
def _attend(qkv: Tensor, bias: Tensor, window: list[int], shift: list[int]) -> tuple[Tensor, Tensor]:
    out, levels = _outputs(qkv, bias, window, shift)
    with torch.cuda.device_of(qkv):
        call = _Call(qkv, bias, window, shift)
        call.by_window(forward, qkv, call.biases, call.sinks, out, levels)
    return out, levels


@_attend.register_fake
def _outputs(qkv: Tensor, bias: Tensor, window: list[int], shift: list[int]) -> tuple[Tensor, Tensor]:
    out = qkv.new_empty(*qkv.shape[:4], qkv.shape[4] // 3)
    return out, qkv.new_empty(bias.shape[0], *qkv.shape[:4], dtype=torch.float32)


@torch.library.custom_op("voco::window_attention_backward", mutates_args=())
def _differentiate(
    grad: Tensor, qkv: Tensor, bias: Tensor, out: Tensor, levels: Tensor, window: list[int], shift: list[int]
) -> tuple[Tensor, Tensor]:
    grad_qkv, inner = torch.empty_like(qkv), torch.empty_like(levels)
    with torch.cuda.device_of(qkv):
        call = _Call(qkv, bias, window, shift)
        call.by_window(queries_backward, qkv, call.biases, out, levels, grad, inner, grad_qkv)
        call.by_window(keys_backward, qkv, call.biases, levels, grad, inner, grad_qkv)
        return grad_qkv, call.bias_gradient(qkv, levels, grad, inner)


@_differentiate.register_fake
def _(
    grad: Tensor, qkv: Tensor, bias: Tensor, out: Tensor, levels: Tensor, window: list[int], shift: list[int]
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(qkv), torch.empty_like(bias)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    qkv, bias, ctx.window, ctx.shift = inputs
    ctx.save_for_backward(qkv, bias, *output)
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, grad: Tensor | None, _: Tensor | None) -> tuple[Tensor | None, Tensor | None, None, None]:
    if grad is None:
        return None, None, None, None
    qkv, bias, out, levels = ctx.saved_tensors
    return *_differentiate(grad.contiguous(), qkv, bias, out, levels, ctx.window, ctx.shift), None, None


_attend.register_autograd(_backward, setup_context=_remember)


class _Call:
    """How the programs are launched for given tensors.

    Attributes:
        biases: biases_KHnm in units of q k; float16 for half precision, three bits finer than bfloat16.
        sinks: sinks_KHn in units of log2.
    """

    def __init__(self, qkv: Tensor, bias: Tensor, window: list[int], shift: list[int]) -> None:
        self.bias, self.half, self.crops = bias, qkv.dtype != torch.float32, len(qkv)
        self.blocks = HALF_PRECISION if self.half else SINGLE_PRECISION
        self.sizes, self.window, self.shift = tuple(qkv.shape[1:4]), tuple(window), tuple(shift)
        self.geometry = self.sizes, self.window, self.shift
        self.heads, self.positions = bias.shape[:2]
        self.d = qkv.shape[4] // (3 * self.heads)
        self.D = max(16, triton.next_power_of_2(self.d))
        self.m = triton.cdiv(self.positions, WIDEST_BLOCK) * WIDEST_BLOCK
        self.kinds = math.prod(2 + (by > 0) for by in shift)
        shape = self.kinds, self.heads, self.positions
        self.biases = bias.new_empty(*shape, self.m, dtype=torch.float16 if self.half else torch.float32)
        self.sinks = bias.new_empty(shape)
        rows = 8
        prepare[triton.cdiv(self.positions, rows), self.kinds, self.heads](
            *(bias, self.biases, self.sinks, *self.geometry, self.heads, self.m, self.d**0.5),
            *(rows, triton.next_power_of_2(self.m)),
        )

    def by_window(self, program: Any, *tensors: Tensor) -> None:
        """Launch a program for each window, head and block of queries or, in ``keys_backward``, of keys."""
        windows = self.crops * math.prod(sum(of_axis) for of_axis in self._kinds_of_axes())
        together = min(WINDOWS_AT_ONCE, windows)
        length = self.blocks.columns if program is keys_backward else self.blocks.rows
        count = triton.cdiv(windows, together) * together * self.heads * triton.cdiv(self.positions, length)
        self._launch(program, count, self.blocks, *tensors, self.crops, *self.geometry, self.heads, self.m, together)

    def bias_gradient(self, qkv: Tensor, levels: Tensor, grad: Tensor, inner: Tensor) -> Tensor:
        """Return grad_bias_Hnn: sums over parts of the windows, and then their sum, in one order."""
        blocks = BIAS_OF_WIDE_HEADS if self.half and self.D > WIDE_HEAD else self.blocks
        places = triton.cdiv(WINDOWS_OF_A_PART, self.crops)
        starts = [0]
        for i, j, k in product(*self._kinds_of_axes()):
            starts.append(starts[-1] + triton.cdiv(i * j * k, places))
        parts = self.bias.new_empty(starts[-1], self.heads, self.positions, self.m)
        sink_parts, grad_bias = self.bias.new_empty(parts.shape[:3]), torch.empty_like(self.bias)
        tiles = triton.cdiv(self.positions, blocks.rows) * triton.cdiv(self.positions, blocks.columns)
        self._launch(
            *(bias_backward, tiles * self.heads * starts[-1], blocks),
            *(qkv, self.biases, self.sinks, levels, grad, inner, parts, sink_parts),
            *(self.crops, *self.geometry, self.heads, self.m, tuple(16 * start for start in starts[:-1]), places),
        )
        sum_parts[self.positions, self.heads](
            *(parts, sink_parts, self.sinks, self.bias, grad_bias, *self.geometry, self.heads, self.m),
            *(self.kinds, places, triton.next_power_of_2(self.positions)),
        )
        return grad_bias

    def _kinds_of_axes(self) -> list[tuple[int, ...]]:
        """Count the windows of each kind along each axis; ``window_programs._windows_of_kind`` in Python."""
        kinds: list[tuple[int, ...]] = []
        for size, window, shift in zip(*self.geometry, strict=True):
            whole = triton.cdiv(size - shift, window) - 1
            kinds.append((whole, 1, 1) if shift else (whole, 1))
        return kinds

    def _launch(self, program: Any, count: int, blocks: Blocks, *arguments: Any) -> None:
        constants = self.d, self.D, blocks.rows, blocks.columns, "tf32" if self.half else "ieee"
        program[count,](*arguments, *constants, num_warps=blocks.warps, num_stages=blocks.stages)
