"""The metrics of a classification: from the probabilities of whole scans to figures with intervals.

N cases, K categories, P parts (all categories, or one against all others), G patients, B weightings of the cases (a
bootstrap resample counts a case as often as its patient was drawn). NaN is a figure that is not defined.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from voco_cli.evaluate.metric import DisplayText, Metric, TestName
from voco_cli.evaluate.statistics import (
    Floats,
    Indices,
    Swaps,
    mcnemar_p,
    mean_ranks,
    swap_p,
)

BLOCK_NUMBERS = 1 << 21
"""Weights that are worked on together, so that thousands of cases and resamples need little memory."""


@dataclass(frozen=True)
class ScoredCases:
    """Cases whose category is known, with what a network says of them.

    Attributes:
        cases: names.
        patients: numbers in place of names, one a case.
        categories: names, in the order of the probabilities.
        truth_N: index of each case's category.
        probabilities_NK: each row sums to 1.
    """

    cases: tuple[str, ...]
    patients: tuple[str, ...]
    categories: tuple[str, ...]
    truth_N: Indices
    probabilities_NK: Floats
    parts_noun: ClassVar[str] = "categories"

    @property
    def predicted(self) -> Indices:
        """Return the most probable category of each case; the first of equals."""
        return np.asarray(self.probabilities_NK.argmax(axis=1), np.intp)

    @property
    def true_probabilities(self) -> Floats:
        """Return what is said of the true category of each case, ``values_N``."""
        return np.asarray(self.probabilities_NK[np.arange(len(self.cases)), self.truth_N])

    @property
    def named_parts(self) -> dict[str, str]:
        """Return the categories with their names (see `CaseResults`)."""
        return {name: name for name in self.categories}

    def unlike_cases(self, aligned: ScoredCases) -> dict[str, list[str]]:
        """Return the cases whose true category another table has otherwise (see `CaseResults`)."""
        odd = [case for case, a, b in zip(self.cases, self.truth_N, aligned.truth_N, strict=True) if a != b]
        return {"{run} has another true category than {first} for": odd}

    @property
    def outcomes(self) -> Outcomes:
        """Return what metrics are computed from."""
        return Outcomes(self.truth_N, self.predicted, self.probabilities_NK)

    def like(self, other: ScoredCases) -> ScoredCases:
        """Return the same cases and categories in the order of another table that has the same."""
        place = {case: n for n, case in enumerate(self.cases)}
        rows = [place[case] for case in other.cases]
        columns = [self.categories.index(name) for name in other.categories]
        return ScoredCases(
            cases=other.cases,
            patients=tuple(self.patients[n] for n in rows),
            categories=other.categories,
            truth_N=np.array([columns.index(self.truth_N[n]) for n in rows], np.intp),
            probabilities_NK=self.probabilities_NK[np.ix_(rows, columns)],
        )


@dataclass(frozen=True)
class Outcomes:
    """Known and predicted categories of cases, and scores that order the cases for the AUC."""

    truth_N: Indices
    predicted_N: Indices
    scores_NK: Floats


Figures = tuple[Floats | None, Floats | None]
"""A metric over all categories, ``values_B``, and of each against all others, ``values_BK``; None where it has none."""


@dataclass(frozen=True)
class ClassificationMetric(Metric[ScoredCases]):
    """A figure over all categories, or of each against all others, or both.

    Attributes:
        compute: from the outcomes and the weights of the cases.
        overall, by_category: which of the two it has.
        compared: evaluations are compared by it.
    """

    compute: Callable[[Outcomes, Floats], Figures]
    overall: bool = True
    by_category: bool = True
    compared: bool = True

    def columns(self, table: ScoredCases) -> list[int]:
        """Return the categories that it is taken of alone: of two, one says what the other would."""
        if not self.by_category:
            return []
        return [1] if len(table.categories) == 2 else list(range(len(table.categories)))

    def parts(self, table: ScoredCases) -> tuple[str | None, ...]:
        """Return all categories together first, then each (see `Metric.parts`)."""
        return (*((None,) if self.overall else ()), *(table.categories[k] for k in self.columns(table)))

    def scores(self, table: ScoredCases, weights_BN: Floats) -> Floats:
        """Return the figures under each weighting (see `Metric.scores`)."""
        blocks = in_blocks(weights_BN, len(table.cases))
        return np.concatenate([self._scores(table.outcomes, block, self.columns(table)) for block in blocks])

    def case_values(self, first: ScoredCases, other: ScoredCases) -> tuple[Floats, Floats]:
        """Return which cases are classified correctly; of a category, as it or not (see `Metric.case_values`)."""
        return self._right(first), self._right(other)

    def test(
        self, pairs: Sequence[tuple[ScoredCases, ScoredCases]], patient_N: Indices, swaps: Swaps
    ) -> tuple[list[float], TestName]:
        """Return a permutation test in which a patient's results change sides in the runs of all seeds at once.

        Source: Bandos, Rockette and Gur, "A permutation test sensitive to differences in areas for comparing ROC curves
            from a paired design", Stat. Med. 24, 2005 (for the ranks).
        """
        observed, swapped = [], []
        for first, other in pairs:
            before_1P, after_1P = self.pair_scores(first, other, np.ones((1, len(patient_N))))
            observed.append(after_1P[0] - before_1P[0])
            both, columns = stack(first, other), self.columns(first)
            parts_BP = []
            for block_BN in in_blocks(swaps.swapped_BG[:, patient_N], 2 * len(both.truth_N)):
                first_BM = np.concatenate([~block_BN, block_BN], axis=1).astype(np.float64)
                left_BP, right_BP = (self._scores(both, side_BM, columns) for side_BM in (first_BM, 1 - first_BM))
                parts_BP.append(right_BP - left_BP)
            swapped.append(np.concatenate(parts_BP))
        swapped_BP, observed_P = np.mean(swapped, axis=0), np.mean(observed, axis=0)
        return [swap_p(swapped_BP[:, i], float(one), swaps.exact) for i, one in enumerate(observed_P)], "swaps"

    def text(self, table: ScoredCases) -> DisplayText:
        """Return how it is spoken of."""
        two = len(table.categories) == 2
        of_two = f"{self.title} of {table.categories[-1]}"
        return DisplayText(
            metric=self.title,
            part="category",
            parts="categories",
            score=of_two if two else f"{self.title} of each category against the others, averaged over categories",
            paired="on the same cases",
            better="by the share of cases that are classified correctly",
            test="permutation test in which two arms exchange whole patients in all seeds, by ranks within a run",
        )

    def _scores(self, outcomes: Outcomes, weights_BN: Floats, columns: Sequence[int]) -> Floats:
        overall_B, of_category_BK = self.compute(outcomes, weights_BN)
        found = [] if overall_B is None else [overall_B]
        if of_category_BK is not None:
            found += [of_category_BK[:, k] for k in columns]
        return np.stack(found, axis=1)

    def _right(self, table: ScoredCases) -> Floats:
        right = [table.truth_N == table.predicted] if self.overall else []
        right += [(table.truth_N == k) == (table.predicted == k) for k in self.columns(table)]
        return np.stack(right, axis=1).astype(np.float64)


class AreaUnderCurve(ClassificationMetric):
    """The AUC, which no case has by itself: a case adds its placement among those that it should be separated from."""

    def columns(self, table: ScoredCases) -> list[int]:
        """Return the categories that have cases; of two, the second (see `ClassificationMetric.columns`)."""
        return [k for k in super().columns(table) if len(table.categories) == 2 or (table.truth_N == k).any()]

    def text(self, table: ScoredCases) -> DisplayText:
        """Return how it is spoken of."""
        return replace(
            super().text(table),
            better="by the share of the other categories' cases that a case stands above in its own category",
            effect=" of these shares",
        )

    def _right(self, table: ScoredCases) -> Floats:
        placed_NK = placements(table.truth_N, table.probabilities_NK)
        own_N = placed_NK[np.arange(len(table.cases)), table.truth_N]
        return np.stack([own_N, *(placed_NK[:, k] for k in self.columns(table))], axis=1)


class Accuracy(ClassificationMetric):
    """The share of cases that are classified correctly."""

    def test(
        self, pairs: Sequence[tuple[ScoredCases, ScoredCases]], patient_N: Indices, swaps: Swaps
    ) -> tuple[list[float], TestName]:
        """Return McNemar's test of two runs where cases are patients; it takes cases for independent."""
        first, other = pairs[0]
        if len(pairs) > 1 or len(np.unique(patient_N)) < len(patient_N):
            return super().test(pairs, patient_N, swaps)
        right, right_other = (one.predicted == one.truth_N for one in (first, other))
        return [mcnemar_p(int((right & ~right_other).sum()), int((right_other & ~right).sum()))], "McNemar"


