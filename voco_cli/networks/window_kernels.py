"""Shifted-window attention for NVIDIA GPUs, forward and backward, in Triton.

The kernels read queries, keys and values where the linear layer left them: nothing is padded, rolled or cut in memory,
and no matrix of scores is written. As on a CPU (see window_attention and window_geometry), windows are cut where the
roll would join two ends of an axis, so that no mask is needed, and only tokens that exist are computed with: all pads
of a window are one sink, a key and a value of zeros whose score is the logsumexp over their position biases. Here it
is no more than the state that the running softmax starts from.

Along an axis windows are of at most three kinds: 0, whole; 1, the last; 2, the first of a shifted axis. A kind of
window is one for each axis. Its tokens are counted in turn over those that exist, and a first kernel writes for each
kind the biases of its tokens in that order, -inf beyond the last: the inner loops need neither masks nor positions.

Letters: B crops; X, Y, Z tokens along the axes; C channels; F = 3 C; H heads; d channels of a head; n positions of a
window; K kinds; m = n rounded up to whole blocks; D = d rounded up to what a tensor core takes.
Scores are in units of log2, as the hardware knows exp2 only.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

try:
    import triton  # type: ignore[import-untyped, import-not-found, unused-ignore]
    import triton.language as tl  # type: ignore[import-untyped, import-not-found, unused-ignore]

    _kernel: Callable[[Any], Any] = triton.jit
except ImportError:  # torch for CPUs comes without
    triton = None

    def _kernel(function: Any) -> Any:
        return function


LOG2_E = 1 / math.log(2)
WIDEST_BLOCK = 128
"""The biases of a kind are stored up to a multiple of it, so that every block of keys can be read whole."""
WINDOWS_AT_ONCE = 512
"""Windows whose heads and queries are computed before the next ones: their tokens stay in the cache."""
WINDOWS_OF_A_SUM = 128
"""Windows over which a program sums the gradient of the bias before it adds to memory."""
MOST_POSITIONS = 1024
"""Above it ``_token`` would divide inexactly."""

FORWARD = {16: (64, 64, 4, 2), 32: (64, 64, 4, 2), 64: (64, 64, 4, 2)}
"""By D: queries and keys of a block, warps, stages of the pipeline. The same for the three kernels below."""
QUERIES = {16: (64, 64, 4, 2), 32: (64, 64, 4, 2), 64: (64, 64, 4, 2)}
KEYS = {16: (64, 64, 4, 2), 32: (64, 64, 4, 2), 64: (64, 64, 4, 2)}
BIAS = {16: (64, 64, 4, 2), 32: (64, 64, 4, 2), 64: (64, 64, 4, 2)}


def is_available() -> bool:
    """Whether Triton is here, in a version that takes tuples."""
    return triton is not None and tuple(int(part) for part in triton.__version__.split(".")[:2]) >= (3, 3)


def attend(qkv_BXYZF: Tensor, bias_Hnn: Tensor, window: tuple[int, int, int], shift: tuple[int, int, int]) -> Tensor:
    """softmax(q k / sqrt(d) + bias) v in shifted windows, with MONAI's padding: pads are keys and values of zeros.

    Args:
        qkv_BXYZF: bfloat16, float16 or float32; channels in the order (q, k, v), heads, d.
        bias_Hnn: float32, position biases.
        window: tokens along each axis, no more than there are; at most 1024 in all.
        shift: of the windows, tokens; 0 along an axis of one window.
    Returns:
        mixed_BXYZC, in the type of ``qkv_BXYZF``.
    Raises:
        ValueError: window or shift does not fit the tokens.
    Source: Swin Transformer, arXiv 2103.14030, eq. 4; computed as FlashAttention does, arXiv 2307.08691.
    """
    sizes = qkv_BXYZF.shape[1:4]
    for size, length, by in zip(sizes, window, shift, strict=True):
        if not (1 <= length <= size and 0 <= by < length and (by == 0 or length < size)):
            raise ValueError(f"windows of {window} tokens shifted by {shift} do not fit {tuple(sizes)} tokens.")
    if math.prod(window) > MOST_POSITIONS:
        raise ValueError(f"a window of {window} has more than {MOST_POSITIONS} tokens.")
    mixed: Tensor = _attend(qkv_BXYZF.contiguous(), bias_Hnn.contiguous(), list(window), list(shift))[0]
    return mixed


@torch.library.custom_op("voco::window_attention", mutates_args=())
def _attend(qkv: Tensor, bias: Tensor, window: list[int], shift: list[int]) -> tuple[Tensor, Tensor]:
    call = _Call(qkv, bias, window, shift)
    out = qkv.new_empty(*qkv.shape[:4], qkv.shape[4] // 3)
    level = qkv.new_empty(call.heads, *qkv.shape[:4], dtype=torch.float32)
    with torch.cuda.device_of(qkv):
        call.by_window(_forward, FORWARD, qkv, *call.prepared(), out, level)
    return out, level


@_attend.register_fake
def _(qkv: Tensor, bias: Tensor, window: list[int], shift: list[int]) -> tuple[Tensor, Tensor]:
    return (
        qkv.new_empty(*qkv.shape[:4], qkv.shape[4] // 3),
        qkv.new_empty(len(bias), *qkv.shape[:4], dtype=torch.float32),
    )


@torch.library.custom_op("voco::window_attention_backward", mutates_args=())
def _differentiate(
    grad: Tensor, qkv: Tensor, bias: Tensor, out: Tensor, level: Tensor, window: list[int], shift: list[int]
) -> tuple[Tensor, Tensor]:
    call = _Call(qkv, bias, window, shift)
    grad_qkv, grad_bias, inner = torch.empty_like(qkv), torch.zeros_like(bias), torch.empty_like(level)
    with torch.cuda.device_of(qkv):
        prepared = call.prepared()
        call.by_window(_queries_backward, QUERIES, qkv, *prepared, out, level, grad, inner, grad_qkv)
        call.by_window(_keys_backward, KEYS, qkv, *prepared, level, grad, inner, grad_qkv)
        call.by_kind(_bias_backward, BIAS, qkv, *prepared, bias, level, grad, inner, grad_bias)
    return grad_qkv, grad_bias


@_differentiate.register_fake
def _(
    grad: Tensor, qkv: Tensor, bias: Tensor, out: Tensor, level: Tensor, window: list[int], shift: list[int]
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(qkv), torch.empty_like(bias)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    qkv, bias, ctx.window, ctx.shift = inputs
    ctx.save_for_backward(qkv, bias, *output)
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, grad: Tensor, _: Tensor | None) -> tuple[Tensor, Tensor, None, None]:
    qkv, bias, out, level = ctx.saved_tensors
    grad_qkv, grad_bias = _differentiate(grad.contiguous(), qkv, bias, out, level, ctx.window, ctx.shift)
    return grad_qkv, grad_bias, None, None


_attend.register_autograd(_backward, setup_context=_remember)


class _Call:
    """How the kernels are launched for given tensors."""

    def __init__(self, qkv: Tensor, bias: Tensor, window: Sequence[int], shift: Sequence[int]) -> None:
        self.bias, self.half = bias, qkv.dtype != torch.float32
        self.crops, self.sizes = qkv.shape[0], tuple(qkv.shape[1:4])
        self.window, self.shift = tuple(window), tuple(shift)
        self.heads, self.positions = bias.shape[:2]
        self.d = qkv.shape[4] // (3 * self.heads)
        self.D = max(16, triton.next_power_of_2(self.d))
        self.counts = [-(-(size - s) // w) + (s > 0) for size, w, s in zip(self.sizes, window, shift, strict=True)]
        self.kinds = math.prod(2 + (by > 0) for by in shift)
        self.m = triton.cdiv(self.positions, WIDEST_BLOCK) * WIDEST_BLOCK

    def prepared(self) -> tuple[Tensor, Tensor]:
        """bias_KHnm in units of q k, and sink_KHn in units of log2: of each kind the tokens that it has."""
        # float16 is three bits finer than bfloat16 and half as much to read as float32.
        bias = self.bias.new_empty(
            self.kinds, self.heads, self.positions, self.m, dtype=torch.float16 if self.half else torch.float32
        )
        sink = self.bias.new_empty(self.kinds, self.heads, self.positions)
        rows, columns = 8, triton.next_power_of_2(self.m)
        grid = (triton.cdiv(self.positions, rows), self.kinds, self.heads)
        _prepare[grid](
            self.bias, bias, sink, self.sizes, self.window, self.shift, self.heads, self.m, self.d**0.5, rows, columns
        )
        return bias, sink

    def by_window(self, kernel: Any, blocks: dict[int, tuple[int, int, int, int]], *tensors: Tensor) -> None:
        """A program for each window, head and block of queries or, in ``_keys_backward``, of keys."""
        rows, columns, warps, stages = blocks[self.D]
        windows = self.crops * math.prod(self.counts)
        together = min(WINDOWS_AT_ONCE, windows)
        of_window = self.heads * triton.cdiv(self.positions, columns if kernel is _keys_backward else rows)
        grid = (triton.cdiv(windows, together) * together * of_window,)
        geometry = self.crops, self.sizes, self.window, self.shift, self.heads, self.m, together
        kernel[grid](*tensors, *geometry, *self._constants(rows, columns), num_warps=warps, num_stages=stages)

    def by_kind(self, kernel: Any, blocks: dict[int, tuple[int, int, int, int]], *tensors: Tensor) -> None:
        """A program for each kind, head, block of queries and of keys, and some of the windows."""
        rows, columns, warps, stages = blocks[self.D]
        tiles = triton.cdiv(self.positions, rows) * triton.cdiv(self.positions, columns)
        chunks = triton.cdiv(self.crops * math.prod(self.counts), WINDOWS_OF_A_SUM)
        geometry = self.crops, self.sizes, self.window, self.shift, self.heads, self.m, chunks
        grid = (chunks * tiles, self.kinds, self.heads)
        kernel[grid](*tensors, *geometry, *self._constants(rows, columns), num_warps=warps, num_stages=stages)

    def _constants(self, rows: int, columns: int) -> tuple[Any, ...]:
        return self.d, self.D, rows, columns, "tf32" if self.half else "ieee"


@_kernel
def _cut(index, size, window, shift):
    """First token, existing tokens, existing tokens and pads, position of the first, of a window along an axis."""
    base = shift + (index - tl.minimum(shift, 1)) * window
    end = tl.minimum(base + window, tl.cdiv(size, window) * window)
    start = tl.maximum(base, 0)
    return start, tl.maximum(tl.minimum(end, size) - start, 0), end - start, start - base


@_kernel
def _count(size, window, shift):
    """Windows along an axis that hold a token."""
    return tl.cdiv(size - shift, window) + tl.minimum(shift, 1)


@_kernel
def _kind_of(index, count, shift):
    return tl.where(index == count - 1, 1, tl.where((index == 0) & (shift > 0), 2, 0))


@_kernel
def _windows_of_kind(kind, count, shift):
    """Of the windows along an axis that are of a kind: how many, and which is the first."""
    first = tl.minimum(shift, 1)
    many = tl.where(kind == 0, count - 1 - first, 1)
    return many, tl.where(kind == 0, first, tl.where(kind == 1, count - 1, 0))


@_kernel
def _kinds(kind, sizes, window, shift):
    """For each axis what ``_windows_of_kind`` says of a kind of windows."""
    kz = 2 + tl.minimum(shift[2], 1)
    ky = 2 + tl.minimum(shift[1], 1)
    x = _windows_of_kind(kind // (ky * kz), _count(sizes[0], window[0], shift[0]), shift[0])
    y = _windows_of_kind(kind // kz % ky, _count(sizes[1], window[1], shift[1]), shift[1])
    z = _windows_of_kind(kind % kz, _count(sizes[2], window[2], shift[2]), shift[2])
    return x[0], y[0], z[0], x[1], y[1], z[1]


@_kernel
def _token(index, ny, nz):
    """Place of a token among nx * ny * nz. The quotients are exact while index * ny * nz < 2^20, and much faster."""
    line = (index * ((1048576 + nz - 1) // nz)) >> 20
    i = (line * ((1048576 + ny - 1) // ny)) >> 20
    return i, line - i * ny, index - line * nz


@_kernel
def _before(sizes, x0, y0, z0, nx, ny):
    """Tokens of a crop's windows that come before one, counting along z first."""
    return (x0 * sizes[1] + nx * y0) * sizes[2] + nx * ny * z0


