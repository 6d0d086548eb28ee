"""Scaling a sample to the whole by hand, and sizes from lists and headers."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from tests.data.cache.made_scans import body_hu, write_nifti
from voco_cli.config.schema import Cache, Preprocess
from voco_cli.data.cache.store import VolumeCache
from voco_cli.data.index.datalist import Entry
from voco_cli.errors import ResourceError
from voco_cli.resources.cases import (
    LEAST_CASES,
    RunCases,
    ScanSize,
    case_size,
    preprocessing_bytes,
    scaled,
    seeded_order,
)


def test_the_ratio_estimator_by_hand() -> None:
    """Values 2, 4, 9 of sizes 1, 2, 3 and 12 in all, of 6 cases: ratio 2.5, residuals -0.5, -1, 1.5."""
    amount = scaled([2, 4, 9], [1, 2, 3], 12, 6)
    error = 12 / 2 * math.sqrt((1 - 3 / 6) * (0.25 + 1 + 2.25) / 2 / 3)
    assert amount.value == pytest.approx(30)
    assert (amount.low, amount.high) == (pytest.approx(30 - 2 * error), pytest.approx(30 + 2 * error))


def test_a_whole_population_has_no_spread_and_one_case_half_its_value() -> None:
    every = scaled([2, 4, 9], [1, 2, 3], 6, 3)
    assert (every.value, every.low, every.high) == (15, 15, 15)
    one = scaled([4], [2], 20, 10)
    assert (one.value, one.low, one.high) == (40, pytest.approx(40 - 18), pytest.approx(40 + 18))


def test_size_of_a_case_from_the_list_by_hand() -> None:
    """100 x 80 x 40 at 3 x 3 x 5 mm, x down the body: (n - 1) s / p + 1 at 1.5 mm, padded to 192 x 192 x 64."""
    entry = Entry(
        image=Path("a.nii"), patient="a", shape=(40, 80, 100), spacing_mm=(5, 3, 3), orientation="SPL", channels=()
    )
    at = Preprocess(spacing_mm=(1.5, 1.5, 1.5), min_size_vox=(192, 192, 64))
    assert case_size(entry, at) == ScanSize(320_000, 199 * 192 * 131)
    two = entry.model_copy(update={"channels": (Path("b.nii"),)})
    assert case_size(two, Preprocess(resize_vox=(8, 8, 4))) == ScanSize(640_000, 512)


def test_size_of_a_case_from_its_header(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii", body_hu((20, 18, 14)), np.diag([2.0, 2.0, 3.0, 1.0]))
    assert case_size(Entry(image=path, patient="a"), Preprocess()) == ScanSize(20 * 18 * 14, 20 * 18 * 14)
    path.write_bytes(b"no scan")
    assert case_size(Entry(image=path, patient="a"), Preprocess()) is None


def test_order_is_that_of_the_seed() -> None:
    entries = [Entry(image=Path(f"{name}.nii"), patient=name) for name in "abcdefgh"]
    assert seeded_order(entries, 3) == seeded_order(entries, 3)
    assert seeded_order(entries, 3) != seeded_order(entries, 4)
    assert {entry.patient for entry in seeded_order(entries, 3)} == set("abcdefgh")


def made_cases(folder: Path, number: int) -> RunCases:
    images = [write_nifti(folder / f"{n}.nii", body_hu((20, 18, 14)), np.eye(4)) for n in range(number)]
    entries = tuple(Entry(image=path, patient=path.stem) for path in images)
    cases = RunCases(entries, (), VolumeCache(folder / "cache", Preprocess(), Cache()))
    cases.find_missing(lambda text: None)
    return cases


def test_tried_cases_tell_of_sizes_and_faults(tmp_path: Path) -> None:
    cases = made_cases(tmp_path, 5)
    image = cases.training[1].image
    image.write_bytes(image.read_bytes()[:700])
    cases.try_some(cases.training, tmp_path / "tried", 60.0, lambda text: None)
    assert [one.entry.patient for one in cases.tried] == ["0", "2", "3", "4"]
    stored = sum(path.stat().st_size for path in (tmp_path / "tried").rglob("*.b2nd"))
    assert sum(one.cache_bytes for one in cases.tried) == stored
    assert [name for name, _ in cases.failed] == ["1"]
    assert "700" in cases.failed[0][1] or "truncated" in cases.failed[0][1]
    assert not (tmp_path / "cache").exists()


def test_trying_ends_when_its_time_is_over_and_there_are_enough(tmp_path: Path) -> None:
    cases = made_cases(tmp_path, 5)
    cases.try_some(cases.training, tmp_path / "tried", 0.0, lambda text: None)
    assert len(cases.tried) == LEAST_CASES


def test_without_a_tried_case_the_cache_is_foreseen_with_caution(tmp_path: Path) -> None:
    cases = made_cases(tmp_path, 5)
    amount = cases.cache_bytes
    assert (amount.value, amount.known, cases.build_s) == (pytest.approx(5 * 20 * 18 * 14 / 1.9), "estimated", None)


@pytest.mark.parametrize("why", ["memory", "disk"])
def test_what_has_no_room_is_not_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    cases = made_cases(tmp_path, 5)
    if why == "memory":
        monkeypatch.setattr("voco_cli.resources.cases.free_host_bytes", lambda: 1000)
    else:

        def full(*_: object, **__: object) -> None:
            raise ResourceError("The disk is full: x.", "free some space")

        monkeypatch.setattr(VolumeCache, "build", full)
    cases.try_some(cases.training, tmp_path / "tried", 60.0, lambda text: None)
    assert not cases.tried
    told = "more memory than is free" if why == "memory" else "The disk is full: x."
    assert told in (cases.not_tried or "")


def test_memory_of_a_process_that_builds_by_hand() -> None:
    """Twice the 16-bit voxels of the file, and two float volumes on the way."""
    assert preprocessing_bytes(ScanSize(1000, 500)) == 2 * 2 * 1000 + 2 * 4 * 500
