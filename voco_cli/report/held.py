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
    """A dataclass from a JSON object: null among its numbers is NaN, lists are tuples, further keys are left out.

    Raises:
        KeyError, TypeError: a key is missing, or the object is none.
    """
    values = {}
    for one in fields(kind):  # type: ignore[arg-type]  # every kind is a dataclass
        value, numbers = held[one.name], "float" in str(one.type)
        if isinstance(value, list):
            value = tuple(math.nan if item is None and numbers else item for item in value)
        values[one.name] = math.nan if value is None and numbers else value
    return kind(**values)
