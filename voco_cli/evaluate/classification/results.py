"""A measured classification, and its files: cases.csv, summary.json and table.md; and reading them again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from voco_cli.csv_text import csv_records, csv_text
from voco_cli.data.index.patients import numbered
from voco_cli.document.blocks import Block, Column, Table, Value
from voco_cli.evaluate.classification.compare import ClassificationComparison, compare_classifications
from voco_cli.evaluate.classification.metrics import CATEGORY_METRICS, METRICS, OVERALL_METRICS, ScoredCases
from voco_cli.evaluate.classification.table import ClassificationSummary, Estimate, summarise_classification
from voco_cli.evaluate.result_files import (
    MOST_UNSEARCHED,
    EvaluationResult,
    interval_object,
)
from voco_cli.evaluate.tables import markdown, with_interval, without_nan
from voco_cli.foreign_text import quoted, shortened

OVERALL_HEADINGS = ["figure", "value [95 % interval]"]


@dataclass(frozen=True)
class ClassificationEvaluation(EvaluationResult[ScoredCases]):
    """A measured classification."""

    kind: ClassVar = "classification"
    format: ClassVar = "voco-classification/1"
    same: ClassVar = "categories"
    comparison: ClassVar = ClassificationComparison

    @staticmethod
    def parse(text: str) -> ScoredCases:
        """Return the table that cases.csv holds (see `parse_cases_csv`)."""
        return parse_cases_csv(text)

    @cached_property
    def summary(self) -> ClassificationSummary:
        """Compute the figures from the cases; the same draws give the same intervals."""
        return summarise_classification(self.table, self.options.resamples, self.options.seed)

    def cases_csv(self) -> str:
        """Return the content of cases.csv."""
        return cases_csv(self.table)

    def content(self) -> dict[str, Any]:
        """Return what summary.json holds of the figures; NaN becomes null."""
        summary = self.summary
        found = {
            "cases": summary.cases,
            "patients": summary.patients,
            "interval": interval_object(summary.resamples, summary.seed),
            "overall": {name: asdict(one) for name, one in summary.overall.items()},
            "categories": [asdict(one) for one in summary.categories],
            "confusion": {
                "rows": "true category",
                "columns": "predicted category",
                "names": [one.name for one in summary.categories],
                "cases": summary.confusion_KK.tolist(),
            },
            "failed": self.failed_json(),
        }
        return dict(without_nan(found))

    def markdown_tables(self) -> list[str]:
        """Return figures, categories and confusion."""
        summary = self.summary
        names = [one.name for one in summary.categories]
        matrix = [
            [f"{name} (true)", *map(str, row)] for name, row in zip(names, summary.confusion_KK.tolist(), strict=True)
        ]
        return [
            markdown(OVERALL_HEADINGS, overall_rows(summary)),
            markdown(category_headings(), category_rows(summary)),
            markdown(["", *(f"{name} (predicted)" for name in names)], matrix),
        ]

    def tables(self) -> list[Block]:
        """Return the figures over all categories and of each, what was taken for what, and every case."""
        summary = self.summary
        confusion: list[list[Value]] = [
            [one.name, *row] for one, row in zip(summary.categories, summary.confusion_KK.tolist(), strict=True)
        ]
        taken = [Column("true category"), *(Column(f"taken for {one.name}", True) for one in summary.categories)]
        return [
            Table.of("Over all categories", OVERALL_HEADINGS, overall_rows(summary), anchor="overall"),
            Table.of(
                "Each category against all others, with 95 % intervals",
                category_headings(),
                category_rows(summary),
                anchor="categories",
            ),
            Table.of("What each category was taken for, cases", taken, confusion, anchor="confusion"),
            _scored_table(self.table),
        ]

    def lines(self) -> list[str]:
        """Return how to read the tables (see `EvaluationResult.lines`)."""
        return statements(self)

    def headline(self) -> str:
        """Return the AUC with its interval."""
        return f"AUC {estimate_text(self.summary.overall['auc'])} on {self.cases_words()}"

    def compare(
        self, names: Sequence[str], others: Sequence[Any], resamples: int, seed: int
    ) -> ClassificationComparison:
        """Compare others with this one (see `EvaluationResult.compare`)."""
        return compare_classifications(names, [one.table for one in (self, *others)], resamples, seed)


def cases_csv(scored: ScoredCases) -> str:
    """Return one line a case: case, patient, category, predicted, and ``p_<category>`` for each category."""
    names = scored.categories
    rows = [["case", "patient", "category", "predicted", *(f"p_{name}" for name in names)]]
    predicted = scored.predicted
    for n, case in enumerate(scored.cases):
        row = [case, scored.patients[n], names[scored.truth_N[n]], names[predicted[n]]]
        rows.append([*row, *(f"{probability:.10g}" for probability in scored.probabilities_NK[n])])
    return csv_text(rows)


def parse_cases_csv(text: str) -> ScoredCases:
    """Return the cases that `cases_csv` wrote.

    Raises:
        ValueError: as `csv_records`; other columns, a case twice, a category that is none, or a probability that is no
            number in [0, 1].
    """
    columns, records = csv_records(text)
    names = tuple(column.removeprefix("p_") for column in columns[4:])
    if columns != ["case", "patient", "category", "predicted", *(f"p_{name}" for name in names)] or not names:
        raise ValueError(f"columns are {shortened(', '.join(columns))}")
    rows = [row for _, row in records]
    cases = tuple(row["case"] for row in rows)
    if len(set(cases)) < len(cases):
        raise ValueError("a case stands twice")
    unknown = [row["category"] for row in rows if row["category"] not in names]
    if unknown:
        raise ValueError(f"{quoted(unknown[0])} is no category")
    probabilities_NK = np.array([[_probability(row[f"p_{name}"]) for name in names] for row in rows], np.float64)
    if not ((probabilities_NK >= 0) & (probabilities_NK <= 1)).all():  # false for NaN
        raise ValueError("a probability is not in [0, 1]")
    return ScoredCases(
        cases=cases,
        patients=numbered(row["patient"] for row in rows),  # an older version wrote their names
        categories=names,
        truth_N=np.array([names.index(row["category"]) for row in rows], np.intp),
        probabilities_NK=probabilities_NK.reshape(len(rows), len(names)),
    )


def _probability(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise ValueError(f"{quoted(text)} is no probability") from error


def overall_rows(summary: ClassificationSummary) -> list[list[str]]:
    """Return the cells for a table of the figures over all categories."""
    return [[METRICS[name].title, estimate_text(summary.overall[name])] for name in OVERALL_METRICS]


def category_headings(metrics: Sequence[str] = CATEGORY_METRICS) -> list[str]:
    """Return the headings of `category_rows`."""
    return ["category", "cases", "predicted", *(METRICS[name].title for name in metrics)]


def category_rows(summary: ClassificationSummary, metrics: Sequence[str] = CATEGORY_METRICS) -> list[list[str]]:
    """Return the cells for a table of the categories, each against all others."""
    return [
        [one.name, str(one.cases), str(one.predicted), *(estimate_text(one.metrics[name]) for name in metrics)]
        for one in summary.categories
    ]


def estimate_text(one: Estimate) -> str:
    """Return ``0.812 [0.700, 0.910]``; a dash where the figure is not defined."""
    return with_interval(one.value, one.low, one.high)


def statements(evaluation: ClassificationEvaluation) -> list[str]:
    """Return what a table must say of itself, one line each."""
    summary = evaluation.summary
    names = [one.name for one in summary.categories]
    counts = ", ".join(f"{one.cases} {one.name}" for one in summary.categories)
    auc = f"AUC is that of {names[1]}" if len(names) == 2 else "AUC is the mean of each category against the others"
    lines = [
        f"{summary.cases} cases of {summary.patients} patients: {counts}.",
        f"{auc}; balanced accuracy and F1 are means over the categories that have cases. "
        f"Intervals: bootstrap, {summary.resamples} resamples by patient.",
    ]
    lacking = [one.name for one in summary.categories if not one.cases]
    if lacking:
        lines.append(f"No cases of {', '.join(lacking)}.")
    left_out = summary.overall["auc"].left_out
    if left_out:
        lines.append(f"{left_out} of {summary.resamples} resamples lack a category and are left out of these means.")
    if evaluation.failed:
        lines.append(f"Not measured: {', '.join(case for case, _ in evaluation.failed)}.")
    return lines


def _scored_table(scored: ScoredCases) -> Table:
    """Return every case of a classification; those that were taken for another category stand out."""
    predicted = scored.predicted
    columns = [
        *map(Column, ("case", "patient", "true category", "taken for", "right")),
        *(Column(f"p({name})", True, ".3f") for name in scored.categories),
    ]
    rows: list[list[Value]] = []
    for n, case in enumerate(scored.cases):
        truth, taken = scored.truth_N[n], predicted[n]
        words = [case, scored.patients[n], scored.categories[truth], scored.categories[taken]]
        rows.append([*words, "yes" if truth == taken else "no", *map(float, scored.probabilities_NK[n])])
    wrong = [n for n in range(len(rows)) if scored.truth_N[n] != predicted[n]]
    caption = "Every case; a marked one was taken for another category"
    searched = len(rows) > MOST_UNSEARCHED
    return Table.of(caption, columns, rows, names=2, marked=wrong, anchor="cases", searched=searched)
