"""The folder that the evaluation of a classification leaves: cases.csv, summary.json, table.md; and reading it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from voco_cli import __version__
from voco_cli.atomic_files import write_atomic
from voco_cli.csv_text import csv_records, csv_text
from voco_cli.data.index.patients import numbered
from voco_cli.evaluate.classification.compare import CategoryChange, ClassificationComparison, FigureDifference
from voco_cli.evaluate.classification.metrics import (
    CATEGORY_METRICS,
    OVERALL_METRICS,
    ClassificationSummary,
    Estimate,
    ScoredCases,
)
from voco_cli.evaluate.result_files import CASES, SUMMARY, TABLE, Provenance, damaged, read_vouched
from voco_cli.evaluate.segmentation.results import NONE, markdown, p_value, without_nan
from voco_cli.foreign_text import quoted, shortened, visible

TITLES = {
    "auc": "AUC",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "f1": "F1",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "precision": "precision",
}
FIGURE_HEADINGS = ("run", "figure")
CHANGE_HEADINGS = ["run", "case", "category", "from", "to", "p(category)", ""]


def figure_title(one: FigureDifference) -> str:
    """``macro F1``, or ``covid: F1``."""
    if one.category is not None:
        return f"{one.category}: {TITLES[one.metric]}"
    return "macro F1" if one.metric == "f1" else TITLES[one.metric]


def figure_headings(first: str) -> list[str]:
    """Headings of `figure_rows`."""
    return [*FIGURE_HEADINGS, first, "run's", "difference [95 %]", "p", "p (Holm)"]


def figure_rows(differences: Sequence[FigureDifference]) -> list[list[str]]:
    """Cells for a table of differences."""
    return [
        [
            one.run,
            figure_title(one),
            _number(one.first_value),
            _number(one.value),
            f"{_number(one.difference, sign=True)} {_interval(one.low, one.high)}".rstrip(),
            p_value(one.p),
            p_value(one.p_holm),
        ]
        for one in differences
    ]


def change_rows(changes: Sequence[CategoryChange]) -> list[list[str]]:
    """Cells for a table of the cases that changed category."""
    return [
        [
            *(one.run, one.case, one.category, one.first, one.value),
            f"{one.first_probability:.3f} to {one.probability:.3f}",
            one.kind,
        ]
        for one in changes
    ]


def classification_comparison_object(comparison: ClassificationComparison) -> dict[str, Any]:
    """A comparison as JSON holds it; NaN becomes null."""
    found = {
        "runs": comparison.runs,
        "cases": comparison.cases,
        "patients": comparison.patients,
        "categories": comparison.categories,
        "swaps": {"ways": comparison.swaps, "all_ways": comparison.exact, "of": "whole patients"},
        "differences": [asdict(one) for one in comparison.differences],
        "right": [asdict(one) for one in comparison.agreements],
        "changed_category": [{**asdict(one), "kind": one.kind} for one in comparison.changes],
    }
    return dict(without_nan(found))


def comparison_statements(comparison: ClassificationComparison, resamples: int) -> list[str]:
    """What a table of differences must say of itself, one line each."""
    first, names = comparison.runs[0], comparison.categories
    auc = "AUC is the mean of each category against the others"
    if len(names) == 2:
        auc = f"AUC is that of {names[1]}, whose specificity is the sensitivity of {names[0]}"
    lines = [
        f"{comparison.cases} cases of {comparison.patients} patients, paired; difference: run - {first}, with its "
        f"bootstrap 95 % interval, {resamples} resamples by patient.",
        f"{auc}; balanced accuracy and macro F1 are means over the categories that have cases.",
        _test_words(comparison),
    ]
    left_out = max(one.left_out for one in comparison.differences)
    if left_out:
        lines.append(f"Up to {left_out} of {resamples} resamples lack a category and are left out of an interval.")
    return lines + [_agreement_words(one.run, comparison) for one in comparison.agreements]


def _test_words(comparison: ClassificationComparison) -> str:
    ways = f"all {comparison.swaps} ways" if comparison.exact else f"{comparison.swaps} random ways"
    swaps = f"permutation test in which the two runs exchange whole patients ({ways}; the AUC by ranks within a run)"
    several = len(comparison.runs) > 2
    num_categories = len({one.category for one in comparison.differences} - {None})
    over = [*(["categories"] if num_categories > 1 else []), *(["runs"] if several else [])]
    correction = f" Holm's correction over {' and '.join(over)}, figure by figure." if over else ""
    mcnemar = any(one.test == "McNemar" for one in comparison.differences)
    test = f"McNemar's exact test for accuracy, else a {swaps}" if mcnemar else swaps
    return f"p: {test}.{correction}"


def _agreement_words(run: str, comparison: ClassificationComparison) -> str:
    one = next(one for one in comparison.agreements if one.run == run)
    first = comparison.runs[0]
    changed = sum(change.run == run for change in comparison.changes)
    return (
        f"{run} and {first}: {one.both_right} cases right in both, {one.only_run} only in {run}, {one.only_first} only "
        f"in {first}, {one.both_wrong} in neither; {changed} changed category."
    )


def _interval(low: float, high: float) -> str:
    return "" if math.isnan(low) else f"[{_number(low, sign=True)}, {_number(high, sign=True)}]"


def _number(value: float, sign: bool = False) -> str:
    return NONE if math.isnan(value) else f"{value:{'+' if sign else ''}.3f}"


FORMAT = "voco-classification/1"
OVERALL_HEADINGS = ["figure", "value [95 % interval]"]


@dataclass(frozen=True)
class ClassificationEvaluation:
    """A classification that was measured.

    Attributes:
        scored: every case.
        summary: the figures.
        failed: cases that could not be classified, and why.
        provenance: whose predictions they are; None where nothing is known of that.
    """

    scored: ScoredCases
    summary: ClassificationSummary
    failed: tuple[tuple[str, str], ...] = ()
    provenance: Provenance | None = None


@dataclass(frozen=True)
class StoredClassification:
    """The evaluation of a classification as its folder holds it.

    Attributes:
        folder: where it lies.
        table: every case.
        failed: cases that could not be measured.
        split: of the run whose predictions they are.
        leakage: what was known of cases that were seen in training; none where nobody looked.
    """

    folder: Path
    table: ScoredCases
    failed: tuple[str, ...]
    split: str | None = None
    leakage: Mapping[str, Any] | None = None


def write_classification(evaluation: ClassificationEvaluation, folder: Path) -> list[Path]:
    """Write the three files, each whole or not at all; summary.json, which vouches for cases.csv, comes last.

    Raises:
        ResourceError: the disk is full.
    """
    cases = cases_csv(evaluation.scored).encode()
    found = {**classification_object(evaluation), "cases_csv_sha256": hashlib.sha256(cases).hexdigest()}
    contents = {
        CASES: cases,
        TABLE: visible(table_text(evaluation)).encode(),
        SUMMARY: json.dumps(found, indent=2, allow_nan=False).encode() + b"\n",
    }
    for name, content in contents.items():
        write_atomic(folder / name, content)
    return [folder / name for name in contents]


def cases_csv(scored: ScoredCases) -> str:
    """One line a case: case, patient, category, predicted, and ``p_<category>`` for each category."""
    names = scored.categories
    rows = [["case", "patient", "category", "predicted", *(f"p_{name}" for name in names)]]
    predicted = scored.predicted
    for n, case in enumerate(scored.cases):
        row = [case, scored.patients[n], names[scored.truth_N[n]], names[predicted[n]]]
        rows.append([*row, *(f"{probability:.10g}" for probability in scored.probabilities_NK[n])])
    return csv_text(rows)


def parse_cases_csv(text: str) -> ScoredCases:
    """The cases that `cases_csv` wrote.

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