def measure(scored: ScoredCases, weights_BN: Floats) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """Compute every metric under each weighting of the cases.

    With two categories ``auc`` is that of the second; with more it is the mean over the categories that have cases,
    each against all others. ``balanced_accuracy`` and ``f1`` are such means too. A weighting that leaves out all cases
    of one of these categories defines none of the three.

    Returns:
        ``overall``: values_B by `OVERALL_METRICS`; ``of_category``: values_BK by `CATEGORY_METRICS`.
    """
    found = {name: metric.compute(scored.outcomes, weights_BN) for name, metric in METRICS.items()}
    overall = {name: values_B for name, (values_B, _) in found.items() if values_B is not None}
    of_category = {name: values_BK for name, (_, values_BK) in found.items() if values_BK is not None}
    return overall, {name: of_category[name] for name in CATEGORY_METRICS}


def area_under_curve(outcomes: Outcomes, weights_BN: Floats) -> Figures:
    """Return the AUC of the second of two categories, else the mean of those that have cases, and of each category."""
    scores_NK, truth_N = outcomes.scores_NK, outcomes.truth_N
    columns = [auc(scores_NK[:, k], truth_N == k, weights_BN) for k in range(scores_NK.shape[1])]
    areas_BK = np.stack(columns, axis=1)
    return (areas_BK[:, 1] if len(columns) == 2 else _mean(areas_BK, outcomes)), areas_BK


