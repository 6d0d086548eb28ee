"""What a case reports: ratios of two ways, single figures, tables, and what was left out with the reason."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Ratio:
    """CPU seconds of two ways of doing the same, measured in turns in one process.

    Attributes:
        reference_s, ours_s: a value a round.
        target: least ratio; none where nothing was promised.
        error: largest difference of the two results, in the unit that ``tolerance`` has.
        tolerance: largest difference that counts as equal.
    """

    name: str
    reference_s: list[float]
    ours_s: list[float]
    target: float | None = None
    error: float = 0.0
    tolerance: float = math.inf

    @property
    def ratio(self) -> float:
        """Median time of the reference over the median of ours."""
        return float(np.median(self.reference_s) / np.median(self.ours_s))

    @property
    def spread(self) -> tuple[float, float]:
        """Least and largest ratio of a pair of neighbouring runs."""
        pairs = np.divide(self.reference_s, self.ours_s)
        return float(pairs.min()), float(pairs.max())

    @property
    def met(self) -> bool:
        """Whether the target was reached."""
        return self.target is None or self.ratio >= self.target

    @property
    def equal(self) -> bool:
        """Whether both ways gave the same; NaN is not the same."""
        return self.error <= self.tolerance

    def line(self, judged: bool) -> str:
        """Medians, ratio, spread, target and difference."""
        low, high = self.spread
        words = f"{self.name:<52} reference {np.median(self.reference_s):8.3f} s   ours {np.median(self.ours_s):8.3f} s"
        words += f"   {self.ratio:5.2f}x ({low:.2f}-{high:.2f})"
        words += _verdict(self.met, judged, f"{self.target:g}x") if self.target is not None else ""
        if math.isfinite(self.tolerance):
            words += f"   {'within' if self.equal else 'DIFFERS by'} {self.error:.1e}"
        return words

    def to_json(self) -> dict[str, Any]:
        """Everything, raw values included."""
        tolerance = self.tolerance if math.isfinite(self.tolerance) else None
        found = {**asdict(self), "tolerance": tolerance, "ratio": self.ratio, "spread": list(self.spread)}
        return {"kind": "ratio", **found, "met": self.met, "equal": self.equal}


@dataclass(frozen=True)
class Figure:
    """One quantity that stays below a limit.

    Attributes:
        values: a value a round; their median counts.
        limit: most that was promised; none where nothing was.
    """

    name: str
    unit: str
    values: list[float]
    limit: float | None = None

    equal = True

    @property
    def value(self) -> float:
        """The median."""
        return float(np.median(self.values))

    @property
    def met(self) -> bool:
        """Whether the limit was kept."""
        return self.limit is None or self.value <= self.limit

    def line(self, judged: bool) -> str:
        """Median, spread and limit."""
        words = f"{self.name:<52} {self.value:.4g} {self.unit}"
        if len(self.values) > 1:
            words += f" ({min(self.values):.4g}-{max(self.values):.4g})"
        return words + (_verdict(self.met, judged, f"at most {self.limit:g}") if self.limit is not None else "")

    def to_json(self) -> dict[str, Any]:
        """Everything, raw values included."""
        return {"kind": "figure", **asdict(self), "value": self.value, "met": self.met}


@dataclass(frozen=True)
class Table:
    """Numbers in rows and columns."""

    name: str
    columns: list[str]
    rows: list[list[float]] = field(default_factory=list)

    met = equal = True

    def line(self, judged: bool) -> str:
        """The table, its columns aligned to the right."""
        cells = [self.columns, *([f"{value:.4g}" for value in row] for row in self.rows)]
        widths = [max(len(row[i]) for row in cells) for i in range(len(self.columns))]
        lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]
        return "\n".join([self.name, *lines])

    def to_json(self) -> dict[str, Any]:
        """Everything."""
        return {"kind": "table", **asdict(self)}


@dataclass(frozen=True)
class Note:
    """What was not measured, and why; or a fact that is no number."""

    name: str
    words: str

    met = equal = True

    def line(self, judged: bool) -> str:
        """One line."""
        return f"{self.name}: {self.words}"

    def to_json(self) -> dict[str, Any]:
        """Everything."""
        return {"kind": "note", **asdict(self)}


Row = Ratio | Figure | Table | Note


def _verdict(met: bool, judged: bool, target: str) -> str:
    if not judged:
        return f"   (target {target} holds for the full size)"
    return f"   {'met' if met else 'MISSED'}: {target}"
