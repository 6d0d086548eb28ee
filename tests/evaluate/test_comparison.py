"""The one engine: two evaluations are a study with one seed, and a new metric goes through all of it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.evaluate.made_results import made_table, measurement
from tests.evaluate.made_scores import random_scores
from voco_cli.evaluate.classification.compare import compare_classifications
from voco_cli.evaluate.comparison import Difference, difference_from_json, difference_object
from voco_cli.evaluate.segmentation.compare import KEYS, compare_tables, difference_rows
from voco_cli.evaluate.segmentation.metrics import METRICS, RULES, SegmentationMetric, Structure, measure_case
from voco_cli.evaluate.segmentation.results import cases_csv, parse_cases_csv, summary_rows
from voco_cli.evaluate.segmentation.table import MeasuredCase, result_table, summarise
from voco_cli.study.analysis import METRICS as STUDY_METRICS
from voco_cli.study.analysis import ScoredRun, label_efficiency


def test_a_comparison_of_segmentations_is_a_study_with_one_seed() -> None:
    rng = np.random.default_rng(0)
    patients = [f"p{n // 2}" for n in range(16)]
    tables = [made_table(rng.uniform(0.5, 0.8, (16, 2)) + gain, patients) for gain in (0, 0.05)]
    *_, compared = compare_tables(["none", "voco"], tables).of_metric("dice")
    runs = [ScoredRun(arm, 5, 0, table) for arm, table in zip(("none", "voco"), tables, strict=True)]
    (gain,) = label_efficiency(runs, STUDY_METRICS["segmentation"]).gains
    for name in ("difference", "first", "value", "cases", "patients", "p", "effect", "better", "worse"):
        assert getattr(compared, name) == getattr(gain, name), name
    # The two draw other patients.
    assert (compared.low, compared.high) == pytest.approx((gain.runs_low, gain.runs_high), abs=0.01)
    assert math.isnan(gain.low)


def test_a_comparison_of_classifications_is_a_study_with_one_seed() -> None:
    first = random_scores(0, num_cases=20, num_patients=7)
    other = random_scores(0, num_cases=20, num_patients=7)
    other.probabilities_NK[:] = np.random.default_rng(1).dirichlet(np.ones(3), 20)
    compared = compare_classifications(["none", "voco"], [first, other]).differences[0]
    runs = [ScoredRun(arm, 5, 0, table) for arm, table in (("none", first), ("voco", other))]
    (gain,) = label_efficiency(runs, STUDY_METRICS["classification"]).gains
    for name in ("metric", "part", "difference", "first", "value", "p", "test", "effect"):  # all 2^7 exchanges
        assert getattr(compared, name) == getattr(gain, name), name


def test_a_metric_that_is_added_is_measured_written_shown_and_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its registration is all that there is to do."""
    added = SegmentationMetric("recall", "recall", lambda pair: pair.counts.both / pair.counts.reference)
    monkeypatch.setitem(METRICS, added.key, added)
    reference = np.zeros((4, 4, 4), np.uint8)
    reference[:2] = 1  # 32 voxels
    prediction = reference.copy()
    prediction[1, :, 2:] = 0  # of which 8 are lost
    liver = Structure("liver", (1,))
    tables = []
    for maps in ((prediction, reference), (reference, reference)):
        cases = [MeasuredCase(f"c{n}", f"p{n}", tuple(measure_case(*maps, [liver], (1, 1, 1), 1))) for n in range(3)]
        tables.append(result_table(cases, [liver], RULES["count"]))
    np.testing.assert_array_equal(parse_cases_csv(cases_csv(tables[0])).of_metric("recall"), [[0.75]] * 3)
    assert summary_rows(summarise(tables[0]))[0][-1] == "0.750 ± 0.000 [0.750, 0.750]"
    liver_difference, overall = compare_tables(["a", "b"], tables).of_metric("recall")
    assert (liver_difference.difference, overall.difference) == (0.25, 0.25)
    assert difference_rows([overall])[0][3:5] == ["0.750", "1.000"]


def test_evaluations_of_an_older_version_can_be_read() -> None:
    only_predicted = MeasuredCase("a", "p", (measurement("false_positive", (0, 1), (0, 0, 0, math.inf, math.inf), 9),))
    text = cases_csv(result_table([only_predicted], [Structure("liver", (1,))], RULES["count"]))
    assert ",false_positive," in text
    assert parse_cases_csv(text.replace("false_positive", "phantom")).states == (("false_positive",),)


def test_a_difference_there_and_back_and_one_that_makes_no_sense() -> None:
    found = Difference("b", "dice", "liver", 3, 3, 0.5, 0.6, 0.1, math.nan, math.nan, 0.25, 0.5)
    held = difference_object(found, KEYS)
    back = difference_from_json({**held, "low": None, "high": None, "effect": None}, KEYS)
    assert (back.run, back.part, back.difference, back.p_holm) == ("b", "liver", 0.1, 0.5)
    assert math.isnan(back.low)
    for wrong in ({"difference": "much"}, {"cases": None}, {"run": 3}):
        with pytest.raises(ValueError, match="Difference"):
            difference_from_json({**held, **wrong}, KEYS)
    with pytest.raises(KeyError):
        difference_from_json({"run": "b"}, KEYS)