def accuracy(outcomes: Outcomes, weights_BN: Floats) -> Figures:
    """Return the share of cases that are classified correctly."""
    confusion_BKK = confusion(outcomes, weights_BN)
    return _ratio(np.trace(confusion_BKK, axis1=1, axis2=2), confusion_BKK.sum(axis=(1, 2))), None


def balanced_accuracy(outcomes: Outcomes, weights_BN: Floats) -> Figures:
    """Return the mean sensitivity over the categories that have cases."""
    true_BK, cases_BK, _ = _counts(outcomes, weights_BN)
    return _mean(_ratio(true_BK, cases_BK), outcomes), None


def sensitivity(outcomes: Outcomes, weights_BN: Floats) -> Figures:
    """Return the share of each category's cases that are taken for it."""
    true_BK, cases_BK, _ = _counts(outcomes, weights_BN)
    return None, _ratio(true_BK, cases_BK)


def specificity(outcomes: Outcomes, weights_BN: Floats) -> Figures:
    """Return the share of the other categories' cases that are not taken for each category."""
    true_BK, cases_BK, predicted_BK = _counts(outcomes, weights_BN)
    others_BK = weights_BN.sum(axis=1)[:, None] - cases_BK
    return None, _ratio(others_BK - (predicted_BK - true_BK), others_BK)


def precision(outcomes: Outcomes, weights_BN: Floats) -> Figures:
    """Return the share of the cases taken for each category that are of it."""
    true_BK, _, predicted_BK = _counts(outcomes, weights_BN)
    return None, _ratio(true_BK, predicted_BK)


def f1(outcomes: Outcomes, weights_BN: Floats) -> Figures:
    """Return the harmonic mean of sensitivity and precision, NaN for a category without cases; and their mean."""
    true_BK, cases_BK, predicted_BK = _counts(outcomes, weights_BN)
    f1_BK = np.where(cases_BK > 0, _ratio(2 * true_BK, cases_BK + predicted_BK), np.nan)
    return _mean(f1_BK, outcomes), f1_BK


METRICS: dict[str, ClassificationMetric] = {
    metric.key: metric
    for metric in (
        AreaUnderCurve("auc", "AUC", area_under_curve),
        Accuracy("accuracy", "accuracy", accuracy, by_category=False),
        ClassificationMetric("balanced_accuracy", "balanced accuracy", balanced_accuracy, by_category=False),
        ClassificationMetric("sensitivity", "sensitivity", sensitivity, overall=False),
        ClassificationMetric("specificity", "specificity", specificity, overall=False),
        # Not compared: it is not defined where nothing is taken for a category.
        ClassificationMetric("precision", "precision", precision, overall=False, compared=False),
        ClassificationMetric("f1", "F1", f1),
    )
}
"""By their names in files. One that is added here is measured, written, shown and compared like the others."""
OVERALL_METRICS = tuple(name for name, metric in METRICS.items() if metric.overall)
CATEGORY_METRICS = (*(name for name, metric in METRICS.items() if metric.by_category and name != "auc"), "auc")
"""In the order of columns; the AUC, which needs no most probable category, comes last."""


