"""Where the windows of a Swin block lie, when nothing is padded, rolled or masked.

MONAI pads each axis at its end to whole windows, rolls it by half a window in every second block, and then forbids
(mask -100, a factor of 4e-44) attention between tokens that were not neighbours before the roll. The same pairs of
tokens are found without any of that: cut the windows where the roll would join two ends of the axis, and leave the
padding away. Along 32 tokens with windows of 7 that gives, shifted, ``0:3 | 3:31 (4 windows) | 31:32 + 3 pads``.
Windows of equal size that stand side by side are a run; one run for each axis is a group, and a group is one slice of
the tokens and one call of attention.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby, product

import torch
from torch import Tensor


@dataclass(frozen=True)
class Run:
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


Group = tuple[Run, Run, Run]


def clamp_window(sizes: Sequence[int], window: Sequence[int], shift: Sequence[int]) -> tuple[list[int], list[int]]:
    """Window and shift along each axis: one no longer than the window is one window and is not shifted."""
    fits = [size <= length for size, length in zip(sizes, window, strict=True)]
    return (
        [size if fit else length for size, length, fit in zip(sizes, window, fits, strict=True)],
        [0 if fit else by for by, fit in zip(shift, fits, strict=True)],
    )


def axis_runs(size: int, window: int, shift: int) -> list[Run]:
    """Runs along an axis of ``size`` tokens, of which the first ``shift`` are rolled to its end."""
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
        runs.append(Run(members[0][0], len(members), real, length - real, offset))
    return runs


@lru_cache(maxsize=256)
def window_groups(sizes: tuple[int, ...], window: tuple[int, ...], shift: tuple[int, ...]) -> tuple[Group, ...]:
    """Groups that hold every token once; ``window`` and ``shift`` as ``clamp_window`` gives them."""
    x, y, z = (axis_runs(*axis) for axis in zip(sizes, window, shift, strict=True))
    return tuple(product(x, y, z))


def cut_windows(tokens_BXYZF: Tensor, group: Group) -> Tensor:
    """View of a group's tokens as (B, windows, x, windows, y, windows, z, F)."""
    view = tokens_BXYZF
    for axis, run in zip((1, 3, 5), group, strict=True):
        view = view.narrow(axis, run.start, run.windows * run.size).unflatten(axis, (run.windows, run.size))
    return view


def position_indices(index_NN: Tensor, window: Sequence[int], group: Group) -> tuple[Tensor, Tensor]:
    """Rows of the table of position biases for the pairs of a group's window.

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
