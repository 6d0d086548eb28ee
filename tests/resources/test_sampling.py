"""Scaling a sample to the whole by hand, and sizes from lists and headers."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from tests.data.cache.made_scans import body_hu, write_nifti
from voco_cli.config.schema import Cache, Preprocess
from voco_cli.data.index.datalist import Entry
from voco_cli.resources.sampling import SampleRequest, ScanSize, case_size, scaled, seeded_order, take_sample


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


def test_a_sample_tells_of_sizes_and_faults(tmp_path: Path) -> None:
    images = [write_nifti(tmp_path / f"{n}.nii", body_hu((20, 18, 14)), np.eye(4)) for n in range(5)]
    images[1].write_bytes(images[1].read_bytes()[:700])
    entries = tuple(Entry(image=path, patient=path.stem) for path in images)
    request = SampleRequest(entries, tmp_path / "cache", Preprocess(), Cache(), False, 1, 3, 60)
    sample = take_sample(request)
    assert [one.entry.patient for one in sample.cases] == ["0", "2", "3"]
    stored = sum(path.stat().st_size for path in (tmp_path / "cache").rglob("*.b2nd"))
    assert sum(one.cache_bytes for one in sample.cases) == stored
    assert [name for name, _ in sample.failed] == ["1"]
    assert "700" in sample.failed[0][1] or "truncated" in sample.failed[0][1]


def test_a_sample_ends_when_its_time_is_over_and_it_has_enough(tmp_path: Path) -> None:
    images = [write_nifti(tmp_path / f"{n}.nii", body_hu((20, 18, 14)), np.eye(4)) for n in range(4)]
    entries = tuple(Entry(image=path, patient=path.stem) for path in images)
    request = SampleRequest(entries, tmp_path / "cache", Preprocess(), Cache(), False, 2, 4, 0.0)
    assert len(take_sample(request).cases) == 2
