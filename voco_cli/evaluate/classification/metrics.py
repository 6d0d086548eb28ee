"""How well categories of whole scans were told: from probabilities to figures with intervals.

N cases, K categories, G patients, B weightings of the cases (a bootstrap resample counts a case as often as its
patient was drawn). NaN is a figure that is not defined.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voco_cli.data.index.patients import numbered
from voco_cli.errors import UsageError
from voco_cli.evaluate.statistics import RESAMPLES, mean_ranks, patient_indices, percentile_interval, resample_patients

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

OVERALL_METRICS = ("auc", "accuracy", "balanced_accuracy", "f1")
CATEGORY_METRICS = ("sensitivity", "specificity", "precision", "f1", "auc")
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

    @property
    def predicted(self) -> Indices:
        """The most probable category of each case; the first of equals."""
        return np.asarray(self.probabilities_NK.argmax(axis=1), np.intp)


@dataclass(frozen=True)
class Estimate:
    """A figure and its uncertainty.

    Attributes:
        value: over all cases.
        low, high: bootstrap 95 % interval, resampled by patient; NaN for fewer than two patients.
        left_out: resamples in which the figure is not defined, because they lack a category.
    """

    value: float
    low: float
    high: float
    left_out: int


@dataclass(frozen=True)
class CategorySummary:
    """One category against all others.

    Attributes:
        cases: that are of it; predicted: that were taken for it.
        metrics: by the names of `CATEGORY_METRICS`.
    """

    name: str
    cases: int
    predicted: int
    metrics: dict[str, Estimate]


@dataclass(frozen=True)
class ClassificationSummary:
    """All of an evaluation but the single cases.

    Attributes:
        overall: by the names of `OVERALL_METRICS`; means over categories are over those that have cases.
        confusion_KK: cases by true (row) and predicted (column) category.
    """

    cases: int
    patients: int
    categories: tuple[CategorySummary, ...]
    overall: dict[str, Estimate]
    confusion_KK: NDArray[np.int64]
    resamples: int
    seed: int


def summarise_classification(scored: ScoredCases, resamples: int = RESAMPLES, seed: int = 0) -> ClassificationSummary:
    """Every figure over the cases, with its interval; one draw of patients serves all.

    Raises:
        UsageError: there are no cases.
    """
    num_cases, num_categories = len(scored.cases), len(scored.categories)
    if num_cases == 0:
        raise UsageError("There are no cases whose category is known, so nothing can be measured.")
    patient_N = patient_indices(scored.patients)
    num_patients = len(set(scored.patients))
    draws_BG = resample_patients(num_patients, resamples, seed)
    ones_1N = np.ones((1, num_cases))
    overall, of_category = measure(scored, ones_1N)
    drawn = [measure(scored, block[:, patient_N]) for block in in_blocks(draws_BG, num_cases)]

    def estimate(value: float, values_B: Floats) -> Estimate:
        left_out = int(np.isnan(values_B).sum())
        low, high = percentile_interval(values_B) if num_patients > 1 else (math.nan, math.nan)
        return Estimate(value, low, high, left_out)

    confusion_KK = confusion(scored.truth_N, scored.predicted, num_categories, ones_1N)[0].astype(np.int64)
    return ClassificationSummary(
        cases=num_cases,
        patients=num_patients,
        categories=tuple(
            CategorySummary(
                name=name,
                cases=int(confusion_KK[k].sum()),
                predicted=int(confusion_KK[:, k].sum()),
                metrics={
                    metric: estimate(float(values[0, k]), np.concatenate([one[1][metric][:, k] for one in drawn]))
                    for metric, values in of_category.items()
                },
            )
            for k, name in enumerate(scored.categories)
        ),
        overall={
            metric: estimate(float(values[0]), np.concatenate([one[0][metric] for one in drawn]))
            for metric, values in overall.items()
        },
        confusion_KK=confusion_KK,
        resamples=resamples,
        seed=seed,
    )


def measure(scored: ScoredCases, weights_BN: Floats) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """Figures under each weighting of the cases.

    With two categories ``auc`` is that of the second; with more it is the mean over the categories that have cases,
    each against all others. ``balanced_accuracy`` and ``f1`` are such means too. A weighting that leaves out all cases
    of one of these categories defines none of the three.

    Returns:
        ``overall``: values_B by `OVERALL_METRICS`; ``of_category``: values_BK by `CATEGORY_METRICS`.
    """
    return figures(scored.truth_N, scored.predicted, scored.probabilities_NK, weights_BN)


def figures(
    truth_N: Indices, predicted_N: Indices, scores_NK: Floats, weights_BN: Floats
) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """What `measure` returns, of categories that were predicted and scores that order the cases for the AUC."""
    num_categories = scores_NK.shape[1]
    confusion_BKK = confusion(truth_N, predicted_N, num_categories, weights_BN)
    of_category = category_rates(confusion_BKK)
    of_category["auc"] = areas(truth_N, scores_NK, weights_BN)
    there_K = np.isin(np.arange(num_categories), truth_N)
    overall = {
        "auc": mean_area(of_category["auc"], truth_N),
        "accuracy": _ratio(np.trace(confusion_BKK, axis1=1, axis2=2), confusion_BKK.sum(axis=(1, 2))),
        "balanced_accuracy": of_category["sensitivity"][:, there_K].mean(axis=1),
        "f1": of_category["f1"][:, there_K].mean(axis=1),
    }
    return overall, of_category


def areas(truth_N: Indices, scores_NK: Floats, weights_BN: Floats) -> Floats:
    """AUC of each category against all others under each weighting, ``areas_BK``."""
    columns = [auc(scores_NK[:, k], truth_N == k, weights_BN) for k in range(scores_NK.shape[1])]
    return np.stack(columns, axis=1)


def mean_area(areas_BK: Floats, truth_N: Indices) -> Floats:
    """The AUC of a whole classification: of the second of two categories, else the mean of those that have cases."""
    num_categories = areas_BK.shape[1]
    if num_categories == 2:
        return np.asarray(areas_BK[:, 1])
    return np.asarray(areas_BK[:, np.isin(np.arange(num_categories), truth_N)].mean(axis=1))


def in_blocks(rows_B: NDArray[Any], num_cases: int) -> list[NDArray[Any]]:
    """Resamples in parts that are small enough to be worked on together."""
    return np.array_split(rows_B, max(1, math.ceil(len(rows_B) * num_cases / BLOCK_NUMBERS)))


def confusion(truth_N: Indices, predicted_N: Indices, num_categories: int, weights_BN: Floats) -> Floats:
    """Weight of the cases by true (row) and predicted (column) category: ``confusion_BKK``."""
    cell_N = truth_N * num_categories + predicted_N
    is_cell_NC = cell_N[:, None] == np.arange(num_categories**2)
    return np.asarray((weights_BN @ is_cell_NC).reshape(-1, num_categories, num_categories))


def category_rates(confusion_BKK: Floats) -> dict[str, Floats]:
    """Sensitivity, specificity, precision and F1 of each category against all others, values_BK.

    NaN where there is nothing to divide by, and for F1 where the category has no cases.
    """
    true_BK = np.diagonal(confusion_BKK, axis1=1, axis2=2)
    cases_BK, predicted_BK = confusion_BKK.sum(axis=2), confusion_BKK.sum(axis=1)
    others_BK = confusion_BKK.sum(axis=(1, 2))[:, None] - cases_BK
    f1_BK = _ratio(2 * true_BK, cases_BK + predicted_BK)
    return {
        "sensitivity": _ratio(true_BK, cases_BK),
        "specificity": _ratio(others_BK - (predicted_BK - true_BK), others_BK),
        "precision": _ratio(true_BK, predicted_BK),
        "f1": np.where(cases_BK > 0, f1_BK, np.nan),
    }


def auc(scores_N: Floats, positive_N: NDArray[np.bool_], weights_BN: Floats) -> Floats:
    """Area under the receiver operating characteristic, under each weighting.

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


