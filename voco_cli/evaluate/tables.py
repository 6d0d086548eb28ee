"""Numbers, intervals and p values as tables print them, tables as Markdown, and records as JSON holds them."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from functools import cache
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from voco_cli.foreign_text import named, one_line

Record = TypeVar("Record")

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


def some(names: Sequence[str]) -> str:
    """Return ``7 (a, b, c, d, e and 2 more)``."""
    return f"{len(names)} ({named(names)})"


def without_nan(value: Any) -> Any:
    """Return the same object with null for numbers that are not finite, which JSON does not know."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def from_json(kind: type[Record], held: Mapping[str, Any]) -> Record:
    """Return a dataclass of texts and numbers from a JSON object: null for a number is NaN, more keys are left out.

    Raises:
        AttributeError, ValueError: a key is missing, a value is of another kind, or the object is none.
    """
    hints = get_type_hints(kind)
    values = {key: _read_value(value, hints[key]) for key, value in held.items() if key in hints}
    try:
        return kind(**dict(_strict_model(kind).model_validate(values)))  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, (kind.__name__, *first['loc'])))}: {first['msg']}") from error


@cache
def _strict_model(kind: type[Any]) -> type[BaseModel]:
    """Return a model of a dataclass to which true is no number, and a number no text."""
    hints = get_type_hints(kind)
    found: dict[str, Any] = {
        one.name: (hints[one.name], ... if one.default is MISSING else one.default) for one in fields(kind)
    }
    return create_model(kind.__name__, __config__=ConfigDict(strict=True), **found)


def _read_value(value: Any, hint: Any) -> Any:
    """Return a value of JSON as Python has it: lists as tuples, null for a number as NaN."""
    if isinstance(value, list) and get_origin(hint) is tuple:
        return tuple(_read_value(item, get_args(hint)[0]) for item in value)
    if hint is float and isinstance(value, int) and abs(value) > sys.float_info.max:
        raise ValueError("a number is greater than any float")
    return math.nan if value is None and hint is float else value
