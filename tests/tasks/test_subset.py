"""Shares of the training cases: nested, by patient, seeded."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from voco_cli.config.task_schema import Task
from voco_cli.data.index.datalist import Entry
from voco_cli.errors import UsageError
from voco_cli.tasks.splits import subset

# Patient n has one scan, and every fifth has three.
SCANS = [
    Entry(image=Path(f"p{n:02d}_{scan}.nii.gz"), patient=f"p{n:02d}")
    for n in range(25)
    for scan in range(3 if n % 5 == 0 else 1)
]


def taken(**how: float) -> set[Path]:
    return {entry.image for entry in subset(SCANS, Task.model_validate(how), seed=4)}


def test_all_by_default_and_in_order() -> None:
    assert subset(SCANS, Task(), 0) == tuple(SCANS)
    half = subset(SCANS, Task(fraction=0.5), 0)
    assert list(half) == [entry for entry in SCANS if entry in half]


def test_smaller_is_part_of_larger_however_it_is_asked() -> None:
    sizes = [taken(cases=n) for n in range(1, 36)]
    assert all(small <= large for small, large in pairwise(sizes))
    shares = [taken(fraction=n / 20) for n in range(1, 21)]
    assert all(small <= large for small, large in pairwise(shares))
    assert taken(cases=3) <= taken(fraction=0.5) or taken(fraction=0.5) <= taken(cases=3)


def test_patients_are_whole_and_the_number_is_reached() -> None:
    for wanted in range(1, 36):
        found = taken(cases=wanted)
        assert wanted <= len(found) <= wanted + 2
        for entry in SCANS:
            beside = {other.image for other in SCANS if other.patient == entry.patient}
            assert beside <= found or not beside & found


def test_a_fraction_is_one_of_patients() -> None:
    patients = {entry.patient for entry in subset(SCANS, Task(fraction=0.2), 1)}
    assert len(patients) == 5
    assert len(subset(SCANS, Task(fraction=0.001), 1)) in (1, 3)  # at least one patient


def test_seeds_draw_differently() -> None:
    assert len({frozenset(e.patient for e in subset(SCANS, Task(fraction=0.2), seed)) for seed in range(10)}) > 5


def test_categories_come_in_their_shares() -> None:
    scans = [Entry(image=Path(f"{n}.nii.gz"), patient=str(n), category="sick" if n < 20 else "well") for n in range(60)]
    for count in (6, 12, 30):
        found = Counter(entry.category for entry in subset(scans, Task(cases=count), seed=0))
        assert found == {"sick": count // 3, "well": count - count // 3}


def test_more_than_there_are_is_refused() -> None:
    with pytest.raises(UsageError, match=r"task\.cases is 36, and there are 35 cases to train on"):
        subset(SCANS, Task(cases=36), 0)