def scored_cases(
    truth: Sequence[tuple[str, str, int]], probabilities: Mapping[str, Sequence[float]], categories: Sequence[str]
) -> ScoredCases:
    """Put known categories and predicted probabilities together.

    Args:
        truth: name, patient and category's index of each case.
        probabilities: by case; cases whose category is not known are passed over.
    Raises:
        UsageError: a case has no probabilities, or another number of them than there are categories.
    """
    lacking = [case for case, _, _ in truth if case not in probabilities]
    if lacking:
        more = f" and {len(lacking) - 3} more" if len(lacking) > 3 else ""
        raise UsageError(f"There are no probabilities of {', '.join(lacking[:3])}{more}.", "predict these cases first")
    wrong = [case for case, _, _ in truth if len(probabilities[case]) != len(categories)]
    if wrong:
        raise UsageError(
            f"{wrong[0]} has {len(probabilities[wrong[0]])} probabilities, and there are {len(categories)} categories."
        )
    rows = [list(probabilities[case]) for case, _, _ in truth]
    return ScoredCases(
        cases=tuple(case for case, _, _ in truth),
        patients=numbered(patient for _, patient, _ in truth),
        categories=tuple(categories),
        truth_N=np.array([index for _, _, index in truth], np.intp),
        probabilities_NK=np.array(rows, np.float64).reshape(len(truth), len(categories)),
    )


def _ratio(part: Floats, whole: Floats) -> Floats:
    return np.asarray(np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=np.asarray(whole) > 0))


@dataclass(frozen=True)
class Stacked:
    """The results of one set, then those of another for the same cases.

    Attributes:
        truth_M, predicted_M: categories.
        ranks_MK: ranks of the probabilities within each set, so that sets whose probabilities are of another scale can
            be exchanged.
    """

    truth_M: Indices
    predicted_M: Indices
    ranks_MK: Floats


def stack(first: ScoredCases, other: ScoredCases) -> Stacked:
    """Both sets, of the same cases in the same order.

    Source: Bandos, Rockette and Gur, "A permutation test sensitive to differences in areas for comparing ROC curves
        from a paired design", Stat. Med. 24, 2005 (for the ranks).
    """
    return Stacked(
        np.concatenate([first.truth_N, other.truth_N]),
        np.concatenate([first.predicted, other.predicted]),
        np.concatenate([np.apply_along_axis(mean_ranks, 0, one.probabilities_NK) for one in (first, other)]),
    )


def sides(swapped_BN: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Which results stand on the first side and which on the second, two of ``weights_BM``."""
    first_BM = np.concatenate([~swapped_BN, swapped_BN], axis=1).astype(np.float64)
    return first_BM, 1 - first_BM
