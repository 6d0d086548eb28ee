"""Attention inside windows as MONAI computes it: no padding, no roll, no mask, no matrix out of the cache.

MONAI pads the tokens with zeros up to whole windows, and the pads are keys like any other: with weights W and biases b,
their key is b_k and their value b_v. Four identities keep the results and leave the pads out:

1. b_k adds the same q.b_k to all scores of a query, which the softmax cancels: without it a padded key is zero, and its
   score is its position bias alone.
2. The probabilities of a query sum to 1, so b_v adds b_v to its output: without it a padded value is zero, and the
   projection's bias becomes W_p b_v + b_p.
3. So all pads together are one *sink*: a key and a value of zeros with the score logsumexp over their position biases.
4. Roll and mask only choose who sees whom: windows are cut where they would (see `axis_runs`).

On a GPU ``kernels/window_attention`` does the same; the rest of this file is the way of a CPU.

Letters: B crops; X, Y, Z tokens along the axes; C channels; H heads; W windows of a group; d channels of a head;
n tokens of a window; m = n, or n + 1 with the sink. In a window the channels come before the tokens ("dn"): products
whose short side is d are up to four times as fast when d is the number of rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby, product
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from voco_cli.models.kernels import triton_here
from voco_cli.models.kernels.window_attention import attend
from voco_cli.models.onednn import linear


@dataclass(frozen=True)
class WindowRun:
    """Windows of equal size side by side along an axis, in tokens.

    Attributes:
        start: first token.
        windows: how many.
        size: tokens of a window that exist.
        pads: tokens after these that MONAI pads, in the same window and visible from it.
        offset: where the first token stands in MONAI's window; not 0 only at the cut end of a shifted axis.
    """

    start: int
    windows: int
    size: int
    pads: int
    offset: int


Group = tuple[WindowRun, WindowRun, WindowRun]


def clamp_window(sizes: Sequence[int], window: Sequence[int], shift: Sequence[int]) -> tuple[list[int], list[int]]:
    """Clamp window and shift: an axis no longer than the window is one window, and is not shifted."""
    fits = [size <= length for size, length in zip(sizes, window, strict=True)]
    return (
        [size if fit else length for size, length, fit in zip(sizes, window, fits, strict=True)],
        [0 if fit else by for by, fit in zip(shift, fits, strict=True)],
    )


def axis_runs(size: int, window: int, shift: int) -> list[WindowRun]:
    """Cut an axis of ``size`` tokens, of which the first ``shift`` are rolled to its end, into runs."""
    count = -(-size // window)
    spans = [(shift + window * i, window, 0) for i in range(count)]
    if shift:
        last, *_ = spans.pop()
        spans = [(0, shift, window - shift), *spans, (last, window - shift, 0)]
    # A span beyond the tokens holds only pads: nobody asks for their outputs.
    windows = [(start, min(length, size - start), length, offset) for start, length, offset in spans if start < size]
    runs = []
    for (real, length, offset), equal in groupby(windows, key=lambda window: window[1:]):
        members = list(equal)
        runs.append(WindowRun(members[0][0], len(members), real, length - real, offset))
    return runs


@lru_cache(maxsize=256)
def window_groups(sizes: tuple[int, ...], window: tuple[int, ...], shift: tuple[int, ...]) -> tuple[Group, ...]:
    """Return groups that hold every token once; ``window`` and ``shift`` as ``clamp_window`` gives them."""
    x, y, z = (axis_runs(*axis) for axis in zip(sizes, window, shift, strict=True))
    return tuple(product(x, y, z))


def cut_windows(tokens_BXYZF: Tensor, group: Group) -> Tensor:
    """View a group's tokens as (B, windows, x, windows, y, windows, z, F)."""
    view = tokens_BXYZF
    for axis, run in zip((1, 3, 5), group, strict=True):
        view = view.narrow(axis, run.start, run.windows * run.size).unflatten(axis, (run.windows, run.size))
    return view


