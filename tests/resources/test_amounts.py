"""Sums, spreads and what fits, by hand."""

from __future__ import annotations

import pytest

from voco_cli.resources.amounts import Amount, Need, Part, Plan, total


def part(name: str, value: float, spread: float = 0.0, known: str = "measured") -> Part:
    return Part(name, Amount.of(value, known, spread))  # type: ignore[arg-type]


def test_a_need_fits_where_there_is_room_for_the_most_it_may_come_to() -> None:
    parts = (part("cache", 100, spread=20), part("checkpoints", 50, known="estimated"))
    need = Need("disk", "/", parts, free_bytes=170)
    assert (need.needed_bytes, need.high_bytes, need.total.known, need.fits) == (150, 170, "measured", True)
    assert not Need("disk", "/", parts, free_bytes=169).fits


def test_times_add_up_with_their_spreads() -> None:
    assert total([Amount.of(10, "measured", 2), Amount.of(30, "estimated", 5)]) == Amount(40, "estimated", 33, 47)
    assert Amount.of(3, "measured", 4) == Amount(3, "measured", 0, 7)
    assert Amount.of(3, "measured", 1).times(2) == Amount(6, "measured", 4, 8)
    assert Amount.within(6, 2) == Amount(6, "estimated", 3, 12)


def test_a_plan_as_json_has_every_number() -> None:
    need = Need("disk", "/data", (part("cache", 100.4),), free_bytes=50)
    told = Plan("pre-training", (need,), (part("steps", 7),), notes=("a",), advice=("b",), figures={"n": 1}).to_json()
    assert told["fits"] is False
    assert told["needs"][0]["needed_bytes"] == 100
    assert told["needs"][0]["parts"][0] == {
        "name": "cache",
        "value": 100.4,
        "known": "measured",
        "low": 100.4,
        "high": 100.4,
    }
    assert told["time_s"]["value"] == pytest.approx(7)
    assert (told["notes"], told["advice"], told["figures"]) == (["a"], ["b"], {"n": 1})
    assert Plan("x", (), ()).to_json()["time_s"] is None
