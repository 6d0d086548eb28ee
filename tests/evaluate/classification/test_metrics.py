"""Figures of classifications against hand arithmetic and slow literal versions."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from scipy import stats

from tests.evaluate.made_scores import NAMES, made_scores, random_scores
from voco_cli.errors import UsageError
from voco_cli.evaluate.classification.metrics import (
    CATEGORY_METRICS,
    OVERALL_METRICS,
    ScoredCases,
    auc,
    measure,
)
from voco_cli.evaluate.classification.table import scored_cases, summarise_classification
from voco_cli.evaluate.statistics import resample_patients

# Four of six right; three normal, two pneumonia, one covid.
BY_HAND = made_scores(
    [0, 0, 0, 1, 1, 2],
    [
        [0.8, 0.1, 0.1],  # normal, right
        [0.5, 0.4, 0.1],  # normal, right
        [0.3, 0.6, 0.1],  # normal, taken for pneumonia
        [0.2, 0.7, 0.1],  # pneumonia, right
        [0.5, 0.3, 0.2],  # pneumonia, taken for normal
        [0.1, 0.3, 0.6],  # covid, right
    ],
)


def pairs_auc(scores: np.ndarray, positive: np.ndarray) -> float:
    """Count the pairs, one by one."""
    won = [
        1.0 if high > low else 0.5 if high == low else 0.0 for high, low in product(scores[positive], scores[~positive])
    ]
    return sum(won) / len(won) if won else math.nan


def literal(scored: ScoredCases) -> dict[str, float]:
    """The overall figures by loops over cases, of cases that may stand several times."""
    cases = list(zip(scored.truth_N, scored.predicted, strict=True))
    sensitivities, f1s, aucs = [], [], []
    for k in range(len(scored.categories)):
        hits = sum(truth == k == guess for truth, guess in cases)
        of_it, taken = sum(truth == k for truth, _ in cases), sum(guess == k for _, guess in cases)
        sensitivities.append(hits / of_it if of_it else math.nan)
        f1s.append(2 * hits / (of_it + taken) if of_it else math.nan)
        aucs.append(pairs_auc(scored.probabilities_NK[:, k], scored.truth_N == k))
    return {
        "auc": aucs[1] if len(aucs) == 2 else sum(aucs) / len(aucs),
        "accuracy": sum(truth == guess for truth, guess in cases) / len(cases),
        "balanced_accuracy": sum(sensitivities) / len(sensitivities),
        "f1": sum(f1s) / len(f1s),
    }


def test_figures_by_hand() -> None:
    summary = summarise_classification(BY_HAND)
    assert summary.confusion_KK.tolist() == [[2, 1, 0], [1, 1, 0], [0, 0, 1]]
    assert [(one.name, one.cases, one.predicted) for one in summary.categories] == list(
        zip(NAMES, (3, 2, 1), (3, 2, 1), strict=True)
    )
    normal, pneumonia, covid = ({name: one.value for name, one in c.metrics.items()} for c in summary.categories)
    # Normal scores .8 .5 .3 against .2 .5 .1: 3 + 2.5 + 2 of 9 pairs.
    # Pneumonia scores .7 .3 against .1 .4 .6 .3: 4 + 1.5 of 8.
    assert normal == pytest.approx(
        {"sensitivity": 2 / 3, "specificity": 2 / 3, "precision": 2 / 3, "f1": 2 / 3, "auc": 7.5 / 9}
    )
    assert pneumonia == pytest.approx(
        {"sensitivity": 0.5, "specificity": 0.75, "precision": 0.5, "f1": 0.5, "auc": 5.5 / 8}
    )
    assert covid == dict.fromkeys(CATEGORY_METRICS, 1.0)
    assert {name: one.value for name, one in summary.overall.items()} == pytest.approx(
        {
            "auc": (7.5 / 9 + 5.5 / 8 + 1) / 3,
            "accuracy": 4 / 6,
            "balanced_accuracy": (2 / 3 + 0.5 + 1) / 3,
            "f1": (2 / 3 + 0.5 + 1) / 3,
        }
    )


def test_two_categories_have_one_auc_that_of_the_second() -> None:
    scored = made_scores([0, 1, 0, 1], [[0.9, 0.1], [0.6, 0.4], [0.4, 0.6], [0.1, 0.9]])
    # Positives .4 .9 against negatives .1 .6: three pairs of four.
    assert summarise_classification(scored).overall["auc"].value == 0.75


@pytest.mark.parametrize("seed", range(5))
def test_auc_is_mann_whitneys_u_with_averaged_ties(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, positive = rng.integers(0, 6, 50) / 5, rng.random(50) < 0.3
    value = auc(scores, positive, np.ones((1, 50)))[0]
    assert value == pytest.approx(pairs_auc(scores, positive), abs=1e-12)
    num_positive = positive.sum()
    u = stats.rankdata(scores)[positive].sum() - num_positive * (num_positive + 1) / 2
    assert value == pytest.approx(u / (num_positive * (50 - num_positive)), abs=1e-12)


@pytest.mark.parametrize("num_categories", [2, 3])
def test_weightings_are_cases_that_stand_several_times(num_categories: int) -> None:
    scored = random_scores(num_categories, num_categories=num_categories)
    weights_BN = np.random.default_rng(0).integers(0, 4, (20, len(scored.cases))).astype(float)
    overall, _ = measure(scored, weights_BN)
    for b, weights_N in enumerate(weights_BN.astype(int)):
        rows = np.repeat(np.arange(len(scored.cases)), weights_N)
        repeated = made_scores(scored.truth_N[rows].tolist(), scored.probabilities_NK[rows].tolist())
        assert {name: overall[name][b] for name in OVERALL_METRICS} == pytest.approx(literal(repeated), abs=1e-12)


def test_intervals_draw_patients_and_leave_out_what_lacks_a_category() -> None:
    scored = made_scores(
        [0, 0, 1, 1, 0], [[0.7, 0.3], [0.2, 0.8], [0.4, 0.6], [0.6, 0.4], [0.9, 0.1]], ["p", "p", "q", "q", "r"]
    )
    summary = summarise_classification(scored, resamples=400, seed=3)
    values = []
    for draws in resample_patients(3, 400, 3).astype(int):  # patients p, q, r
        rows = [n for patient, cases in enumerate(((0, 1), (2, 3), (4,))) for n in cases * draws[patient]]
        truth = scored.truth_N[rows]
        values.append(pairs_auc(scored.probabilities_NK[rows, 1], truth == 1))
    defined = [value for value in values if not math.isnan(value)]
    found = summary.overall["auc"]
    assert 0 < found.left_out == 400 - len(defined)
    assert (found.low, found.high) == pytest.approx(np.quantile(defined, (0.025, 0.975)), abs=1e-12)
    assert summary.overall["accuracy"].left_out == 0
    assert (summary.cases, summary.patients) == (5, 3)


def test_blocks_of_resamples_give_what_one_block_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    scored = random_scores(7)
    whole = summarise_classification(scored, 300)
    monkeypatch.setattr("voco_cli.evaluate.classification.metrics.BLOCK_NUMBERS", 1000)
    parts = summarise_classification(scored, 300)
    assert (whole.overall, whole.categories) == (parts.overall, parts.categories)


def test_a_category_without_cases_has_no_figures_and_does_not_count() -> None:
    scored = made_scores([0, 0, 1, 1], [[0.8, 0.1, 0.1], [0.3, 0.2, 0.5], [0.2, 0.7, 0.1], [0.1, 0.8, 0.1]])
    summary = summarise_classification(scored)
    absent = summary.categories[2].metrics
    assert all(math.isnan(absent[name].value) for name in ("sensitivity", "f1", "auc"))
    assert (absent["specificity"].value, absent["precision"].value) == (0.75, 0)
    # Sensitivities 1/2 and 1; F1 2/3 and 1; every normal case above every other one, and the other way round.
    overall = {name: one.value for name, one in summary.overall.items()}
    assert overall == pytest.approx({"auc": 1, "accuracy": 0.75, "balanced_accuracy": 0.75, "f1": 5 / 6})


def test_one_category_alone_defines_no_auc() -> None:
    summary = summarise_classification(made_scores([1, 1], [[0.4, 0.6], [0.7, 0.3]]), 100)
    found = summary.overall["auc"]
    assert (math.isnan(found.value), math.isnan(found.low), found.left_out) == (True, True, 100)
    assert summary.overall["accuracy"].value == 0.5


def test_one_patient_has_no_interval() -> None:
    summary = summarise_classification(made_scores([0, 1], [[0.9, 0.1], [0.2, 0.8]], ["p", "p"]), 100)
    assert (summary.overall["auc"].value, summary.overall["accuracy"].value) == (1, 1)
    assert math.isnan(summary.overall["accuracy"].low)


def test_probabilities_are_matched_by_case() -> None:
    truth = [("a", "p", 1), ("b", "q", 0)]
    probabilities = {"b": [0.9, 0.1], "unknown": [0.5, 0.5], "a": [0.2, 0.8]}
    scored = scored_cases(truth, probabilities, ["no", "yes"])
    assert (scored.cases, scored.patients, scored.truth_N.tolist()) == (("a", "b"), ("p001", "p002"), [1, 0])
    assert scored.probabilities_NK.tolist() == [[0.2, 0.8], [0.9, 0.1]]
    with pytest.raises(UsageError, match=r"no probabilities of c\."):
        scored_cases([*truth, ("c", "r", 0)], probabilities, ["no", "yes"])
    with pytest.raises(UsageError, match="a has 2 probabilities, and there are 3 categories"):
        scored_cases(truth, probabilities, NAMES)
    with pytest.raises(UsageError, match="no cases"):
        summarise_classification(scored_cases([], probabilities, NAMES))