@_kernel
def _task(crops, sizes, window, shift, heads, together, ROWS: tl.constexpr):
    """What this program computes.

    Returns: crop, head, first row of its block, kind of the window, number of the window's first token, its tokens
    in all, along y and along z.
    """
    blocks = tl.cdiv(window[0] * window[1] * window[2], ROWS)
    program = tl.program_id(0)
    rest = program // together
    block = rest % blocks
    head = rest // blocks % heads
    number = rest // blocks // heads * together + program % together
    crop = number % crops
    place = number // crops
    ax = _count(sizes[0], window[0], shift[0])
    ay = _count(sizes[1], window[1], shift[1])
    az = _count(sizes[2], window[2], shift[2])
    x, y, z = place // (ay * az), place // az % ay, place % az
    x0, nx, _sx, _ox = _cut(x, sizes[0], window[0], shift[0])
    y0, ny, _sy, _oy = _cut(y, sizes[1], window[1], shift[1])
    z0, nz, _sz, _oz = _cut(z, sizes[2], window[2], shift[2])
    kx, ky, kz = _kind_of(x, ax, shift[0]), _kind_of(y, ay, shift[1]), _kind_of(z, az, shift[2])
    kind = (kx * (2 + tl.minimum(shift[1], 1)) + ky) * (2 + tl.minimum(shift[2], 1)) + kz
    first = ((crop * sizes[0] + x0) * sizes[1] + y0) * sizes[2] + z0
    before = crop * sizes[0] * sizes[1] * sizes[2] + _before(sizes, x0, y0, z0, nx, ny)
    return head, block * ROWS, kind, first, before, tl.where(x < ax, nx * ny * nz, 0), ny, nz