def position_indices(index_NN: Tensor, window: Sequence[int], group: Group) -> tuple[Tensor, Tensor]:
    """Return rows of the table of position biases for the pairs of a group's window.

    Args:
        index_NN: MONAI's ``relative_position_index`` of the whole window.
        window: the window as clamped. MONAI numbers its N tokens in turn and reads ``index[:N, :N]``, whose rows then
            belong to other distances than the tokens have; weights are trained with that, so it stays.
    Returns:
        real_nn: for each token and each token it sees; pads_np: for each token and each pad it sees.
    """
    tokens = window[0] * window[1] * window[2]
    seen = index_NN[:tokens, :tokens].view(*window, *window)
    for axis, run in enumerate(group):
        seen = seen.narrow(axis, run.offset, run.size).narrow(3 + axis, run.offset, run.size + run.pads)
    exists = torch.zeros(seen.shape[3:], dtype=torch.bool, device=seen.device)
    exists[tuple(slice(run.size) for run in group)] = True
    seen_nm = seen.flatten(3).flatten(0, 2)
    return seen_nm[:, exists.flatten()], seen_nm[:, ~exists.flatten()]


SCORES_AT_ONCE = 1 << 19
"""Scores computed together: four windows of 7^3 tokens. One such matrix takes 2 MB, which stays in the cache."""
LOG2_E = 1 / math.log(2)
CONTIGUOUS = torch.contiguous_format


def window_attention(tokens_BXYZC: Tensor, attention: Any, shift: tuple[int, int, int]) -> Tensor:
    """Compute what MONAI's block does between its first norm and its first residual sum.

    Args:
        tokens_BXYZC: normalised tokens.
        attention: MONAI's WindowAttention, or a module of the same names, with biases and without dropout; its
            parameters are used, its forward is not.
        shift: of the windows, tokens; zeros in every other block.
    Returns:
        mixed_BXYZC.
    Source: Swin Transformer, arXiv 2103.14030, eq. 4, with the padding of MONAI.
    """
    window, shift_of_axes = clamp_window(tokens_BXYZC.shape[1:4], attention.window_size, shift)
    mix = _mix_by_kernels if triton_here.on_gpu(tokens_BXYZC) else _mix_by_groups
    q_bias, k_bias, v_bias = attention.qkv.bias.chunk(3)
    qkv_bias = torch.cat([q_bias, torch.zeros_like(k_bias), torch.zeros_like(v_bias)])
    qkv = linear(tokens_BXYZC, attention.qkv.weight, qkv_bias)
    mixed = mix(qkv, attention, tuple(window), tuple(shift_of_axes))
    return linear(mixed, attention.proj.weight, attention.proj.weight @ v_bias + attention.proj.bias)


def _mix_by_groups(qkv: Tensor, attention: Any, window: tuple[int, ...], shift: tuple[int, ...]) -> Tensor:
    """Mix tokens on a CPU: windows of equal size and surroundings together, see `window_groups`."""
    groups = window_groups(tuple(qkv.shape[1:4]), window, shift)
    biases = [
        position_bias(
            attention.relative_position_bias_table,
            *position_indices(attention.relative_position_index, window, group),
        )
        for group in groups
    ]
    mixed: Tensor = _Attention.apply(qkv, attention.num_heads, groups, *biases)  # type: ignore[no-untyped-call]
    return mixed


def _mix_by_kernels(qkv: Tensor, attention: Any, window: tuple[int, ...], shift: tuple[int, ...]) -> Tensor:
    """Mix tokens on a GPU: all windows in one launch; the sink is what the softmax starts from (see kernels)."""
    tokens = math.prod(window)
    bias_Hnn = _look_up(attention.relative_position_bias_table, attention.relative_position_index[:tokens, :tokens])
    return attend(qkv, bias_Hnn, window, shift)


