"""The figures of a classification with their intervals: over all categories, and of each against all others."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
