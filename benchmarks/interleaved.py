"""Comparing two ways of doing the same thing on a machine that others use too."""

from __future__ import annotations

import time
from collections.abc import Callable

from benchmarks.rows import Ratio


def compare(
    name: str,
    reference: Callable[[], object],
    ours: Callable[[], object],
    rounds: int,
    *,
    target: float | None = None,
    error: float = 0.0,
    tolerance: float = float("inf"),
    before_reference: Callable[[], object] = lambda: None,
    before_ours: Callable[[], object] = lambda: None,
) -> Ratio:
    """Run both once to warm up, then in turns; CPU time of this process.

    That leaves out the time in which others have the core. It grows all the same where they use its caches and memory.

    Args:
        before_reference, before_ours: what sets the stage for each, not measured.
    """
    seconds: tuple[list[float], list[float]] = ([], [])
    for turn in range(rounds + 1):
        for prepare, action, measured in (
            (before_reference, reference, seconds[0]),
            (before_ours, ours, seconds[1]),
        ):
            prepare()
            took = cpu_seconds(action)
            if turn > 0:
                measured.append(took)
    return Ratio(name, *seconds, target, error, tolerance)


def cpu_seconds(action: Callable[[], object]) -> float:
    """CPU seconds that an action takes in this process, all threads together."""
    start = time.process_time()
    action()
    return time.process_time() - start
