"""Splits depend on seed and patient alone; cases of one name are told apart by their folders."""

import hashlib
from pathlib import Path

import pytest

from voco_cli.data.index.datalist import SplitRule, assign_splits, distinct_names, is_file_name, position, stricter
from voco_cli.data.index.patients import case_of

PATIENTS = [f"patient_{i:04d}" for i in range(4000)]


def test_position_is_the_hash_as_a_fraction() -> None:
    digest = hashlib.blake2b(b"7\0x", digest_size=8).hexdigest()
    assert position(7, "x") == int(digest, 16) / 2**64


def test_shares_are_met() -> None:
    splits = list(assign_splits(PATIENTS, SplitRule(seed=1, validation=0.2, test=0.1)).values())
    # Three standard deviations of a binomial draw of 4000.
    assert splits.count("validation") == pytest.approx(800, abs=76)
    assert splits.count("test") == pytest.approx(400, abs=57)


def test_growing_moves_nobody() -> None:
    rule = SplitRule(seed=1, validation=0.2, test=0.1)
    few, many = assign_splits(PATIENTS[:500], rule), assign_splits(PATIENTS, rule)
    assert all(many[patient] == split for patient, split in few.items())


def test_another_seed_is_another_draw() -> None:
    first, second = (assign_splits(PATIENTS, SplitRule(seed=seed, validation=0.5)) for seed in (0, 1))
    assert 0.4 < sum(first[who] != second[who] for who in PATIENTS) / len(PATIENTS) < 0.6


def test_somebody_validates_in_the_smallest_set_and_stays_there_when_it_grows() -> None:
    rule = SplitRule(validation=0.001)
    few = assign_splits(PATIENTS[:5], rule)
    chosen = min(PATIENTS[:5], key=lambda who: position(0, who))
    assert [who for who, split in few.items() if split == "validation"] == [chosen]
    grown = assign_splits(PATIENTS[:50], rule, earlier=few)
    assert all(grown[who] == split for who, split in few.items())
    assert assign_splits(PATIENTS[:5], SplitRule(validation=0.0)) == dict.fromkeys(PATIENTS[:5], "training")
    assert assign_splits(PATIENTS[:1], rule) == {PATIENTS[0]: "training"}


def test_listed_splits_win_over_earlier_ones() -> None:
    splits = assign_splits(["a", "b"], SplitRule(), listed={"a": "test"}, earlier={"a": "training", "b": "validation"})
    assert splits == {"a": "test", "b": "validation"}


def test_held_out_is_held_out() -> None:
    assert stricter("training", "validation") == "validation"
    assert stricter("test", "validation") == "test"


def test_somebody_is_trained_on() -> None:
    rule = SplitRule(validation=0.9)
    held_out = [f"p{i}" for i in range(100) if position(0, f"p{i}") < 0.9][:3]
    splits = assign_splits(held_out, rule)
    assert sorted(splits.values()) == ["training", "validation", "validation"]
    assert splits[max(held_out, key=lambda who: position(0, who))] == "training"
    assert assign_splits(held_out[:1], rule) == {held_out[0]: "training"}


def names(*paths: str) -> list[str]:
    found = distinct_names({Path("/d") / path: case_of(Path("/d") / path) for path in paths})
    assert len(set(found.values())) == len(paths)
    assert all(is_file_name(name) for name in found.values())
    return list(found.values())


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["a.nii", "b.nii"], ["a", "b"]),
        (["case_1/imaging.nii.gz", "case_2/imaging.nii.gz"], ["case_1", "case_2"]),
        (["P1/CT", "P2/CT"], ["P1", "P2"]),  # folders of DICOM
        (["P1/CT", "P1/PET", "P2/CT", "P2/PET"], ["P1_CT", "P1_PET", "P2_CT", "P2_PET"]),
        (["P1/CT/IM1", "P2/CT/IM1"], ["P1_IM1", "P2_IM1"]),
        (["a/p1.nii", "b/p1.nii", "b/p2.nii"], ["a_p1", "b_p1", "p2"]),
        (["x_0000.nii", "x_0001.nii", "y_0000.nii"], ["x_0000", "x_0001", "y"]),
        (["v/t0/ct.nii", "w/t0/ct.nii", "v/t1/ct.nii"], ["v_t0", "w_t0", "v_t1"]),
        (["ct.nii", "a/ct.nii"], ["ct", "a"]),
        (["a/x.nii", "a/x.mha"], ["x_2", "x"]),
        (["a_x.nii", "a/x.nii", "b/x.nii"], ["a_x", "a_x_2", "b_x"]),
        ([f"{'ä' * 150}1/x.nii", f"{'ä' * 150}2/x.nii"], [f"{'ä' * 98}1_x", f"{'ä' * 98}2_x"]),
    ],
)
def test_names(paths: list[str], expected: list[str]) -> None:
    assert names(*paths) == expected
