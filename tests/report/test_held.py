"""Records from JSON: what fits, and what does not."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pytest

from voco_cli.report.curves import finite
from voco_cli.report.run_record import from_json


@dataclass(frozen=True)
class Made:
    run: str
    part: str | None
    cases: int
    low: float
    values: tuple[float, ...]


HELD: dict[str, Any] = {"run": "a", "part": None, "cases": 3, "low": None, "values": [1, None, 0.5], "more": "left out"}


def test_null_among_numbers_is_nan_and_lists_are_tuples() -> None:
    found = from_json(Made, HELD)
    assert (found.run, found.part, found.cases, found.values[0], found.values[2]) == ("a", None, 3, 1.0, 0.5)
    assert math.isnan(found.low)
    assert math.isnan(found.values[1])


@pytest.mark.parametrize(
    "odd",
    [
        {"run": None},
        {"run": 3},
        {"part": 3},
        {"cases": None},
        {"cases": True},
        {"cases": 1.5},
        {"low": "x"},
        {"low": 10**400},
        {"low": True},
        {"values": 3},
        {"values": None},
        {"values": "abc"},
        {"values": [[1.0]]},
    ],
)
def test_values_of_another_kind_are_refused(odd: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"should be a valid|greater than any float"):
        from_json(Made, {**HELD, **odd})


def test_what_is_a_number() -> None:
    assert (finite(3), finite(-0.5)) == (3.0, -0.5)
    assert [finite(value) for value in (True, None, "3", math.nan, math.inf, 10**400)] == [None] * 6
