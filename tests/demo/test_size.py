"""What is chosen for a machine and a number of minutes, by hand."""

from __future__ import annotations

import pytest

from voco_cli.demo.size import SHARE, SIZES, Size, Speed, choose_size, expected_s
from voco_cli.errors import UsageError

FAST = Speed(pretraining_step_s=0.2, study_step_s=0.1, start_s=5.0)


def test_the_time_of_a_size_is_the_sum_of_its_parts() -> None:
    size = Size(unlabelled=48, pretraining_steps=100, study_steps=200, seeds=3)
    # 15 s of small things; 7 + 2 + 6 = 15 starts of 5 s; 100 steps of 0.2 s; 6 runs of 200 steps of 0.1 s
    assert expected_s(size, FAST) == pytest.approx(15 + 75 + 20 + 120)


def test_sizes_grow_in_time() -> None:
    times = [expected_s(size, FAST) for size in SIZES]
    assert times == sorted(times)
    assert len(set(times)) == len(times)


@pytest.mark.parametrize("minutes", [3, 5, 10, 20, 1000])
@pytest.mark.parametrize("slower", [1, 2, 5])
def test_the_largest_that_fits_is_chosen(minutes: float, slower: float) -> None:
    speed = Speed(0.2 * slower, 0.1 * slower, 5.0 * slower)
    fitting = [size for size in SIZES if expected_s(size, speed) <= SHARE * 60 * minutes]
    if not fitting:
        with pytest.raises(UsageError, match=f"--minutes {minutes} is too little"):
            choose_size(minutes, speed)
        return
    assert choose_size(minutes, speed) == fitting[-1]


def test_a_machine_that_is_twice_as_slow_does_less() -> None:
    slow = Speed(0.4, 0.2, 10.0)
    fast_size, slow_size = choose_size(10, FAST), choose_size(10, slow)
    assert SIZES.index(slow_size) < SIZES.index(fast_size)
    assert expected_s(slow_size, slow) <= 450


def test_too_few_minutes_are_refused_with_the_least() -> None:
    # The smallest: 15 s + (7 + 2 + 2) * 5 s + 100 * 0.2 s + 2 * 160 * 0.1 s = 122 s, of 45 s in each minute.
    assert expected_s(SIZES[0], FAST) == pytest.approx(122)
    with pytest.raises(UsageError) as refusal:
        choose_size(2, FAST)
    assert refusal.value.hint == "give --minutes 3"
    assert choose_size(3, FAST) in SIZES


def test_no_machine_gets_more_than_the_largest() -> None:
    assert choose_size(600, FAST) == SIZES[-1]
