import math
from itertools import product

import numpy as np
import pytest
from scipy import stats

from voco_cli.evaluate.statistics import (
    bootstrap_means,
    draw_swaps,
    holm,
    mcnemar_p,
    mean_interval,
    mean_ranks,
    patient_indices,
    patient_means,
    percentile_interval,
    rank_biserial,
    resample_patients,
    swap_p,
    wilcoxon_p,
)


def test_patients_are_drawn_as_often_as_there_are_patients() -> None:
    draws = resample_patients(7, 500, seed=1)
    assert draws.shape == (500, 7)
    assert (draws.sum(axis=1) == 7).all()
    np.testing.assert_array_equal(draws, resample_patients(7, 500, seed=1))
    assert (draws != resample_patients(7, 500, seed=2)).any()


def test_a_drawn_patient_brings_all_scans() -> None:
    # Patient a has 1 and 3, b has 5 and nothing. Drawn as (a, a), (a, b), (b, b).
    values = np.array([1.0, 5.0, 3.0, math.nan])
    patients = patient_indices(["a", "b", "a", "b"])
    means = bootstrap_means(values, patients, np.array([[2.0, 0.0], [1.0, 1.0], [0.0, 2.0]]))
    np.testing.assert_allclose(means, [2, 3, 5])
    np.testing.assert_allclose(patient_means(values, patients), [2, 5])


def test_a_resample_without_values_is_left_out() -> None:
    means = bootstrap_means(np.array([1.0, math.nan]), np.array([0, 1]), np.array([[0.0, 2.0], [2.0, 0.0]]))
    assert math.isnan(means[0])
    assert percentile_interval(means) == (1.0, 1.0)
    assert all(math.isnan(end) for end in percentile_interval(np.array([math.nan])))


def test_interval_is_about_two_standard_errors() -> None:
    values = np.random.default_rng(0).normal(10, 2, 400)
    low, high = mean_interval(values, np.arange(400), resample_patients(400, 2000, 0))
    error = values.std(ddof=1) / math.sqrt(400)
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.2 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.2 * error)


def test_scans_of_one_patient_do_not_narrow_the_interval() -> None:
    single = np.random.default_rng(0).normal(0, 1, 30)
    draws = resample_patients(30, 2000, 0)
    once = mean_interval(single, np.arange(30), draws)
    tenfold = mean_interval(np.repeat(single, 10), np.repeat(np.arange(30), 10), draws)
    np.testing.assert_allclose(once, tenfold)


def test_one_patient_gives_no_interval() -> None:
    low, high = mean_interval(np.array([1.0, 2.0, math.nan]), np.array([0, 0, 1]), resample_patients(2, 100, 0))
    assert math.isnan(low)
    assert math.isnan(high)


def test_wilcoxon_by_hand() -> None:
    # Five positive differences: of 2^5 sign patterns one is as extreme on each side, so p = 2/32.
    assert wilcoxon_p(np.array([0.1, 0.2, 0.3, 0.4, 0.5])) == pytest.approx(2 / 32)
    # Ranks -1, +2, +3: W- = 1; patterns with W- <= 1 are {} and {1}: p = 2 * 2/8.
    assert wilcoxon_p(np.array([-0.1, 0.2, 0.3])) == pytest.approx(0.5)


@pytest.mark.parametrize("count", [1, 2, 5, 8, 14])
def test_wilcoxon_with_ties_is_scipys(count: int) -> None:
    differences = np.random.default_rng(count).integers(-3, 5, count) + 0.0
    differences[differences == 0] = 2
    assert wilcoxon_p(differences) == pytest.approx(stats.wilcoxon(differences).pvalue, abs=1e-12)


def test_wilcoxon_of_scipy_and_without_differences() -> None:
    differences = np.random.default_rng(2).normal(0.2, 1, 60)
    assert wilcoxon_p(differences) == pytest.approx(stats.wilcoxon(differences).pvalue)
    assert wilcoxon_p(np.zeros(5)) == 1
    assert wilcoxon_p(np.array([0.3 - 0.1 - 0.2, 0.1 + 0.2 - 0.3])) == 1  # rounding is no difference
    assert math.isnan(wilcoxon_p(np.array([])))


def test_rank_biserial_by_hand() -> None:
    assert rank_biserial(np.array([1.0, 2.0, 5.0])) == 1
    assert rank_biserial(np.array([-1.0, 2.0, 3.0])) == pytest.approx((5 - 1) / 6)
    assert rank_biserial(np.array([0.0, -2.0, 0.0])) == -1
    assert rank_biserial(np.zeros(3)) == 0
    assert math.isnan(rank_biserial(np.array([])))


def test_holm_by_hand() -> None:
    # Sorted 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1 = 0.04, 0.06, 0.06, 0.04; never falling: 0.04, 0.06, 0.06, 0.06.
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.4, 0.9]) == pytest.approx([0.8, 0.9])
    assert holm([0.6, 0.9]) == pytest.approx([1.0, 1.0])
    # What could not be tested is no test.
    assert holm([0.03, math.nan]) == pytest.approx([0.03, math.nan], nan_ok=True)
    assert holm([]) == []


def test_mcnemars_test_is_a_fair_coin() -> None:
    # At most 1 or at least 7 heads of 8: 2 * (1 + 8) / 256.
    assert mcnemar_p(1, 7) == mcnemar_p(7, 1) == pytest.approx(18 / 256)
    assert (mcnemar_p(3, 3), mcnemar_p(0, 0)) == (1, 1)


@pytest.mark.parametrize(("first", "second"), [(0, 3), (5, 2), (40, 61), (4000, 4200)])
def test_mcnemars_test_as_scipy_has_it(first: int, second: int) -> None:
    expected = stats.binomtest(first, first + second, 0.5).pvalue
    assert mcnemar_p(first, second) == pytest.approx(expected, rel=1e-11)


def test_equal_values_share_their_ranks() -> None:
    assert mean_ranks(np.array([0.5, 0.1, 0.5, 0.9, 0.5])).tolist() == [3, 1, 3, 5, 3]
    values = np.random.default_rng(0).integers(0, 9, 50) / 4
    assert mean_ranks(values).tolist() == stats.rankdata(values).tolist()


def test_few_patients_change_sides_in_all_ways_and_many_in_some() -> None:
    every = draw_swaps(3, 8, seed=0)
    assert every.exact
    assert sorted(map(tuple, every.swapped_BG.tolist())) == sorted(product((False, True), repeat=3))
    some = draw_swaps(3, 7, seed=0)
    assert (some.exact, some.swapped_BG.shape) == (False, (7, 3))
    many = draw_swaps(400, 2000, seed=1).swapped_BG
    assert many.mean() == pytest.approx(0.5, abs=0.005)
    np.testing.assert_array_equal(many, draw_swaps(400, 2000, seed=1).swapped_BG)


def test_the_share_of_ways_that_are_as_extreme() -> None:
    differences = np.array([0.3, -0.3, 0.1, -0.1])
    assert swap_p(differences, 0.3, exact=True) == 0.5
    assert swap_p(differences, -0.1, exact=True) == 1
    assert swap_p(differences, 0.4, exact=False) == 1 / 5
    assert swap_p(differences, 0.1 + 0.2, exact=False) == 3 / 5  # 0.30000000000000004
    assert math.isnan(swap_p(differences, math.nan, exact=True))