def in_blocks(rows_B: NDArray[Any], num_cases: int) -> list[NDArray[Any]]:
    """Return resamples in parts that are small enough to be worked on together."""
    return np.array_split(rows_B, max(1, math.ceil(len(rows_B) * num_cases / BLOCK_NUMBERS)))


def confusion(outcomes: Outcomes, weights_BN: Floats) -> Floats:
    """Return the weight of the cases by true (row) and predicted (column) category: ``confusion_BKK``."""
    num_categories = outcomes.scores_NK.shape[1]
    cell_N = outcomes.truth_N * num_categories + outcomes.predicted_N
    is_cell_NC = cell_N[:, None] == np.arange(num_categories**2)
    return np.asarray((weights_BN @ is_cell_NC).reshape(-1, num_categories, num_categories))


def auc(scores_N: Floats, positive_N: NDArray[np.bool_], weights_BN: Floats) -> Floats:
    """Return the area under the receiver operating characteristic (ROC curve), under each weighting.

    The share of pairs of a positive and a negative case in which the positive one has the higher score, a tie being
    half a pair: Mann-Whitney's U over the number of pairs.

    Returns:
        values_B; NaN where positives or negatives have no weight.
    Source: Hanley and McNeil, "The meaning and use of the area under a ROC curve", Radiology 143, 1982.
    """
    # P positive and Q negative cases; sums of halves are exact, in whatever order.
    high_P1, low_Q = scores_N[positive_N, None], scores_N[~positive_N]
    won_PQ = (high_P1 > low_Q) + 0.5 * (high_P1 == low_Q)
    weights_BP, weights_BQ = weights_BN[:, positive_N], weights_BN[:, ~positive_N]
    won_B = ((weights_BP @ won_PQ) * weights_BQ).sum(axis=1)
    return _ratio(won_B, weights_BP.sum(axis=1) * weights_BQ.sum(axis=1))


def stack(first: ScoredCases, other: ScoredCases) -> Outcomes:
    """Return the outcomes of one run, then those of another for the same cases in the same order.

    Scores are ranks within each run, so that runs whose probabilities are of another scale can exchange them.
    """
    return Outcomes(
        np.concatenate([first.truth_N, other.truth_N]),
        np.concatenate([first.predicted, other.predicted]),
        np.concatenate([np.apply_along_axis(mean_ranks, 0, one.probabilities_NK) for one in (first, other)]),
    )


def placements(truth_N: Indices, scores_NK: Floats) -> Floats:
    """Return where each case stands among those that it should be separated from, by category.

    A case of category k: the share of the other cases that have a lower score for k; another case: the share of the
    cases of k that have a higher one; a tie counts half. The mean over the cases of k, and that over the others, is the
    AUC of k.

    Returns:
        values_NK in [0, 1]; NaN where there is nothing to be separated from.
    Source: DeLong, DeLong and Clarke-Pearson, Biometrics 44, 1988 (structural components).
    """
    found = np.full(scores_NK.shape, np.nan)
    for k, scores_N in enumerate(scores_NK.T):
        positive_N = truth_N == k
        if positive_N.any() and not positive_N.all():
            found[positive_N, k] = _share_below(scores_N[positive_N], scores_N[~positive_N])
            found[~positive_N, k] = 1 - _share_below(scores_N[~positive_N], scores_N[positive_N])
    return found


def _share_below(scores: Floats, others: Floats) -> Floats:
    ordered = np.sort(others)
    low, high = (np.searchsorted(ordered, scores, side) for side in ("left", "right"))
    return np.asarray((low + high) / (2 * len(others)))


def _counts(outcomes: Outcomes, weights_BN: Floats) -> tuple[Floats, Floats, Floats]:
    """Return by category the weight of cases classified correctly, of all its cases, of all that are taken for it."""
    confusion_BKK = confusion(outcomes, weights_BN)
    return np.diagonal(confusion_BKK, axis1=1, axis2=2), confusion_BKK.sum(axis=2), confusion_BKK.sum(axis=1)


def _mean(values_BK: Floats, outcomes: Outcomes) -> Floats:
    """Return the mean over the categories that have cases."""
    there_K = np.isin(np.arange(values_BK.shape[1]), outcomes.truth_N)
    return np.asarray(values_BK[:, there_K].mean(axis=1))


def _ratio(part: Floats, whole: Floats) -> Floats:
    return np.asarray(np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=np.asarray(whole) > 0))
