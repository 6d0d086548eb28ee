"""Comparing two ways of doing the same thing on a machine that others use too."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Comparison:
    """CPU seconds of two ways, measured in turns in one process."""

    reference_s: list[float]
    ours_s: list[float]

    @property
    def ratio(self) -> float:
        """Median time of the reference over the median of ours."""
        return float(np.median(self.reference_s) / np.median(self.ours_s))

    @property
    def spread(self) -> tuple[float, float]:
        """Least and largest ratio of a pair of neighbouring runs."""
        pairs = np.divide(self.reference_s, self.ours_s)
        return float(pairs.min()), float(pairs.max())

    def line(self, name: str, target: float) -> str:
        """One line for people: medians, ratio, spread, target."""
        low, high = self.spread
        verdict = "meets" if self.ratio >= target else "MISSES"
        return (
            f"{name:<44} reference {np.median(self.reference_s):8.3f} s   ours {np.median(self.ours_s):8.3f} s   "
            f"ratio {self.ratio:5.1f}x ({low:.1f}-{high:.1f})   {verdict} {target:g}x"
        )


def compare(reference: Callable[[], object], ours: Callable[[], object], rounds: int) -> Comparison:
    """Run both once to warm up, then in turns; CPU time of this process, so that neighbours do not count."""
    reference()
    ours()
    reference_s: list[float] = []
    ours_s: list[float] = []
    for _ in range(rounds):
        reference_s.append(_cpu_seconds(reference))
        ours_s.append(_cpu_seconds(ours))
    return Comparison(reference_s, ours_s)


def _cpu_seconds(action: Callable[[], object]) -> float:
    start = time.process_time()
    action()
    return time.process_time() - start