@_kernel
def _rows(first, index, ny, nz, sizes):
    """Numbers of the tokens of a window."""
    i, j, k = _token(index, ny, nz)
    return first + (i * sizes[1] + j) * sizes[2] + k


@_kernel
def _load(tokens, rows, exist, stride, column, d: tl.constexpr, D: tl.constexpr):
    """Channels of a head, zeros beyond them and for tokens that do not exist."""
    channel = tl.arange(0, D)
    places = tokens + rows.to(tl.int64)[:, None] * stride + column + channel[None, :]
    return tl.load(places, mask=exist[:, None] & (channel < d)[None, :], other=0.0)


@_kernel
def _store(tokens, values, rows, exist, stride, column, d: tl.constexpr, D: tl.constexpr):
    channel = tl.arange(0, D)
    places = tokens + rows.to(tl.int64)[:, None] * stride + column + channel[None, :]
    tl.store(places, values.to(tokens.dtype.element_ty), mask=exist[:, None] & (channel < d)[None, :])


@_kernel
def _pads(position, n, window, nx, ny, nz, sx, sy, sz, ox, oy, oz):
    """Which positions of MONAI's window are pads that its tokens see."""
    line = position // window[2]
    i, j, k = line // window[1] - ox, line % window[1] - oy, position % window[2] - oz
    seen = (i >= 0) & (i < sx) & (j >= 0) & (j < sy) & (k >= 0) & (k < sz) & (position < n)
    return seen & ((i >= nx) | (j >= ny) | (k >= nz))


