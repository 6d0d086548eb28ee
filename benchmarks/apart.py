"""Comparing two ways that each have a process to themselves, as two programs would.

What one leaves of its memory is nothing that the other could use: in one process, glibc would serve a large tensor of
the first from what the second has freed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context

import torch

from benchmarks.allocators import warm
from benchmarks.interleaved import cpu_seconds
from benchmarks.rows import Ratio

Processes = tuple[ProcessPoolExecutor, ProcessPoolExecutor]


@contextmanager
def two_processes() -> Iterator[Processes]:
    """One for the reference, with glibc's own settings, and one for ours, which keeps freed memory as our runs do."""
    spawn = get_context("spawn")
    with (
        ProcessPoolExecutor(1, spawn, initializer=_one_thread) as reference,
        ProcessPoolExecutor(1, spawn, initializer=_one_warm_thread) as ours,
    ):
        yield reference, ours


def compare_apart(
    name: str,
    reference: Callable[[], object],
    ours: Callable[[], object],
    rounds: int,
    processes: Processes,
    *,
    target: float | None = None,
    error: float = 0.0,
    tolerance: float = float("inf"),
) -> Ratio:
    """Run both once to warm up, then in turns, each in its process; CPU time of these.

    Args:
        reference, ours: functions of modules, or partials of such, with arguments that travel between processes.
    """
    seconds: tuple[list[float], list[float]] = ([], [])
    for turn in range(rounds + 1):
        for process, action, measured in zip(processes, (reference, ours), seconds, strict=True):
            took = process.submit(cpu_seconds, action).result()
            if turn > 0:
                measured.append(took)
    return Ratio(name, *seconds, target, error, tolerance)


def _one_thread() -> None:
    torch.set_num_threads(1)


def _one_warm_thread() -> None:
    _one_thread()
    warm()
