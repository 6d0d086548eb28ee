"""Exponents on made numbers, and every stage once on a few scans."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import growth_stages
from benchmarks.growth import BEFORE, STAGES, exponent, rows, steepest
from benchmarks.registry import Options
from benchmarks.rows import Figure, Table

SIZES = (100, 1_000, 10_000, 160_000)


def test_the_fitted_exponent_of_a_power_law() -> None:
    assert exponent(SIZES, [3e-3 * n**1.2 for n in SIZES]) == pytest.approx(1.2)
    assert exponent(SIZES, [7.0] * 4) == pytest.approx(0.0, abs=1e-12)


def test_the_steepest_part_shows_what_a_constant_start_hides() -> None:
    seconds = [1.0 + (n / 10_000) ** 2 for n in SIZES]  # 1.0001, 1.01, 2, 257
    assert exponent(SIZES, seconds) < 0.8
    assert steepest(SIZES, seconds) == pytest.approx(1.7515, abs=1e-3)  # log(257 / 2) / log(16)


def test_times_that_nobody_waits_for_count_as_equal() -> None:
    assert steepest((10, 100), [1e-6, 9e-3]) == 0.0
    assert steepest((10, 100), [1e-6, 1e-1]) == pytest.approx(1.0)


def test_every_stage_on_a_few_scans(tmp_path: Path) -> None:
    assert growth_stages.lay_out(str(tmp_path), 12) > 0
    for stage in ("index", "open_list", "split", "fill_cache", "look_up", "draw_epoch"):
        assert getattr(growth_stages, stage)(str(tmp_path)) > 0
    assert len(list((tmp_path / "scans").rglob("*.nii"))) == 12
    assert len(list((tmp_path / ".voco-cache" / "volumes").rglob("*.b2nd"))) == 12
    assert {*STAGES.values(), *BEFORE.values()} <= set(vars(growth_stages))


@pytest.mark.slow
def test_the_whole_case() -> None:
    found = list(rows(Options(quick=True)))
    tables = [row for row in found if isinstance(row, Table)]
    assert [table.columns for table in tables] == [["scans", *STAGES]] * 2
    assert all(row.met for row in found if isinstance(row, Figure) and "opening" in row.name)