@_kernel
def _prepare(
    bias, of_kinds, sinks, sizes, window, shift, heads, m, per_product, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):
    """Biases of a kind's tokens in their order, times ``per_product``, and the sinks."""
    kind, head = tl.program_id(1), tl.program_id(2)
    mx, my, mz, x, y, z = _kinds(kind, sizes, window, shift)
    _x, nx, sx, ox = _cut(x, sizes[0], window[0], shift[0])
    _y, ny, sy, oy = _cut(y, sizes[1], window[1], shift[1])
    _z, nz, sz, oz = _cut(z, sizes[2], window[2], shift[2])
    count, n = nx * ny * nz, window[0] * window[1] * window[2]
    if (mx * my * mz > 0) & (tl.program_id(0) * ROWS < count):
        row, column = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.arange(0, COLUMNS)
        i, j, k = _token(row, ny, nz)
        of_rows = ((head * n + ((i + ox) * window[1] + j + oy) * window[2] + k + oz) * n)[:, None]
        exist = (row < count)[:, None]
        i, j, k = _token(column, ny, nz)
        seen = bias + of_rows + (((i + ox) * window[1] + j + oy) * window[2] + k + oz)[None, :]
        found = tl.load(seen, mask=exist & (column < count)[None, :], other=float("-inf")) * per_product
        target = of_kinds + ((kind * heads + head) * n + row).to(tl.int64)[:, None] * m + column[None, :]
        tl.store(target, found.to(of_kinds.dtype.element_ty), mask=exist & (column < m)[None, :])
        pad = _pads(column, n, window, nx, ny, nz, sx, sy, sz, ox, oy, oz)
        score = tl.load(bias + of_rows + column[None, :], mask=exist & pad[None, :], other=float("-inf"))
        top = tl.maximum(tl.max(score, 1), -1e30)
        total = tl.sum(tl.exp(score - top[:, None]), 1)
        sink = tl.where(total > 0, (top + tl.log(tl.maximum(total, 1e-30))) * 1.4426950408889634, float("-inf"))
        tl.store(sinks + (kind * heads + head) * n + row, sink, mask=row < count)


