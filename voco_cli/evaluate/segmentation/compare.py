"""Segmentations of the same cases compared: the differences of every metric, and the cases that changed most."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from voco_cli.evaluate.comparison import (
    Comparison,
    Difference,
    compare_runs,
    difference_from_json,
    difference_object,
    json_keys,
)
from voco_cli.evaluate.segmentation.metrics import METRICS
from voco_cli.evaluate.segmentation.table import ResultTable
from voco_cli.evaluate.statistics import RESAMPLES, Floats, nan_mean
from voco_cli.evaluate.tables import NONE, figure, interval, p_value, without_nan

OVERALL = "mean over classes"
"""What files and tables call the score of a whole run."""
KEYS = json_keys(
    "run structure=part metric cases patients unpaired first_mean=first mean=value difference low high p p_holm effect"
)
"""Keys of a difference in comparison.json."""
CHANGE_HEADINGS = ["run", "case", "structure", "from", "to", "change"]


@dataclass(frozen=True)
class CaseChange:
    """How much one structure of one case changed from the first run to another."""

    run: str
    case: str
    patient: str
    structure: str
    metric: str
    first: float
    value: float

    @property
    def change(self) -> float:
        """Return the value minus the first run's."""
        return self.value - self.first


@dataclass(frozen=True)
class SegmentationComparison(Comparison):
    """Differences by metric, run and structure; the mean over classes comes last of each run.

    Attributes:
        changes: by metric: pairs sorted by the size of the change, largest first.
        case_means: by metric: each case's mean, in each run, over the classes that all runs have a value for,
            ``(runs, cases)``.
    """

    changes: dict[str, tuple[CaseChange, ...]]
    case_means: dict[str, Floats]


def compare_tables(
    runs: Sequence[str], tables: Sequence[ResultTable], resamples: int = RESAMPLES, seed: int = 0
) -> SegmentationComparison:
    """Compare each run with the first.

    Args:
        runs: names, one a table.
        tables: of the same cases and structures (see `comparison.pairing_faults`), two at least.
    """
    first = tables[0]
    aligned = [table.like(first) for table in tables]
    # All structures and runs of a metric are one family of tests; their mean is one test and stays as it is.
    found, _ = compare_runs(
        runs, aligned, list(METRICS.values()), resamples, seed, lambda one: one.metric if one.part else None
    )
    values = {metric: np.stack([table.of_metric(metric) for table in aligned]) for metric in METRICS}
    return SegmentationComparison(
        tuple(runs),
        len(first.cases),
        len(set(first.patients)),
        tuple(found),
        changes={metric: tuple(_changes(runs, first, values_RNC, metric)) for metric, values_RNC in values.items()},
        case_means={metric: _case_means(values_RNC, first.averaged) for metric, values_RNC in values.items()},
    )


def comparison_object(found: SegmentationComparison, most_changes: int) -> dict[str, Any]:
    """Return a comparison as JSON holds it, with the largest changes of each metric."""
    differences = [difference_object(one, KEYS) for one in found.differences]
    held = {
        "runs": found.runs,
        "cases": found.cases,
        "patients": found.patients,
        "differences": [{**one, "structure": one["structure"] or OVERALL} for one in differences],
        "largest_changes": {
            metric: [{**asdict(one), "change": one.change} for one in changes[:most_changes]]
            for metric, changes in found.changes.items()
        },
    }
    return dict(without_nan(held))


def difference_from_object(held: Mapping[str, Any]) -> Difference:
    """Return a difference of comparison.json.

    Raises:
        KeyError, TypeError, ValueError: it makes no sense.
    """
    structure = None if held["structure"] == OVERALL else held["structure"]
    return difference_from_json({**held, "structure": structure}, KEYS)


def difference_headings(first: str) -> list[str]:
    """Return the headings of `difference_rows`."""
    return ["run", "structure", "cases", first, "run's", "difference [95 %]", "p", "p (Holm)", "effect"]


def difference_rows(differences: Sequence[Difference]) -> list[list[str]]:
    """Return the cells for a table of one metric's differences."""
    rows = []
    for one in differences:
        digits = METRICS[one.metric].digits
        rows.append(
            [
                one.run,
                one.part or OVERALL,
                str(one.cases) + (f" (+{one.unpaired} unpaired)" if one.unpaired else ""),
                figure(one.first, digits),
                figure(one.value, digits),
                f"{figure(one.difference, digits, sign=True)} {interval(one.low, one.high, digits, sign=True)}",
                p_value(one.p),
                p_value(one.p_holm) if one.part else NONE,
                NONE if math.isnan(one.effect) else f"{one.effect:+.2f}",
            ]
        )
    return rows


def change_rows(changes: Sequence[CaseChange]) -> list[list[str]]:
    """Return the cells for a table of the cases that changed most."""
    rows = []
    for one in changes:
        digits = METRICS[one.metric].digits
        values = (figure(one.first, digits), figure(one.value, digits), figure(one.change, digits, sign=True))
        rows.append([one.run, one.case, one.structure, *values])
    return rows


def _changes(runs: Sequence[str], first: ResultTable, values_RNC: Floats, metric: str) -> list[CaseChange]:
    before_NC, *others = values_RNC
    found = [
        CaseChange(run, first.cases[n], first.patients[n], first.structures[c].name, metric, *pair)
        for run, after_NC in zip(runs[1:], others, strict=True)
        for n in range(len(first.cases))
        for c in range(len(first.structures))
        if not np.isnan(pair := (float(before_NC[n, c]), float(after_NC[n, c]))).any()
    ]
    return sorted(found, key=lambda one: -abs(one.change))


def _case_means(values_RNC: Floats, averaged: Sequence[int]) -> Floats:
    lacking_NC = np.isnan(values_RNC).any(axis=0)
    return nan_mean(np.where(lacking_NC, np.nan, values_RNC)[:, :, averaged], axis=2)
