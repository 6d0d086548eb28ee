"""Two or more sets of predictions for the same cases: what differs, and whether that is more than chance.

Everything is paired: by case for the mean, by patient for resampling and tests. The first set is what the others are
compared with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from voco_cli.evaluate.segmentation.metrics import METRICS
from voco_cli.evaluate.segmentation.table import ResultTable, nan_mean
from voco_cli.evaluate.statistics import (
    RESAMPLES,
    holm,
    mean_interval,
    otherwise_grouped,
    patient_indices,
    patient_means,
    rank_biserial,
    resample_patients,
    wilcoxon_p,
)

OVERALL = "mean over classes"


@dataclass(frozen=True)
class Difference:
    """One metric of one structure in one set against the first set.

    Attributes:
        run: name of the set.
        structure: class or region, or `OVERALL`.
        metric: one of `METRICS`.
        cases, patients: pairs that both sets have a value for.
        unpaired: cases for which only one set has a value (a distance of a structure that one set missed, say).
        first_mean, mean: over the pairs.
        difference: mean of (this set - first set).
        low, high: bootstrap 95 % interval of the difference, resampled by patient; NaN for fewer than two.
        p: Wilcoxon signed-rank test over the patients' mean differences; NaN without pairs.
        p_holm: corrected over all structures (and sets) of the metric; the overall mean is one test and stays as it is.
        effect: matched-pairs rank-biserial correlation, in [-1, 1].
    """

    run: str
    structure: str
    metric: str
    cases: int
    patients: int
    unpaired: int
    first_mean: float
    mean: float
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    effect: float


@dataclass(frozen=True)
class CaseChange:
    """How much one structure of one case changed from the first set to another."""

    run: str
    case: str
    patient: str
    structure: str
    metric: str
    first: float
    value: float

    @property
    def change(self) -> float:
        """Value minus the first set's."""
        return self.value - self.first


@dataclass(frozen=True)
class Comparison:
    """All differences.

    Attributes:
        runs: names of the sets; the first is compared with.
        cases, patients: how many are paired.
        differences: by metric, set, structure; `OVERALL` comes last of each.
        changes: by metric: pairs sorted by the size of the change, largest first.
        case_means: by metric: each case's mean, in each set, over the classes that all sets have a value for,
            ``(runs, cases)``.
    """

    runs: tuple[str, ...]
    cases: int
    patients: int
    differences: tuple[Difference, ...]
    changes: dict[str, tuple[CaseChange, ...]]
    case_means: dict[str, NDArray[np.float64]]

    def of_metric(self, metric: str) -> list[Difference]:
        """Differences of one metric."""
        return [one for one in self.differences if one.metric == metric]


def pairing_faults(runs: Sequence[str], tables: Sequence[ResultTable]) -> list[str]:
    """Why sets cannot be paired, one sentence each; none where they can.

    Cases, patients and structures must be the same, and so must the volumes of the reference: equal names with other
    volumes are other labels.
    """
    faults = []
    first = tables[0]
    for run, table in zip(runs[1:], tables[1:], strict=True):
        for here, there, name in ((first, table, run), (table, first, runs[0])):
            lacking = sorted(set(here.cases) - set(there.cases))
            if lacking:
                faults.append(f"{name} has no {named('case', lacking)}")
        ours, theirs = set(first.structures), set(table.structures)
        if ours != theirs:
            faults.append(
                f"{run} and {runs[0]} differ in classes: {', '.join(sorted({one.name for one in ours ^ theirs}))}"
            )
        if set(first.cases) == set(table.cases) and ours == theirs:
            faults.extend(_reference_faults(runs[0], first, run, _aligned(table, first)))
    return faults