@_kernel
def _forward(
    qkv, biases, sinks, out, level, crops, sizes, window, shift, heads, m, together,
    d: tl.constexpr, D: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Outputs of a block of queries and their levels, log2 of the sums of their exponentials."""
    head, start, kind, first, before, count, ny, nz = _task(crops, sizes, window, shift, heads, together, ROWS)
    if start < count:
        n, C, per_product = window[0] * window[1] * window[2], heads * d, d**-0.5 * 1.4426950408889634
        row, column = start + tl.arange(0, ROWS), tl.arange(0, COLUMNS)
        exist, rows = row < count, _rows(first, row, ny, nz, sizes)
        q = _load(qkv, rows, exist, 3 * C, head * d, d, D)
        of_rows = (kind * heads + head) * n + row
        bias = biases + of_rows.to(tl.int64)[:, None] * m + column[None, :]
        top = tl.load(sinks + of_rows, mask=exist, other=0.0)
        total = tl.where(top > float("-inf"), 1.0, 0.0)
        mixed = tl.zeros((ROWS, D), tl.float32)
        for block in range(0, count, COLUMNS):
            columns = _rows(first, block + column, ny, nz, sizes)
            k = _load(qkv, columns, block + column < count, 3 * C, C + head * d, d, D)
            v = _load(qkv, columns, block + column < count, 3 * C, 2 * C + head * d, d, D)
            start_from = tl.load(bias + block, mask=exist[:, None], other=0.0).to(tl.float32)
            score = tl.dot(q, tl.trans(k), start_from, input_precision=PRECISION)
            higher = tl.maximum(top, tl.max(score, 1) * per_product)
            p, shrink = tl.exp2(score * per_product - higher[:, None]), tl.exp2(top - higher)
            total = total * shrink + tl.sum(p, 1)
            mixed = tl.dot(p.to(v.dtype), v, mixed * shrink[:, None], input_precision=PRECISION)
            top = higher
        _store(out, mixed / total[:, None], rows, exist, C, head * d, d, D)
        of_head = head.to(tl.int64) * (crops * sizes[0] * sizes[1] * sizes[2])
        tl.store(level + of_head + before + row, top + tl.log2(total), mask=exist)


@_kernel
def _queries_backward(
    qkv, biases, sinks, out, level, grad, inner, grad_qkv, crops, sizes, window, shift, heads, m, together,
    d: tl.constexpr, D: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradients of a block of queries, and sum_j P_ij dP_ij = out_i . grad_i, which the other kernels need too."""
    head, start, kind, first, before, count, ny, nz = _task(crops, sizes, window, shift, heads, together, ROWS)
    if start < count:
        n, C, per_product = window[0] * window[1] * window[2], heads * d, d**-0.5 * 1.4426950408889634
        row, column = start + tl.arange(0, ROWS), tl.arange(0, COLUMNS)
        exist, rows = row < count, _rows(first, row, ny, nz, sizes)
        q = _load(qkv, rows, exist, 3 * C, head * d, d, D)
        g = _load(grad, rows, exist, C, head * d, d, D)
        o = _load(out, rows, exist, C, head * d, d, D)
        inner_of_rows = tl.sum(g.to(tl.float32) * o.to(tl.float32), 1)
        of_head = head.to(tl.int64) * (crops * sizes[0] * sizes[1] * sizes[2])
        tl.store(inner + of_head + before + row, inner_of_rows, mask=exist)
        level_of_rows = tl.load(level + of_head + before + row, mask=exist, other=float("inf"))
        bias = biases + ((kind * heads + head) * n + row).to(tl.int64)[:, None] * m + column[None, :]
        grad_q = tl.zeros((ROWS, D), tl.float32)
        for block in range(0, count, COLUMNS):
            columns = _rows(first, block + column, ny, nz, sizes)
            k = _load(qkv, columns, block + column < count, 3 * C, C + head * d, d, D)
            v = _load(qkv, columns, block + column < count, 3 * C, 2 * C + head * d, d, D)
            start_from = tl.load(bias + block, mask=exist[:, None], other=0.0).to(tl.float32)
            score = tl.dot(q, tl.trans(k), start_from, input_precision=PRECISION)
            p = tl.exp2(score * per_product - level_of_rows[:, None])
            grad_score = p * (tl.dot(g, tl.trans(v), input_precision=PRECISION) - inner_of_rows[:, None])
            grad_q = tl.dot(grad_score.to(k.dtype), k, grad_q, input_precision=PRECISION)
        _store(grad_qkv, grad_q * d**-0.5, rows, exist, 3 * C, head * d, d, D)


@_kernel
def _keys_backward(
    qkv, biases, sinks, level, grad, inner, grad_qkv, crops, sizes, window, shift, heads, m, together,
    d: tl.constexpr, D: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradients of a block of keys and values. Matrices are transposed: a row for each key."""
    head, start, kind, first, before, count, ny, nz = _task(crops, sizes, window, shift, heads, together, COLUMNS)
    if start < count:
        n, C, per_product = window[0] * window[1] * window[2], heads * d, d**-0.5 * 1.4426950408889634
        row, column = tl.arange(0, ROWS), start + tl.arange(0, COLUMNS)
        exist, columns = column < count, _rows(first, column, ny, nz, sizes)
        k = _load(qkv, columns, exist, 3 * C, C + head * d, d, D)
        v = _load(qkv, columns, exist, 3 * C, 2 * C + head * d, d, D)
        of_head = head.to(tl.int64) * (crops * sizes[0] * sizes[1] * sizes[2])
        bias = biases + ((kind * heads + head) * n + row).to(tl.int64)[:, None] * m + column[None, :]
        grad_k, grad_v = tl.zeros((COLUMNS, D), tl.float32), tl.zeros((COLUMNS, D), tl.float32)
        for block in range(0, count, ROWS):
            here, rows = block + row < count, _rows(first, block + row, ny, nz, sizes)
            q = _load(qkv, rows, here, 3 * C, head * d, d, D)
            g = _load(grad, rows, here, C, head * d, d, D)
            level_of_rows = tl.load(level + of_head + before + block + row, mask=here, other=float("inf"))
            inner_of_rows = tl.load(inner + of_head + before + block + row, mask=here, other=0.0)
            start_from = tl.load(bias + block * m, mask=here[:, None], other=0.0).to(tl.float32)
            score = tl.dot(q, tl.trans(k), start_from, input_precision=PRECISION)
            p = tl.exp2(score * per_product - level_of_rows[:, None])
            grad_v = tl.dot(tl.trans(p.to(g.dtype)), g, grad_v, input_precision=PRECISION)
            grad_score = p * (tl.dot(g, tl.trans(v), input_precision=PRECISION) - inner_of_rows[:, None])
            grad_k = tl.dot(tl.trans(grad_score.to(q.dtype)), q, grad_k, input_precision=PRECISION)
        _store(grad_qkv, grad_k * d**-0.5, columns, exist, 3 * C, C + head * d, d, D)
        _store(grad_qkv, grad_v, columns, exist, 3 * C, 2 * C + head * d, d, D)


@_kernel
def _bias_backward(
    qkv, biases, sinks, bias, level, grad, inner, grad_bias, crops, sizes, window, shift, heads, m, chunks,
    d: tl.constexpr, D: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradient of a kind's biases, a block of queries by one of keys, summed over every ``chunks``-th window."""
    kind, head, n = tl.program_id(1), tl.program_id(2), window[0] * window[1] * window[2]
    chunk, tile = tl.program_id(0) % chunks, tl.program_id(0) // chunks
    mx, my, mz, x, y, z = _kinds(kind, sizes, window, shift)
    x0, nx, sx, ox = _cut(x, sizes[0], window[0], shift[0])
    y0, ny, sy, oy = _cut(y, sizes[1], window[1], shift[1])
    z0, nz, sz, oz = _cut(z, sizes[2], window[2], shift[2])
    count, C, per_product = nx * ny * nz, heads * d, d**-0.5 * 1.4426950408889634
    row = tile // tl.cdiv(n, COLUMNS) * ROWS + tl.arange(0, ROWS)
    first_column = tile % tl.cdiv(n, COLUMNS) * COLUMNS
    column = first_column + tl.arange(0, COLUMNS)
    windows = mx * my * mz * crops
    if (tile // tl.cdiv(n, COLUMNS) * ROWS < count) & (first_column < count) & (chunk < windows):
        exist, present = row < count, column < count
        of_rows = (kind * heads + head) * n + row
        stored = biases + of_rows.to(tl.int64)[:, None] * m + column[None, :]
        start_from = tl.load(stored, mask=exist[:, None], other=0.0).to(tl.float32)
        sink = tl.load(sinks + of_rows, mask=exist, other=0.0)
        of_head = head.to(tl.int64) * (crops * sizes[0] * sizes[1] * sizes[2])
        rows_from, columns_from = _rows(0, row, ny, nz, sizes), _rows(0, column, ny, nz, sizes)
        total, grad_sink = tl.zeros((ROWS, COLUMNS), tl.float32), tl.zeros((ROWS,), tl.float32)
        for number in range(chunk, windows, chunks):
            place = number // crops
            i, j, k_ = place // (my * mz), place // mz % my, place % mz
            first = (number % crops * sizes[0] + x0 + i * window[0]) * sizes[1] + y0 + j * window[1]
            first = first * sizes[2] + z0 + k_ * window[2]
            before = number % crops * (sizes[0] * sizes[1] * sizes[2])
            before += _before(sizes, x0 + i * window[0], y0 + j * window[1], z0 + k_ * window[2], nx, ny)
            rows, columns = first + rows_from, first + columns_from
            q = _load(qkv, rows, exist, 3 * C, head * d, d, D)
            g = _load(grad, rows, exist, C, head * d, d, D)
            k = _load(qkv, columns, present, 3 * C, C + head * d, d, D)
            v = _load(qkv, columns, present, 3 * C, 2 * C + head * d, d, D)
            level_of_rows = tl.load(level + of_head + before + row, mask=exist, other=float("inf"))
            inner_of_rows = tl.load(inner + of_head + before + row, mask=exist, other=0.0)
            score = tl.dot(q, tl.trans(k), start_from, input_precision=PRECISION)
            p = tl.exp2(score * per_product - level_of_rows[:, None])
            total += p * (tl.dot(g, tl.trans(v), input_precision=PRECISION) - inner_of_rows[:, None])
            grad_sink -= tl.exp2(sink - level_of_rows) * inner_of_rows
        i, j, k_ = _token(row, ny, nz)
        of_rows = ((head * n + ((i + ox) * window[1] + j + oy) * window[2] + k_ + oz) * n)[:, None]
        i, j, k_ = _token(column, ny, nz)
        target = of_rows + (((i + ox) * window[1] + j + oy) * window[2] + k_ + oz)[None, :]
        tl.atomic_add(grad_bias + target, total, mask=exist[:, None] & present[None, :])
        if (first_column == 0) & (sx * sy * sz > count):
            for block in range(0, n, COLUMNS):
                position = block + tl.arange(0, COLUMNS)
                pad = _pads(position, n, window, nx, ny, nz, sx, sy, sz, ox, oy, oz)
                pad = exist[:, None] & pad[None, :]
                score = tl.load(bias + of_rows + position[None, :], mask=pad, other=0.0) * 1.4426950408889634
                share = tl.exp2(score - sink[:, None]) * grad_sink[:, None]
                tl.atomic_add(grad_bias + of_rows + position[None, :], share, mask=pad)