def position_bias(table_TH: Tensor, real_nn: Tensor, pads_np: Tensor) -> Tensor:
    """Return the score that each pair of positions starts from, bias_Hnm; the last of m is the sink of the pads."""
    bias_Hnn = _look_up(table_TH, real_nn)
    if not pads_np.shape[1]:
        return bias_Hnn
    return torch.cat([bias_Hnn, _look_up(table_TH, pads_np).logsumexp(-1, keepdim=True)], dim=-1)


def _look_up(table_TH: Tensor, rows: Tensor) -> Tensor:
    """Return ``table[rows]`` with the heads first: so, the gradient takes a third of the time."""
    return table_TH.T.index_select(1, rows.flatten()).view(-1, *rows.shape)


class _Attention(torch.autograd.Function):
    """softmax(q k + bias) v in all windows; backward computes the probabilities again, a few windows at a time.

    Kept for it are the inputs, the output and the level of each query, log2 of the sum of its exponentials; not the
    probabilities, which are n / d times as large. Scores are in units of log2, as exp2 takes half the time of exp.
    """

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, heads: int, groups: tuple[Group, ...], *biases: Tensor) -> Tensor:
        out, levels = qkv.new_empty((*qkv.shape[:-1], qkv.shape[-1] // 3)), []
        for group, bias_Hnm in zip(groups, biases, strict=True):
            mixed_HWdn, level_HW1n = _mix(*_queries_keys_values(qkv, group, bias_Hnm), bias_Hnm * LOG2_E)
            _write(mixed_HWdn, _by_window(out, group, 1, heads)[0])
            levels.append(level_HW1n)
        ctx.save_for_backward(qkv, out, *levels, *biases)
        ctx.groups = groups
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        qkv, out, *rest = ctx.saved_tensors
        levels, biases = rest[: len(ctx.groups)], rest[len(ctx.groups) :]
        heads = len(biases[0])
        grad_qkv, grad_biases = torch.empty_like(qkv), []
        # The softmax's derivative needs sum_j P_ij dP_ij, which is out_i . grad_i.
        inner = (out * grad).unflatten(-1, (heads, -1)).sum(-1)
        for group, level_HW1n, bias_Hnm in zip(ctx.groups, levels, biases, strict=True):
            (g_HWdn,), (inner_HW1n,) = (_copy(_by_window(tokens, group, 1, heads)) for tokens in (grad, inner))
            q, k, v = _queries_keys_values(qkv, group, bias_Hnm)
            q, g = torch.cat([q, -level_HW1n], dim=2), torch.cat([g_HWdn, -inner_HW1n], dim=2)
            *grads, grad_bias = _gradients(q, k, v, g, bias_Hnm * LOG2_E)
            for values, target in zip(grads, _by_window(grad_qkv, group, 3, heads), strict=True):
                _write(values[..., : bias_Hnm.shape[1]], target)
            grad_biases.append(grad_bias)
        return grad_qkv, None, None, *grad_biases


def _mix(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Return means of v_HWdm weighted by exp2(q k + bias), mixed_HWdn, and log2 of the weights' sums, level_HW1n.

    k and v have a row of ones below, so that the product with v ends with the sums.
    """
    width = q.shape[2]
    sums, top = q.new_empty(*v.shape[:3], q.shape[3]), q.new_empty(*q.shape[:2], q.shape[3], 1)
    for part, (scores,) in _parts(q, k, copies=1):
        _multiply(q[part].mT, k[part][:, :, :width], scores).add_(bias[part[0], None])
        torch.amax(scores, -1, keepdim=True, out=top[part])
        _multiply(v[part], scores.sub_(top[part]).exp2_().mT, sums[part])
    return sums[:, :, :width] / sums[:, :, width:], top.mT + sums[:, :, width:].log2()


def _gradients(q: Tensor, k: Tensor, v: Tensor, g: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of q, k, v and bias, from the output's, g_HWdn.

    Below q stands a row of the queries' levels and below g one of the inner products, both negative; k and v have a row
    of ones there. So the first product gives the logarithms of the probabilities, the third the bracket of
    dS = P (dP - inner), without a pass over the matrices.
    """
    width = q.shape[2] - 1
    grad_q, grad_k, grad_v = (torch.empty_like(x[:, :, :width], memory_format=CONTIGUOUS) for x in (q, k, v))
    grad_bias_Hnm = torch.zeros_like(bias)
    for part, (p, grad_scores) in _parts(q, k, copies=2):
        _multiply(q[part].mT, k[part], p).add_(bias[part[0], None]).exp2_()
        _multiply(g[part][:, :, :width], p, grad_v[part])
        _multiply(g[part].mT, v[part], grad_scores).mul_(p)
        _multiply(k[part][:, :, :width], grad_scores.mT, grad_q[part])
        _multiply(q[part][:, :, :width], grad_scores, grad_k[part])
        grad_bias_Hnm[part[0]] += grad_scores.sum(1)
    # q came in multiplied by both of these factors.
    return grad_q.mul_(width**-0.5), grad_k.div_(LOG2_E), grad_v, grad_bias_Hnm


def _multiply(left: Tensor, right: Tensor, out: Tensor) -> Tensor:
    """Multiply the last two axes into ``out``; the first two, heads and windows, can be seen as one."""
    torch.bmm(left.flatten(0, 1), right.flatten(0, 1), out=out.view(-1, *out.shape[2:]))
    return out


def _parts(q_HWdn: Tensor, k_HWdm: Tensor, copies: int) -> Iterator[tuple[tuple[slice, slice], Tensor]]:
    """Yield heads and windows whose scores fit the cache: all windows of some heads, or some of one head.

    Yields with each part scratch memory for its scores, (copies, H, W, n, m), the same for all: still in the cache.
    """
    heads, windows, n, m = *q_HWdn.shape[:2], q_HWdn.shape[3], k_HWdm.shape[3]
    windows_at_once = min(windows, max(1, SCORES_AT_ONCE // (n * m)))
    heads_at_once = min(heads, max(1, SCORES_AT_ONCE // (n * m * windows)))
    memory = q_HWdn.new_empty(copies * heads_at_once * windows_at_once * n * m)
    for head in range(0, heads, heads_at_once):
        for first in range(0, windows, windows_at_once):
            of_part = min(heads_at_once, heads - head), min(windows_at_once, windows - first)
            part = slice(head, head + of_part[0]), slice(first, first + of_part[1])
            shape = (copies, *of_part, n, m)
            yield part, memory[: math.prod(shape)].view(shape)


def _queries_keys_values(qkv: Tensor, group: Group, bias_Hnm: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return q_HWdn as it enters the scores, k_HWdm and v_HWdm with a row of ones below; a sink stands last."""
    heads, n, m = bias_Hnm.shape
    q, k, v = _copy(_by_window(qkv, group, 3, heads))
    q *= q.shape[2] ** -0.5 * LOG2_E
    k1, v1 = q.new_ones(2, heads, q.shape[1], q.shape[2] + 1, m)
    for below, x in ((k1[:, :, :-1], k), (v1[:, :, :-1], v)):
        below[..., :n], below[..., n:] = x, 0.0
    return q, k1, v1


def _by_window(tokens_BXYZF: Tensor, group: Group, parts: int, heads: int) -> Tensor:
    """View a group as (parts of F, H, B, windows along three axes, d, tokens of a window along three axes)."""
    view: Tensor = cut_windows(tokens_BXYZF, group).unflatten(-1, (parts, heads, -1))
    return view.permute(7, 8, 0, 1, 3, 5, 9, 2, 4, 6)


def _copy(by_window: Tensor) -> Tensor:
    """Copy the windows of a view one after the other: (parts of F, H, W, d, n)."""
    return by_window.clone(memory_format=CONTIGUOUS).flatten(7).flatten(2, 5)


def _write(values: Tensor, by_window: Tensor) -> None:
    by_window.copy_(values.view(by_window.shape))
