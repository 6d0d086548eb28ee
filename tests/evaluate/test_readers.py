from __future__ import annotations

import math

import pytest

from voco_cli.evaluate.readers import Share, exact_interval, measure_reader


def test_exact_intervals_of_none_of_all_and_of_half() -> None:
    # P(0 of 10) = (1 - p)^10 = 0.025 at the upper end; and the mirror image of it.
    none = 1 - 0.025**0.1
    assert exact_interval(0, 10) == (0.0, pytest.approx(none))
    assert exact_interval(10, 10) == (pytest.approx(1 - none), 1.0)
    # Tables of Clopper and Pearson: 5 of 10 is 0.187 to 0.813.
    assert exact_interval(5, 10) == (pytest.approx(0.187, abs=5e-4), pytest.approx(0.813, abs=5e-4))
    assert all(math.isnan(end) for end in exact_interval(0, 0))


def test_the_ends_of_an_interval_are_where_a_tail_is_a_fortieth() -> None:
    low, high = exact_interval(3, 8)

    def at_least(three: int, p: float) -> float:
        return sum(math.comb(8, k) * p**k * (1 - p) ** (8 - k) for k in range(three, 9))

    assert at_least(3, low) == pytest.approx(0.025)
    assert 1 - at_least(4, high) == pytest.approx(0.025)


def test_sensitivity_is_of_the_painted_and_specificity_of_the_real() -> None:
    truth = {"a": "painted", "b": "painted", "c": "painted", "d": "real", "e": "real", "f": "real"}
    answers = {"a": "painted", "b": "real", "c": "", "d": "real", "e": "real"}
    found = measure_reader("one", truth, answers)
    assert found.sensitivity == Share(1, 2)
    assert found.specificity == Share(2, 2)
    assert found.accuracy == Share(3, 4)
    assert found.unanswered == 2
    assert math.isnan(Share(0, 0).value)
