"""Numbers and records from what JSON holds of them."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

Record = TypeVar("Record")


def finite(value: object) -> float | None:
    """A number; none for true, false, what is not finite, greater than a float holds, or no number at all."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
        return None
    return float(value)


def made(kind: type[Record], held: Mapping[str, Any]) -> Record:
    """A dataclass of texts and numbers from a JSON object: null among its numbers is NaN, further keys are left out.

    Raises:
        KeyError, TypeError: a key is missing, a value is of another kind, or the object is none.
    """
    return kind(**{one.name: _fitting(held[one.name], str(one.type)) for one in fields(kind)})  # type: ignore[arg-type]


def _fitting(value: Any, kind: str) -> Any:
    if kind.startswith("tuple["):
        if not isinstance(value, list):
            raise TypeError(f"{value!r} is no list")
        each = kind.removeprefix("tuple[").removesuffix(", ...]")
        return tuple(_fitting(item, each) for item in value)
    if kind == "float" and (value is None or finite(value) is not None):
        return math.nan if value is None else float(value)
    if kind == "int" and isinstance(value, int) and not isinstance(value, bool):
        return value
    if kind.startswith(("str", "Literal[")) and (isinstance(value, str) or (value is None and kind.endswith("None"))):
        return value
    raise TypeError(f"{value!r} is no {kind}")
