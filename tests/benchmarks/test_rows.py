"""What a case reports: ratios, spread and verdicts by hand, and that nothing of it is lost in JSON."""

from __future__ import annotations

import json
import math

from benchmarks.rows import Figure, Note, Ratio, Table


def test_ratio_is_of_the_medians_and_spread_is_of_the_pairs() -> None:
    row = Ratio("one", [4.0, 6.0, 9.0], [2.0, 2.0, 4.0], target=3.0)
    assert row.ratio == 6.0 / 2.0
    assert row.spread == (2.0, 3.0)
    assert row.met
    assert "3.00x (2.00-3.00)   met: 3x" in row.line(judged=True)


def test_a_missed_target_is_said_where_sizes_are_full() -> None:
    row = Ratio("one", [2.9], [1.0], target=3.0)
    assert not row.met
    assert "MISSED: 3x" in row.line(judged=True)
    assert "MISSED" not in row.line(judged=False)
    assert Ratio("one", [1.0], [9.0]).met


def test_equal_is_within_the_tolerance_and_never_nan() -> None:
    assert Ratio("one", [1.0], [1.0], error=1e-5, tolerance=1e-5).equal
    assert not Ratio("one", [1.0], [1.0], error=2e-5, tolerance=1e-5).equal
    assert not Ratio("one", [1.0], [1.0], error=math.nan, tolerance=1e-5).equal
    assert "DIFFERS by 2.0e-05" in Ratio("one", [1.0], [1.0], error=2e-5, tolerance=1e-5).line(judged=False)


def test_a_figure_is_its_median_below_a_limit() -> None:
    assert Figure("one", "s", [3.0, 1.0, 2.0], 2.0).met
    assert not Figure("one", "s", [3.0, 1.0, 2.5], 2.0).met
    assert Figure("one", "s", [9.0]).met
    assert Figure("one", "s", [3.0, 1.0, 2.0], 1.5).line(judged=True).endswith("2 s (1-3)   MISSED: at most 1.5")


def test_json_keeps_raw_values_and_has_no_infinity() -> None:
    rows = (
        Ratio("one", [4.0, 6.0], [2.0, 2.0], 3.0),
        Figure("two", "GB", [1.0], 2.0),
        Table("three", ["n", "s"], [[100.0, 0.5]]),
        Note("four", "skipped"),
    )
    told = json.loads(json.dumps([row.to_json() for row in rows], allow_nan=False))
    assert [one["kind"] for one in told] == ["ratio", "figure", "table", "note"]
    assert told[0]["reference_s"] == [4.0, 6.0]
    assert (told[0]["ratio"], told[0]["spread"], told[0]["met"], told[0]["equal"]) == (2.5, [2.0, 3.0], False, True)
    assert told[0]["tolerance"] is None
    assert told[1]["met"]
    assert told[2]["rows"] == [[100.0, 0.5]]


def test_a_table_aligns_its_columns_to_the_right() -> None:
    assert Table("t", ["scans", "s"], [[100.0, 0.25]]).line(judged=True) == "t\nscans     s\n  100  0.25"
