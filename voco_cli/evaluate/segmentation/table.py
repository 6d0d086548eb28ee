"""The values of all cases and structures as one table: what means, intervals and comparisons are made from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from voco_cli.data.index.patients import numbered
from voco_cli.evaluate.segmentation.metrics import METRICS, EmptyRule, Measurement, State, Structure, apply_rule
from voco_cli.evaluate.statistics import (
    RESAMPLES,
    bootstrap_means,
    mean_interval,
    nan_mean,
    patient_indices,
    percentile_interval,
    resample_patients,
)


@dataclass(frozen=True)
class MeasuredCase:
    """One case, measured.

    Attributes:
        case: name that predictions and labels share.
        patient: identity that resampling goes by.
        measurements: one a structure, in the order of the structures.
    """

    case: str
    patient: str
    measurements: tuple[Measurement, ...]


@dataclass(frozen=True)
class ResultTable:
    """Values after the rule for empty structures. N cases, C structures, M metrics as in `METRICS`.

    Attributes:
        cases: names, N.
        patients: numbers in place of names, N.
        structures: classes first, then regions.
        values_NCM: NaN where the rule leaves a value out.
        states: N rows of C words: both, missed, false_positive, absent, unlabelled.
        volumes_NC2: ml, of the reference and of the prediction; NaN where a case is not labelled for a structure.
    """

    cases: tuple[str, ...]
    patients: tuple[str, ...]
    structures: tuple[Structure, ...]
    values_NCM: NDArray[np.float64]
    states: tuple[tuple[State, ...], ...]
    volumes_NC2: NDArray[np.float64]
    parts_noun: ClassVar[str] = "classes"

    def of_metric(self, metric: str) -> NDArray[np.float64]:
        """Return the values of one metric: ``values_NC``."""
        return np.asarray(self.values_NCM[:, :, list(METRICS).index(metric)])

    @property
    def averaged(self) -> list[int]:
        """Return the structures that the mean over classes takes: the classes, or regions if there are no others."""
        classes = [i for i, one in enumerate(self.structures) if not one.is_region]
        return classes or list(range(len(self.structures)))

    def case_means(self, metric: str) -> list[float]:
        """Return the mean of each case over the classes; NaN where no class has a value."""
        return [float(value) for value in nan_mean(self.of_metric(metric)[:, self.averaged], axis=1)]

    def like(self, other: ResultTable) -> ResultTable:
        """Return the same table with cases and structures in the order of another that has the same."""
        rows = [self.cases.index(case) for case in other.cases]
        columns = [self.structures.index(one) for one in other.structures]
        return ResultTable(
            cases=other.cases,
            patients=tuple(self.patients[n] for n in rows),
            structures=other.structures,
            values_NCM=self.values_NCM[np.ix_(rows, columns)],
            states=tuple(tuple(self.states[n][c] for c in columns) for n in rows),
            volumes_NC2=self.volumes_NC2[np.ix_(rows, columns)],
        )

    @property
    def named_parts(self) -> dict[Structure, str]:
        """Return the structures with their names (see `CaseResults`)."""
        return {one: one.name for one in self.structures}

    def unlike_cases(self, aligned: ResultTable) -> dict[str, list[str]]:
        """Return the cases whose reference has other volumes in another table: other labels (see `CaseResults`)."""
        same_NC = np.isclose(
            self.volumes_NC2[:, :, 0], aligned.volumes_NC2[:, :, 0], rtol=1e-6, atol=1e-9, equal_nan=True
        )
        relabelled = [case for case, same_C in zip(self.cases, same_NC, strict=True) if not same_C.all()]
        return {"{run} was measured against other labels than {first} in": relabelled}

    def count(self, state: State, structure: int) -> int:
        """Return in how many cases a structure is in that state."""
        return sum(row[structure] == state for row in self.states)


def result_table(measured: Sequence[MeasuredCase], structures: Sequence[Structure], rule: EmptyRule) -> ResultTable:
    """Put measured cases under a rule for empty structures, sorted by case."""
    ordered = sorted(measured, key=lambda one: one.case)
    shape = (len(ordered), len(structures))
    values = np.empty((*shape, len(METRICS)))
    volumes = np.empty((*shape, 2))
    for n, case in enumerate(ordered):
        for c, one in enumerate(case.measurements):
            by_name = apply_rule(one, rule)
            values[n, c] = [by_name[name] for name in METRICS]
            volumes[n, c] = (one.reference_ml, one.prediction_ml)
    return ResultTable(
        cases=tuple(one.case for one in ordered),
        patients=numbered(one.patient for one in ordered),
        structures=tuple(structures),
        values_NCM=values,
        states=tuple(tuple(one.state for one in case.measurements) for case in ordered),
        volumes_NC2=volumes,
    )


@dataclass(frozen=True)
class MetricSummary:
    """One metric over cases.

    Attributes:
        n: cases that have a value.
        mean, median: over these cases.
        sd: standard deviation over these cases (n - 1); NaN for fewer than two.
        low, high: bootstrap 95 % interval of the mean, resampled by patient; NaN for fewer than two patients.
    """

    n: int
    mean: float
    sd: float
    median: float
    low: float
    high: float


@dataclass(frozen=True)
class StructureSummary:
    """One class or region over all cases.

    Attributes:
        present: cases whose reference and prediction both have it.
        missed: cases whose prediction lacks it; false_positive: whose reference lacks it; absent: neither has it.
        reference_ml, prediction_ml: mean volumes over all cases that are labelled for it, ml.
        metrics: by the names of `METRICS`.
    """

    structure: Structure
    present: int
    missed: int
    false_positive: int
    absent: int
    reference_ml: float
    prediction_ml: float
    metrics: dict[str, MetricSummary]


@dataclass(frozen=True)
class Summary:
    """All structures, and the mean over classes.

    Attributes:
        cases, patients: their numbers.
        structures: one summary each.
        overall: mean over the classes' means (regions do not count where there are classes). Its ``sd`` and ``median``
            are over the cases' own means, and ``n`` counts the cases that have one.
    """

    cases: int
    patients: int
    structures: tuple[StructureSummary, ...]
    overall: dict[str, MetricSummary]


def summarise(table: ResultTable, resamples: int = RESAMPLES, seed: int = 0) -> Summary:
    """Summarise every structure and metric; one draw of patients serves all, so intervals belong together."""
    patient_N = patient_indices(table.patients)
    num_patients = len(set(table.patients))
    draws_BG = resample_patients(num_patients, resamples, seed)
    structures = []
    for c, structure in enumerate(table.structures):
        metrics = {name: _metric(table.of_metric(name)[:, c], patient_N, draws_BG) for name in METRICS}
        volumes = nan_mean(table.volumes_NC2[:, c], axis=0) if table.cases else (math.nan, math.nan)
        structures.append(
            StructureSummary(
                structure=structure,
                present=table.count("both", c),
                missed=table.count("missed", c),
                false_positive=table.count("false_positive", c),
                absent=table.count("absent", c),
                reference_ml=float(volumes[0]),
                prediction_ml=float(volumes[1]),
                metrics=metrics,
            )
        )
    overall = {name: _overall(table.of_metric(name)[:, table.averaged], patient_N, draws_BG) for name in METRICS}
    return Summary(len(table.cases), num_patients, tuple(structures), overall)


def _metric(values_N: NDArray[np.float64], patient_N: NDArray[np.intp], draws_BG: NDArray[np.float64]) -> MetricSummary:
    there = values_N[~np.isnan(values_N)]
    low, high = mean_interval(values_N, patient_N, draws_BG)
    mean = float(there.mean()) if there.size else math.nan
    return MetricSummary(there.size, mean, _deviation(there), _median(there), low, high)


def _overall(
    values_NC: NDArray[np.float64], patient_N: NDArray[np.intp], draws_BG: NDArray[np.float64]
) -> MetricSummary:
    of_cases_N = nan_mean(values_NC, axis=1)
    there = of_cases_N[~np.isnan(of_cases_N)]
    mean = float(nan_mean(nan_mean(values_NC, axis=0), axis=0))
    interval = (math.nan, math.nan)
    if np.unique(patient_N[~np.isnan(of_cases_N)]).size >= 2:
        means_CB = np.stack([bootstrap_means(values_N, patient_N, draws_BG) for values_N in values_NC.T])
        interval = percentile_interval(nan_mean(means_CB, axis=0))
    return MetricSummary(there.size, mean, _deviation(there), _median(there), *interval)


def _deviation(values: NDArray[np.float64]) -> float:
    return float(values.std(ddof=1)) if values.size > 1 else math.nan


def _median(values: NDArray[np.float64]) -> float:
    return float(np.median(values)) if values.size else math.nan
