"""Cases with what a network says of them, and their figures with intervals: of all categories and of each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voco_cli.data.index.patients import numbered
from voco_cli.errors import UsageError
from voco_cli.evaluate.classification.metrics import ScoredCases, confusion, in_blocks, measure
from voco_cli.evaluate.statistics import RESAMPLES, Floats, patient_indices, percentile_interval, resample_patients


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


def summarise_classification(scored: ScoredCases, resamples: int = RESAMPLES, seed: int = 0) -> ClassificationSummary:
    """Compute every figure over the cases, with its interval; one draw of patients serves all.

    Raises:
        UsageError: there are no cases.
    """
    num_cases = len(scored.cases)
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

    confusion_KK = confusion(scored.outcomes, ones_1N)[0].astype(np.int64)
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
