"""What was measured: repeated values of one quantity, and which of two of them is the limit."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Measured:
    """One quantity, measured several times.

    Attributes:
        name: what it is.
        unit: of each value.
        values: in the order in which they were measured; at least one.
    """

    name: str
    unit: str
    values: tuple[float, ...]

    @property
    def middle(self) -> float:
        """The median."""
        return median(self.values)

    @property
    def spread(self) -> tuple[float, float]:
        """Least and largest value."""
        return min(self.values), max(self.values)

    def to_json(self) -> dict[str, Any]:
        """Median, spread and all values."""
        low, high = self.spread
        return {"median": self.middle, "least": low, "most": high, "unit": self.unit, "values": list(self.values)}


def limit_sentence(step_per_s: float, loader_per_s: float, loaders: int) -> str:
    """Which of the two holds the other up.

    Args:
        step_per_s: volumes that the steps use in a second.
        loader_per_s: volumes that the loader gives in a second when nobody else needs the cores.
        loaders: loader processes; with none, reading and computing take turns.
    """
    figures = f"steps take {step_per_s:.3g} volumes a second, and the loader gives {loader_per_s:.3g}"
    if loaders == 0:
        share = step_per_s / (step_per_s + loader_per_s)
        return f"Without loader processes, reading takes {share:.0%} of the time of a run ({figures})."
    if loader_per_s < step_per_s:
        return f"The loader is the limit: {figures}. More data.workers, cache.codec=lz4 or a faster disk would help."
    return f"The step is the limit: {figures}."