def read_classification(folder: Path) -> StoredClassification:
    """Read what `write_classification` wrote.

    Raises:
        DataError: a file that is missing or damaged, or two files of different evaluations.
        UsageError: another format.
    """
    return stored_classification(folder, *read_vouched(folder, (FORMAT,)))


def stored_classification(folder: Path, summary: Mapping[str, Any], cases: str) -> StoredClassification:
    """The evaluation that summary.json and cases.csv hold.

    Raises:
        DataError: their content makes no sense.
    """
    try:
        return StoredClassification(
            folder=folder,
            table=parse_cases_csv(cases),
            failed=tuple(one["case"] for one in summary["failed"]),
            split=summary.get("split"),
            leakage=summary.get("leakage"),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise damaged(folder, error) from error


def classification_object(evaluation: ClassificationEvaluation) -> dict[str, Any]:
    """All but the single cases, as summary.json holds it; NaN becomes null."""
    summary, provenance = evaluation.summary, evaluation.provenance
    found = {
        "format": FORMAT,
        "version": __version__,
        **(provenance.about() if provenance else {}),
        "cases": summary.cases,
        "patients": summary.patients,
        "interval": {"level": 0.95, "resamples": summary.resamples, "seed": summary.seed, "resampled_by": "patient"},
        "overall": {name: asdict(one) for name, one in summary.overall.items()},
        "categories": [asdict(one) for one in summary.categories],
        "confusion": {
            "rows": "true category",
            "columns": "predicted category",
            "names": [one.name for one in summary.categories],
            "cases": summary.confusion_KK.tolist(),
        },
        "failed": [{"case": case, "reason": reason} for case, reason in evaluation.failed],
    }
    return dict(without_nan(found))


def table_text(evaluation: ClassificationEvaluation) -> str:
    """The Markdown page: figures, categories, confusion, and what they are."""
    summary = evaluation.summary
    names = [one.name for one in summary.categories]
    matrix = [
        [f"{name} (true)", *map(str, row)] for name, row in zip(names, summary.confusion_KK.tolist(), strict=True)
    ]
    parts = [
        markdown(OVERALL_HEADINGS, overall_rows(summary)),
        markdown(category_headings(), category_rows(summary)),
        markdown(["", *(f"{name} (predicted)" for name in names)], matrix),
        "\n".join(statements(evaluation)) + "\n",
    ]
    return "\n".join(parts)


def overall_rows(summary: ClassificationSummary) -> list[list[str]]:
    """Cells for a table of the figures over all categories."""
    return [[TITLES[name], estimate_words(summary.overall[name])] for name in OVERALL_METRICS]


def category_headings(metrics: Sequence[str] = CATEGORY_METRICS) -> list[str]:
    """Headings of `category_rows`."""
    return ["category", "cases", "predicted", *(TITLES[name] for name in metrics)]


def category_rows(summary: ClassificationSummary, metrics: Sequence[str] = CATEGORY_METRICS) -> list[list[str]]:
    """Cells for a table of the categories, each against all others."""
    return [
        [one.name, str(one.cases), str(one.predicted), *(estimate_words(one.metrics[name]) for name in metrics)]
        for one in summary.categories
    ]


def estimate_words(one: Estimate) -> str:
    """``0.812 [0.700, 0.910]``; a dash where the figure is not defined."""
    if math.isnan(one.value):
        return NONE
    return f"{one.value:.3f}" + ("" if math.isnan(one.low) else f" [{one.low:.3f}, {one.high:.3f}]")


def statements(evaluation: ClassificationEvaluation) -> list[str]:
    """What a table must say of itself, one line each."""
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
    return [*lines, *(evaluation.provenance.lines() if evaluation.provenance else ())]
