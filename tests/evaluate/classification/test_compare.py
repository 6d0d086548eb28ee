"""Compared classifications against hand arithmetic, loops over draws, and every exchange of two runs written out."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from scipy import stats

from tests.evaluate.made_scores import NAMES, made_scores, random_scores
from voco_cli.evaluate.classification.compare import (
    Agreement,
    ClassificationComparison,
    compare_classifications,
)
from voco_cli.evaluate.classification.metrics import ScoredCases
from voco_cli.evaluate.comparison import Difference, pairing_faults
from voco_cli.evaluate.statistics import resample_patients

COMPARED = ("auc", "sensitivity", "specificity", "f1")
TRUTH = [0, 0, 0, 1, 1, 1]
# Of the second category: negatives .2 .6 .4, positives .55 .9 .3: all but the second and the last are right.
FIRST = made_scores(TRUTH, [[1 - p, p] for p in (0.2, 0.6, 0.4, 0.55, 0.9, 0.3)])
# Negatives .1 .3 .2, positives .6 .8 .4: only the last is wrong.
BETTER = made_scores(TRUTH, [[1 - p, p] for p in (0.1, 0.3, 0.2, 0.6, 0.8, 0.4)])


def compared(*tables: ScoredCases, resamples: int = 200, seed: int = 0) -> ClassificationComparison:
    return compare_classifications([f"run{i}" for i in range(len(tables))], tables, resamples, seed)


def one(found: ClassificationComparison, metric: str, category: str | None = None, run: str = "run1") -> Difference:
    (it,) = (d for d in found.differences if (d.metric, d.part, d.run) == (metric, category, run))
    return it


def noisy(like: ScoredCases, seed: int, gain: float) -> ScoredCases:
    """The same cases with other probabilities, in coarse steps so that there are ties."""
    rng = np.random.default_rng(seed)
    size = len(like.categories)
    rows = np.round(rng.random((len(like.cases), size)) + gain * np.eye(size)[like.truth_N], 1) + 0.1
    return replace(like, probabilities_NK=rows / rows.sum(axis=1, keepdims=True))


def test_differences_by_hand() -> None:
    found = compared(FIRST, BETTER)
    auc = one(found, "auc")
    # First: .55 > .2 .4, .9 > all, .3 > .2: 6 of 9 pairs. Better: .6 .8 .4 are above all: 9 of 9.
    assert (auc.first, auc.value) == pytest.approx((6 / 9, 1))
    assert auc.difference == pytest.approx(3 / 9)
    assert (one(found, "accuracy").first, one(found, "accuracy").value) == pytest.approx((4 / 6, 5 / 6))
    assert one(found, "sensitivity", "pneumonia").difference == 0  # 2 of 3 in both
    assert one(found, "specificity", "pneumonia").difference == pytest.approx(1 / 3)
    # F1 of pneumonia: 2*2/(3+3) = 2/3 and 2*2/(3+2) = 4/5.
    assert one(found, "f1", "pneumonia").difference == pytest.approx(4 / 5 - 2 / 3)
    # Macro F1: normal has 2/3 and then 2*3/(3+4) = 6/7.
    assert one(found, "f1").difference == pytest.approx((4 / 5 + 6 / 7) / 2 - 2 / 3)
    assert found.agreements == (Agreement("run1", 4, 0, 1, 1),)
    (change,) = found.changes
    assert (change.case, change.category, change.first, change.value) == ("c1", "normal", "pneumonia", "normal")
    assert (change.first_probability, change.probability) == pytest.approx((0.4, 0.7))
    assert change.kind == "now right"
    assert [c.kind for c in compared(BETTER, FIRST).changes] == ["now wrong"]


def test_of_two_categories_only_the_second_has_figures_of_its_own() -> None:
    assert {(d.metric, d.part) for d in compared(FIRST, BETTER).differences if d.part} == {
        (metric, "pneumonia") for metric in ("sensitivity", "specificity", "f1")
    }
    three = compared(random_scores(0), noisy(random_scores(0), 1, 0.5))
    assert {(d.metric, d.part) for d in three.differences if d.part} == set(
        product(("auc", "sensitivity", "specificity", "f1"), NAMES)
    )


def test_mcnemars_test_by_hand() -> None:
    """Right in the second alone: 6 cases; in the first alone: 1. P(at most 1 or at least 6 of 7) = 16 / 128."""
    truth = [0] * 10
    first = made_scores(truth, [[0.4, 0.6]] * 6 + [[0.9, 0.1]] * 4)
    other = made_scores(truth, [[0.9, 0.1]] * 6 + [[0.4, 0.6]] + [[0.9, 0.1]] * 3)
    accuracy = one(compared(first, other), "accuracy")
    assert (accuracy.test, accuracy.p) == ("McNemar", pytest.approx(16 / 128))
    assert math.isnan(one(compared(first, other), "auc").p)


def test_where_cases_are_patients_all_exchanges_are_mcnemars_test() -> None:
    scored = replace(random_scores(2, num_cases=10), patients=tuple(f"p{n}" for n in range(10)))
    first, other = noisy(scored, 1, 0.1), noisy(scored, 2, 0.6)
    found = compared(first, other, resamples=1024)
    assert (found.swaps, found.exact) == (1024, True)
    expected = literal_swap_p(first, other)["accuracy"]
    assert one(found, "accuracy").p == pytest.approx(expected)


def pairs_auc(scores: np.ndarray, positive: np.ndarray) -> float:
    won = [1.0 if a > b else 0.5 if a == b else 0.0 for a, b in product(scores[positive], scores[~positive])]
    return sum(won) / len(won)


def literal_figures(truth: np.ndarray, predicted: np.ndarray, scores_NK: np.ndarray) -> dict[str, float]:
    size = scores_NK.shape[1]
    aucs = [pairs_auc(scores_NK[:, k], truth == k) for k in range(size)]
    hits = [float((predicted[truth == k] == k).mean()) for k in range(size)]
    return {
        "auc": aucs[1] if size == 2 else sum(aucs) / size,
        "accuracy": float((truth == predicted).mean()),
        "balanced_accuracy": sum(hits) / size,
    }


def literal_swap_p(first: ScoredCases, other: ScoredCases) -> dict[str, float]:
    """Each way in which patients change sides, one by one."""
    names = sorted(set(first.patients))
    ranks = [np.stack([stats.rankdata(column) for column in one.probabilities_NK.T], 1) for one in (first, other)]
    differences: dict[str, list[float]] = {"auc": [], "accuracy": [], "balanced_accuracy": []}
    for way in product((False, True), repeat=len(names)):
        swapped = np.array([way[names.index(patient)] for patient in first.patients])
        sides = []
        for here, there in ((0, 1), (1, 0)):
            of_case = [(first, other)[there if s else here].predicted[n] for n, s in enumerate(swapped)]
            scores = np.stack([ranks[there if s else here][n] for n, s in enumerate(swapped)])
            sides.append(literal_figures(first.truth_N, np.array(of_case), scores))
        for metric, values in differences.items():
            values.append(sides[1][metric] - sides[0][metric])
    observed = {metric: values[0] for metric, values in differences.items()}  # nobody has changed sides
    return {
        metric: sum(abs(value) >= abs(observed[metric]) - 1e-9 for value in values) / len(values)
        for metric, values in differences.items()
    }


@pytest.mark.parametrize(("categories", "seed"), [(2, 0), (2, 1), (3, 2)])
def test_all_exchanges_of_patients_written_out(categories: int, seed: int) -> None:
    scored = random_scores(seed, num_cases=18, num_categories=categories, num_patients=7)
    first, other = noisy(scored, 11, 0.1), noisy(scored, 12, 0.4)
    found = compared(first, other, resamples=128)
    num_patients = len(set(scored.patients))
    assert (found.swaps, found.exact) == (2**num_patients, True)
    for metric, p in literal_swap_p(first, other).items():
        assert one(found, metric).p == pytest.approx(p), metric
        assert one(found, metric).test == "swaps"  # several scans of a patient are no independent cases


def test_drawn_exchanges_come_near_to_all_of_them() -> None:
    scored = random_scores(3, num_cases=22, num_categories=2, num_patients=9)
    first, other = noisy(scored, 1, 0.2), noisy(scored, 2, 0.5)
    exact, drawn = compared(first, other, resamples=512), compared(first, other, resamples=511)
    assert (exact.exact, drawn.exact, drawn.swaps) == (True, False, 511)
    assert one(drawn, "auc").p == pytest.approx(one(exact, "auc").p, abs=0.06)
    assert one(compared(first, other, resamples=511), "auc").p == one(drawn, "auc").p
    assert one(compared(first, other, resamples=511, seed=8), "auc").p != one(drawn, "auc").p


def test_intervals_draw_patients_for_both_runs_at_once() -> None:
    scored = random_scores(4, num_cases=12, num_categories=2, num_patients=5)
    first, other = noisy(scored, 1, 0.2), noisy(scored, 2, 0.6)
    names = sorted(set(scored.patients))
    differences, undefined = [], 0
    for draws in resample_patients(len(names), 200, 0).astype(int):
        rows = [n for n, who in enumerate(scored.patients) for _ in range(draws[names.index(who)])]
        truth = scored.truth_N[rows]
        if len(set(truth.tolist())) < 2:
            undefined += 1
            continue
        before, after = (pairs_auc(one.probabilities_NK[rows, 1], truth == 1) for one in (first, other))
        differences.append(after - before)
    auc = one(compared(first, other), "auc")
    assert (auc.low, auc.high) == pytest.approx(tuple(np.quantile(differences, (0.025, 0.975))))
    assert auc.left_out == undefined


def test_another_scale_of_the_probabilities_is_no_difference_of_the_auc() -> None:
    steep = replace(FIRST, probabilities_NK=np.stack([1 - FIRST.probabilities_NK[:, 1] ** 3] * 2, 1))
    steep = replace(
        steep, probabilities_NK=np.stack([steep.probabilities_NK[:, 0], 1 - steep.probabilities_NK[:, 0]], 1)
    )
    auc = one(compared(FIRST, steep), "auc")
    assert (auc.difference, auc.low, auc.high, auc.p) == (0, 0, 0, 1)


def test_order_of_cases_and_categories_does_not_matter() -> None:
    first = random_scores(5)
    other = noisy(first, 6, 0.5)
    rows = np.random.default_rng(0).permutation(len(first.cases))
    columns = [2, 0, 1]
    mixed = ScoredCases(
        cases=tuple(other.cases[n] for n in rows),
        patients=tuple(other.patients[n] for n in rows),
        categories=tuple(other.categories[k] for k in columns),
        truth_N=np.array([columns.index(other.truth_N[n]) for n in rows]),
        probabilities_NK=other.probabilities_NK[np.ix_(rows, columns)],
    )
    assert pairing_faults(["a", "b"], [first, mixed]) == []
    back = mixed.like(first)
    np.testing.assert_array_equal(back.probabilities_NK, other.probabilities_NK)
    np.testing.assert_array_equal(back.truth_N, other.truth_N)
    assert compared(first, mixed).differences == compared(first, other).differences


def test_what_cannot_be_paired_is_named() -> None:
    renamed = replace(BETTER, cases=("c0", "c1", "c2", "c3", "c4", "x"))
    assert pairing_faults(["a", "b"], [FIRST, renamed]) == ["b has no case c5", "a has no case x"]
    other_truth = replace(BETTER, truth_N=np.array([0, 1, 0, 1, 0, 1]))
    assert pairing_faults(["a", "b"], [FIRST, other_truth]) == ["b has another true category than a for cases c1, c4"]
    assert pairing_faults(["a", "b"], [FIRST, replace(BETTER, patients=tuple("uvwxyz"))]) == []  # names may differ
    moved = replace(BETTER, patients=("c0", "c1", "c2", "c3", "c4", "c0"))
    words = "b puts other cases together as one patient's than a: cases c0, c5"
    assert pairing_faults(["a", "b"], [FIRST, moved]) == [words]
    named = replace(BETTER, categories=("normal", "covid"))
    assert pairing_faults(["a", "b"], [FIRST, named]) == ["b and a differ in categories: covid, pneumonia"]
    assert pairing_faults(["a", "b", "c"], [FIRST, BETTER, renamed])[0] == "c has no case c5"


def test_holm_counts_categories_and_runs_figure_by_figure() -> None:
    scored = random_scores(6)
    found = compared(scored, noisy(scored, 1, 0.1), noisy(scored, 2, 0.9))
    family = [d for d in found.differences if d.metric == "f1" and d.part]
    assert len(family) == 6
    least = min(family, key=lambda d: d.p)
    assert least.p_holm == pytest.approx(min(1, 6 * least.p))
    overall = sorted((d for d in found.differences if d.metric == "f1" and d.part is None), key=lambda d: d.p)
    assert overall[0].p_holm == pytest.approx(min(1, 2 * overall[0].p))
    text = found.statements(200)[2]
    assert "Holm's correction over categories and runs, figure by figure." in text
    assert "Holm" not in compared(FIRST, BETTER).statements(200)[2]


def test_a_run_against_itself() -> None:
    found = compared(FIRST, FIRST)
    assert all((d.difference, d.low, d.high, d.p) == (0, 0, 0, 1) for d in found.differences)
    assert found.changes == ()


def test_one_patient_has_no_interval_and_no_evidence() -> None:
    alone = [replace(table, patients=("p",) * 6) for table in (FIRST, BETTER)]
    auc = one(compared(*alone), "auc")
    assert math.isnan(auc.low)
    assert auc.p == 1  # two ways, and both are as far apart


def test_json_and_tables() -> None:
    found = compared(FIRST, BETTER)
    held = found.to_json()
    assert held["swaps"] == {"ways": 64, "all_ways": True, "of": "whole patients"}
    assert held["right"] == [{"run": "run1", "both_right": 4, "only_first": 0, "only_run": 1, "both_wrong": 1}]
    assert held["changed_category"][0]["kind"] == "now right"
    alone = compared(*(replace(t, patients=("p",) * 6) for t in (FIRST, BETTER))).to_json()
    assert alone["differences"][0]["low"] is None
    table = found.differences_table("figures")
    row = dict(zip(table.headings, table.rows[0], strict=True))
    assert (row["figure"], row["run0"], row["run's"]) == ("AUC", "0.667", "1.000")
    assert row["difference [95 %]"].startswith("+0.333 [+0.000, ")
    assert found.statements(200)[-1] == (
        "run1 and run0: 4 cases right in both, 1 only in run1, 0 only in run0, 1 in neither; 1 changed category."
    )