def compare_tables(
    runs: Sequence[str], tables: Sequence[ResultTable], resamples: int = RESAMPLES, seed: int = 0
) -> Comparison:
    """Compare each set with the first.

    Args:
        runs: names, one a table.
        tables: of the same cases and structures (see `pairing_faults`), two at least.
    """
    first = tables[0]
    aligned = [_aligned(table, first) for table in tables]
    patient_N = patient_indices(first.patients)
    draws_BG = resample_patients(len(set(first.patients)), resamples, seed)
    differences: list[Difference] = []
    changes, case_means = {}, {}
    for metric in METRICS:
        values = [table.of_metric(metric) for table in aligned]
        rows = []
        for run, values_NC in zip(runs[1:], values[1:], strict=True):
            for c, structure in enumerate(first.structures):
                pair = (values[0][:, c], values_NC[:, c])
                rows.append(_difference(run, structure.name, metric, *pair, patient_N, draws_BG))
        corrected = holm([one.p for one in rows])
        rows = [replace(one, p_holm=p) for one, p in zip(rows, corrected, strict=True)]
        means = [_paired_means(values[0], values_NC, first.averaged) for values_NC in values]
        for run, (before, after) in zip(runs[1:], means[1:], strict=True):
            overall = _difference(run, OVERALL, metric, before, after, patient_N, draws_BG)
            last = max(i for i, one in enumerate(rows) if one.run == run)
            rows.insert(last + 1, overall)
        differences.extend(rows)
        changes[metric] = tuple(_changes(runs, first, values, metric))
        lacking_NC = np.isnan(values).any(axis=0)
        case_means[metric] = nan_mean(np.where(lacking_NC, np.nan, values)[:, :, first.averaged], axis=2)
    return Comparison(tuple(runs), len(first.cases), len(set(first.patients)), tuple(differences), changes, case_means)


def _difference(
    run: str,
    structure: str,
    metric: str,
    before_N: NDArray[np.float64],
    after_N: NDArray[np.float64],
    patient_N: NDArray[np.intp],
    draws_BG: NDArray[np.float64],
) -> Difference:
    change_N = after_N - before_N
    paired = ~np.isnan(change_N)
    means_G = patient_means(change_N, patient_N)
    low, high = mean_interval(change_N, patient_N, draws_BG)
    p = wilcoxon_p(means_G)
    return Difference(
        run=run,
        structure=structure,
        metric=metric,
        cases=int(paired.sum()),
        patients=means_G.size,
        unpaired=int((np.isnan(before_N) != np.isnan(after_N)).sum()),
        first_mean=float(nan_mean(before_N[paired], axis=0)),
        mean=float(nan_mean(after_N[paired], axis=0)),
        difference=float(nan_mean(change_N, axis=0)),
        low=low,
        high=high,
        p=p,
        p_holm=p,
        effect=rank_biserial(means_G),
    )


def _paired_means(
    before_NC: NDArray[np.float64], after_NC: NDArray[np.float64], averaged: Sequence[int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Each case's mean over the classes that both sets have a value for."""
    lacking = np.isnan(before_NC) | np.isnan(after_NC)
    before, after = (np.where(lacking, np.nan, values)[:, averaged] for values in (before_NC, after_NC))
    return nan_mean(before, axis=1), nan_mean(after, axis=1)


def _changes(
    runs: Sequence[str], first: ResultTable, values: Sequence[NDArray[np.float64]], metric: str
) -> list[CaseChange]:
    found = [
        CaseChange(run, first.cases[n], first.patients[n], first.structures[c].name, metric, *pair)
        for run, values_NC in zip(runs[1:], values[1:], strict=True)
        for n in range(len(first.cases))
        for c in range(len(first.structures))
        if not np.isnan(pair := (float(values[0][n, c]), float(values_NC[n, c]))).any()
    ]
    return sorted(found, key=lambda one: -abs(one.change))


def _aligned(table: ResultTable, like: ResultTable) -> ResultTable:
    """The same table with cases and structures in the order of another."""
    rows = [table.cases.index(case) for case in like.cases]
    columns = [table.structures.index(one) for one in like.structures]
    return ResultTable(
        cases=like.cases,
        patients=tuple(table.patients[n] for n in rows),
        structures=like.structures,
        values_NCM=table.values_NCM[np.ix_(rows, columns)],
        states=tuple(tuple(table.states[n][c] for c in columns) for n in rows),
        volumes_NC2=table.volumes_NC2[np.ix_(rows, columns)],
    )


def _reference_faults(first_run: str, first: ResultTable, run: str, table: ResultTable) -> list[str]:
    faults = []
    moved = otherwise_grouped(first.cases, first.patients, table.patients)
    if moved:
        faults.append(f"{run} puts other cases together as one patient's than {first_run}: {named('case', moved)}")
    same_NC = np.isclose(first.volumes_NC2[:, :, 0], table.volumes_NC2[:, :, 0], rtol=1e-6, atol=1e-9)
    relabelled = [case for case, same_C in zip(first.cases, same_NC, strict=True) if not same_C.all()]
    if relabelled:
        faults.append(f"{run} was measured against other labels than {first_run} in {named('case', relabelled)}")
    return faults


def named(noun: str, names: Sequence[str], most: int = 10) -> str:
    """``cases a, b``; no more than ``most`` of them by name."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{noun}{'s' if len(names) > 1 else ''} {', '.join(names[:most])}{more}"
