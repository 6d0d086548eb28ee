"""Numbers, intervals and p values as tables print them, and tables as Markdown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from voco_cli.foreign_text import one_line

NONE = "-"
"""A cell without a value."""


def figure(value: float, digits: int = 3, sign: bool = False) -> str:
    """Return a value with so many digits behind the point; a dash where it is not defined."""
    return NONE if math.isnan(value) else f"{value:{'+' if sign else ''}.{digits}f}"


def interval(low: float, high: float, digits: int = 3, sign: bool = False) -> str:
    """Return ``[low, high]``; nothing where it is not defined."""
    return "" if math.isnan(low) else f"[{figure(low, digits, sign)}, {figure(high, digits, sign)}]"


def with_interval(value: float, low: float, high: float, digits: int = 3, sign: bool = False) -> str:
    """Return ``value [low, high]``, as much of it as is defined."""
    return f"{figure(value, digits, sign)} {interval(low, high, digits, sign)}".rstrip()


def p_value(p: float) -> str:
    """Return a p value as papers print it."""
    if math.isnan(p):
        return NONE
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table; numbers to the right, the first column to the left."""
    rules = ["---", *["---:"] * (len(headings) - 1)]
    lines = [headings, rules, *rows]
    escaped = ([one_line(cell).replace("|", "\\|") for cell in line] for line in lines)
    return "".join(f"| {' | '.join(line)} |\n" for line in escaped)


def some(names: Sequence[str], most: int = 5) -> str:
    """Return ``7 (a, b, c, d, e and 2 more)``."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{len(names)} ({', '.join(names[:most])}{more})"


def without_nan(value: Any) -> Any:
    """Return the same object with null for numbers that are not finite, which JSON does not know."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
