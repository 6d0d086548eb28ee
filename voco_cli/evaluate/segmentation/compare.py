"""Segmentations of the same cases compared: the differences of every metric, and the cases that changed most."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Self

import numpy as np

from voco_cli.evaluate.compared_runs import ComparedTable, Comparison, ComparisonPanels
from voco_cli.evaluate.comparison import (
    Difference,
    compare_runs,
    difference_from_json,
    difference_object,
    json_keys,
)
from voco_cli.evaluate.segmentation.metrics import METRICS, metric_title
from voco_cli.evaluate.segmentation.table import ResultTable
from voco_cli.evaluate.statistics import RESAMPLES, Floats, nan_mean
from voco_cli.evaluate.tables import NONE, figure, from_json, interval, p_value, without_nan

OVERALL = "mean over classes"
"""What files and tables call the score of a whole run."""
KEYS = json_keys(
    "run structure=part metric cases patients unpaired first_mean=first mean=value difference low high p p_holm effect"
)
"""Keys of a difference in comparison.json."""
STORED_CHANGES = 50


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
        tolerance_mm, rule: of the surface Dice, and name of the rule for empty classes.
        missed: where a metric leaves out cases in which one side missed a structure, how many each side missed.
    """

    format: ClassVar = "voco-comparison/1"
    main: ClassVar = ("dice", "mean Dice")
    metrics: ClassVar = METRICS
    most_shown: ClassVar = 5
    more_changes: ClassVar = "{} more changes in comparison.md."

    changes: dict[str, tuple[CaseChange, ...]]
    case_means: dict[str, Floats]
    tolerance_mm: float
    rule: str
    missed: tuple[str, ...]

    def title(self, metric: str) -> str:
        """Return the name of a metric."""
        return metric_title(metric, self.tolerance_mm)

    def differences_table(self, metric: str) -> ComparedTable:
        """Return the differences of one metric."""
        found, first = self.of_metric(metric), self.runs[0]
        headings = ["run", "structure", "cases", first, "run's", "difference [95 %]", "p", "p (Holm)", "effect"]
        overall = [n for n, one in enumerate(found) if one.part is None]
        return ComparedTable(
            f"{self.title(metric)}: difference from {first}", headings, difference_rows(found), 2, overall
        )

    def changes_table(self, metric: str) -> ComparedTable:
        """Return the structures of cases that changed most by one metric."""
        headings = ["run", "case", "structure", "from", "to", "change"]
        changes = change_rows(self.changes.get(metric, ())[:STORED_CHANGES])
        return ComparedTable(f"Cases whose {self.title(metric)} changed most", headings, changes, 3)

    def statements(self, resamples: int) -> list[str]:
        """Return how to read the tables (see `Comparison.statements`)."""
        return [
            *super().statements(resamples),
            "p: Wilcoxon signed-rank test over the patients' mean differences; Holm's correction over all classes and "
            f"runs; effect: matched-pairs rank-biserial correlation (+1: nobody below {self.runs[0]}, somebody above). "
            f"Rule for empty classes: {self.rule}.",
        ]

    def warnings(self) -> tuple[str, ...]:
        """Return how many structures each side missed (see `Comparison.warnings`)."""
        return self.missed

    def panels(self, metric: str) -> ComparisonPanels:
        """Return the differences by class, and each case's mean over classes."""
        title, values_RN, lower = self.title(metric), self.case_means[metric], METRICS[metric].lower_is_better
        gains = (-1.0 if lower else 1.0) * (values_RN[-1] - values_RN[0])
        better, worse, equal = (int(np.sum(test)) for test in (gains > 0, gains < 0, gains == 0))
        footnote = f"better {better}, worse {worse}, equal {equal}"
        if len(self.runs) == 2:
            footnote = f"better {better} (blue), worse {worse} (orange), equal {equal}"
        return ComparisonPanels(
            title=title,
            forest_title="By class",
            difference_label=f"difference of {title}",
            marks=[(one.part or OVERALL, one) for one in self.of_metric(metric)],
            dots_title="By case: mean over classes",
            dots_label=title,
            values_RN=values_RN,
            footnote=footnote,
            lower_is_better=lower,
            digits=METRICS[metric].digits,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as JSON holds it, with the largest changes of each metric."""
        differences = [difference_object(one, KEYS) for one in self.differences]
        held = {
            "tolerance_mm": self.tolerance_mm,
            "empty_rule": self.rule,
            "missed": self.missed,
            "runs": self.runs,
            "cases": self.cases,
            "patients": self.patients,
            "differences": [{**one, "structure": one["structure"] or OVERALL} for one in differences],
            "largest_changes": {
                metric: [{**asdict(one), "change": one.change} for one in changes[:STORED_CHANGES]]
                for metric, changes in self.changes.items()
            },
        }
        return dict(without_nan(held))

    @classmethod
    def from_json(cls, held: Mapping[str, Any]) -> Self:
        """Return what `to_json` gave, without each case's mean (see `Comparison.from_json`)."""
        differences = (
            {**one, "structure": None if one["structure"] == OVERALL else one["structure"]}
            for one in held["differences"]
        )
        return cls(
            runs=tuple(map(str, held["runs"])),
            cases=held["cases"],
            patients=held["patients"],
            differences=tuple(difference_from_json(one, KEYS) for one in differences),
            changes={
                metric: tuple(from_json(CaseChange, one) for one in changes)
                for metric, changes in held["largest_changes"].items()
            },
            case_means={},
            tolerance_mm=float(held["tolerance_mm"]),
            rule=str(held["empty_rule"]),
            missed=tuple(map(str, held.get("missed") or ())),  # of newer comparisons
        )


def compare_tables(
    runs: Sequence[str],
    tables: Sequence[ResultTable],
    resamples: int = RESAMPLES,
    seed: int = 0,
    *,
    tolerance_mm: float = 2.0,
    rule: str = "count",
) -> SegmentationComparison:
    """Compare each run with the first.

    Args:
        runs: names, one a table.
        tables: of the same cases and structures (see `comparison.pairing_faults`), two at least.
        tolerance_mm, rule: of all tables: of the surface Dice, and name of the rule for empty classes.
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
        tolerance_mm=tolerance_mm,
        rule=rule,
        missed=tuple(_missed_sentences(dict(zip(runs, aligned, strict=True)), found, tolerance_mm)),
    )


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


def _missed_sentences(
    tables: Mapping[str, ResultTable], differences: Sequence[Difference], tolerance_mm: float
) -> list[str]:
    """Return, where a metric leaves out cases in which one side missed a structure, how many each side missed.

    A distance is only known where both maps have the structure: who misses the hard ones may look better.
    """
    unpaired: dict[tuple[str, str], list[Difference]] = {}
    for one in differences:
        if one.unpaired and one.part is not None:
            unpaired.setdefault((one.run, one.part), []).append(one)
    first = next(iter(tables))
    return [
        f"{' and '.join(metric_title(one.metric, tolerance_mm) for one in found)} of {structure} rest on the "
        f"{found[-1].cases} cases in which both have it: {_missed(first, tables[first], structure)}, "
        f"{_missed(run, tables[run], structure)}."
        for (run, structure), found in unpaired.items()
    ]


def _missed(run: str, table: ResultTable, structure: str) -> str:
    column = next(i for i, one in enumerate(table.structures) if one.name == structure)
    missed, added = table.count("missed", column), table.count("false_positive", column)
    return f"{run} missed it in {missed}" + (f" and put it where it is not in {added}" if added else "")
