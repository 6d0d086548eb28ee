"""Splits depend on seed and patient alone."""

import hashlib

import pytest

from voco_cli.data.index.datalist import SplitRule
from voco_cli.data.index.splits import assign_splits, position, stricter

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
