"""How often sets of different size are drawn, by numbers: in an epoch, in a single draw, over ranks."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from voco_cli.config.schema import Mix
from voco_cli.data.mixing import draws_of_sets, epoch_words, set_mix, single_draws
from voco_cli.training.dataloader import BatchNumbers, BatchPlan

NAMES = ["large"] * 16 + ["small"] * 4 + ["tiny"]
"""Of 21 scans."""


def plan(mix: Mix, batch_size: int = 3, process: int = 0, num_processes: int = 1, seed: int = 5) -> BatchPlan:
    return BatchPlan(len(NAMES), batch_size, seed, process, num_processes, set_mix(NAMES, mix))


def epoch(one: BatchPlan, number: int) -> list[list[int]]:
    each = one.batches_per_epoch
    return [one.batch(n) for n in range(number * each, (number + 1) * each)]


@pytest.mark.parametrize(
    ("mix", "draws", "expected"),
    [
        ("proportional", 21, [16, 4, 1]),
        # 21 x 4/7, 2/7, 1/7
        ("sqrt", 21, [12, 6, 3]),
        ("equal", 21, [7, 7, 7]),
        # A tiny set has no more than one draw a batch of 2 batches; the others share the rest of 6.
        ("equal", 6, [2, 2, 2]),
    ],
)
def test_draws_by_hand(mix: Mix, draws: int, expected: list[int]) -> None:
    assert draws_of_sets([16, 4, 1], draws, draws // 3, mix).tolist() == expected


def test_a_set_gives_no_more_than_one_draw_of_each_scan_a_batch() -> None:
    """Of 20 draws in 4 batches the single scan has 4 at most, in place of 20 / 3; the others have 8 each."""
    assert draws_of_sets([16, 4, 1], 20, 4, "equal").tolist() == [8, 8, 4]
    assert draws_of_sets([16, 1, 1], 18, 1, "equal").tolist() == [16, 1, 1]


@pytest.mark.parametrize(("mix", "expected"), [("sqrt", (12, 6, 3)), ("equal", (7, 7, 7))])
def test_an_epoch_draws_each_set_as_often_as_said_and_over_epochs_each_scan_of_a_set_alike(
    mix: Mix, expected: tuple[int, int, int]
) -> None:
    one, seen = plan(mix), Counter[int]()
    for number in range(16):
        batches = epoch(one, number)
        drawn = Counter(case for batch in batches for case in batch)
        assert Counter(NAMES[case] for case in drawn.elements()) == dict(
            zip(("large", "small", "tiny"), expected, strict=True)
        )
        assert all(len(set(batch)) == 3 for batch in batches)
        seen += drawn
    # 16 epochs are whole turns of either set: exactly as often each.
    assert {seen[case] for case in range(16)} == {expected[0]}
    assert {seen[case] for case in range(16, 20)} == {16 * expected[1] // 4}
    assert seen[20] == 16 * expected[2]


def test_every_batch_has_nearly_the_share_of_each_set() -> None:
    """7 draws of each set in 7 batches: one in each."""
    for batch in epoch(plan("equal"), 2):
        assert Counter(NAMES[case] for case in batch) == {"large": 1, "small": 1, "tiny": 1}


@pytest.mark.parametrize("num_processes", [2, 3])
def test_processes_share_out_what_one_would_see_and_each_sees_all_sets(num_processes: int) -> None:
    plans = [plan("equal", 2, process, num_processes) for process in range(num_processes)]
    alone = plan("equal", 2 * num_processes)
    sets: list[Counter[str]] = [Counter() for _ in plans]
    for number in range(40 * alone.batches_per_epoch):
        parts = [one.batch(number) for one in plans]
        assert [case for part in parts for case in part] == alone.batch(number)
        for told, part in zip(sets, parts, strict=True):
            told.update(NAMES[case] for case in part)
    whole = sum(sets, Counter[str]())
    for told in sets:
        for name, count in whole.items():
            assert told[name] == pytest.approx(count / num_processes, rel=0.25)


def test_a_batch_depends_on_its_number_and_the_seed_alone() -> None:
    ahead = list(BatchNumbers(plan("sqrt"), 0, 40))
    assert list(BatchNumbers(plan("sqrt"), 23, 40)) == ahead[23:]
    assert list(BatchNumbers(plan("sqrt", seed=6), 0, 40)) != ahead
    assert epoch(plan("sqrt"), 0) != epoch(plan("sqrt"), 1)


def test_in_proportion_is_what_it_was() -> None:
    assert set_mix(NAMES, "proportional") is None
    assert single_draws(NAMES, "proportional") == ()


def test_single_draws_have_the_probabilities_of_their_sets() -> None:
    shares = np.diff(single_draws(NAMES, "equal"), prepend=0)
    np.testing.assert_allclose(shares, [1 / 48] * 16 + [1 / 12] * 4 + [1 / 3])
    roots = np.diff(single_draws(NAMES, "sqrt"), prepend=0)
    np.testing.assert_allclose(roots, [1 / 28] * 16 + [1 / 14] * 4 + [1 / 7])


def test_words() -> None:
    assert epoch_words(["here"] * 3, "equal", 3, 1) is None
    assert epoch_words([*["here"] * 4, "", ""], "equal", 3, 2) == (
        "draws of scans by set in an epoch (data.mix equal): here 3 (of 4), others 3 (of 2)"
    )
    many = epoch_words([f"s{n:02}" for n in range(20)], "proportional", 20, 1)
    assert many is not None
    assert many.endswith("s11 1 (of 1) and 8 sets more")
