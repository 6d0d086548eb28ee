import math

import numpy as np
import pytest

from tests.evaluate.made_results import made_table, measurement
from voco_cli.evaluate.segmentation.metrics import RULES, Structure, absent_structure
from voco_cli.evaluate.segmentation.table import MeasuredCase, result_table, summarise
from voco_cli.evaluate.statistics import nan_mean

NAN = math.nan


def test_mean_deviation_and_median_by_hand() -> None:
    summary = summarise(made_table([[0.6, 0.9], [0.8, NAN], [1.0, 0.7]]))
    liver, spleen = (one.metrics["dice"] for one in summary.structures)
    assert (liver.n, liver.mean, liver.sd, liver.median) == (3, pytest.approx(0.8), pytest.approx(0.2), 0.8)
    assert (spleen.n, spleen.mean, spleen.sd) == (2, pytest.approx(0.8), pytest.approx(math.sqrt(0.02)))
    assert liver.low < 0.8 < liver.high
    overall = summary.overall["dice"]
    assert overall.mean == pytest.approx(0.8)  # of 0.8 and 0.8
    assert overall.sd == pytest.approx(np.std([0.75, 0.8, 0.85], ddof=1))


def test_rare_classes_weigh_as_much_as_common_ones() -> None:
    """The mean over classes is over the classes' means; a mean over cases would hide that the rare one is bad."""
    summary = summarise(made_table([[1.0, 0.0], [1.0, NAN], [1.0, NAN], [1.0, NAN]]))
    assert summary.overall["dice"].mean == pytest.approx(0.5)


def test_regions_do_not_enter_the_mean_over_classes() -> None:
    structures = (Structure("1", (1,)), Structure("whole", (1, 2), is_region=True))
    case = MeasuredCase(
        "a",
        "a",
        (measurement("both", (1, 1), (0.5, 0.3, 0.4, 2, 1), 9), absent_structure(9.0)),
    )
    summary = summarise(result_table([case], structures, RULES["perfect"]))
    assert summary.overall["dice"].mean == 0.5
    assert summary.structures[1].metrics["dice"].mean == 1
    assert (summary.structures[1].absent, summary.structures[0].present) == (1, 1)


def test_one_case_has_neither_deviation_nor_interval() -> None:
    liver = summarise(made_table([[0.6, 0.9]])).structures[0].metrics["dice"]
    assert liver.mean == 0.6
    assert all(math.isnan(value) for value in (liver.sd, liver.low, liver.high))


def test_the_same_seed_gives_the_same_interval() -> None:
    table = made_table(np.random.default_rng(0).uniform(size=(20, 2)))
    first, again, other = (summarise(table, 300, seed).structures[0].metrics["dice"] for seed in (1, 1, 2))
    assert (first.low, first.high) == (again.low, again.high)
    assert (first.low, first.high) != (other.low, other.high)


def test_cases_are_sorted_and_counted() -> None:
    structure = (Structure("1", (1,)),)
    lost = measurement("missed", (1, 0), (0, 0, 0, math.inf, math.inf), 50.0)
    cases = [MeasuredCase("b", "p", (lost,)), MeasuredCase("a", "p", (absent_structure(50.0),))]
    summary = summarise(result_table(cases, structure, RULES["penalty"]))
    assert result_table(cases, structure, RULES["count"]).cases == ("a", "b")
    assert (summary.cases, summary.patients) == (2, 1)
    assert (summary.structures[0].missed, summary.structures[0].absent) == (1, 1)
    assert summary.structures[0].metrics["hd95_mm"].mean == 50
    assert summary.structures[0].reference_ml == 0.5


def test_nan_mean() -> None:
    np.testing.assert_allclose(nan_mean(np.array([[1.0, NAN], [NAN, NAN]]), axis=1), [1, NAN])
