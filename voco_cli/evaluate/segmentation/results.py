"""The files of a measured segmentation: cases.csv, summary.json and table.md; and reading them again."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import numpy as np

from voco_cli.csv_text import csv_records, csv_text
from voco_cli.data.index.patients import numbered
from voco_cli.evaluate.result_files import (
    SUMMARY,
    Provenance,
    StoredEvaluation,
    failed_object,
    interval_object,
    load_evaluation,
    load_results,
    summary_head,
    write_results,
)
from voco_cli.evaluate.segmentation.compare import OVERALL
from voco_cli.evaluate.segmentation.evaluate import Evaluation
from voco_cli.evaluate.segmentation.metrics import METRICS, State, Structure, metric_title
from voco_cli.evaluate.segmentation.table import MetricSummary, ResultTable, Summary
from voco_cli.evaluate.tables import NONE, figure, interval, markdown, some, without_nan
from voco_cli.foreign_text import quoted, shortened

FORMAT = "voco-evaluation/1"
COLUMNS = ("case", "patient", "structure", "labels", "kind", "state", "reference_ml", "prediction_ml")
"""Of cases.csv, before those of the metrics."""
SPACE = "each scan's own grid, nothing resampled"


def cases_csv(table: ResultTable) -> str:
    """Return one line for each case and structure; a value that the rule leaves out is empty."""
    rows: list[Sequence[str]] = [(*COLUMNS, *METRICS)]
    for n, case in enumerate(table.cases):
        for c, one in enumerate(table.structures):
            kind = "region" if one.is_region else "class"
            labels = "+".join(map(str, one.labels))
            numbers = [*table.volumes_NC2[n, c], *table.values_NCM[n, c]]
            cells = ["" if math.isnan(number) else f"{number:.10g}" for number in numbers]
            rows.append([case, table.patients[n], one.name, labels, kind, table.states[n][c], *cells])
    return csv_text(rows)


def parse_cases_csv(text: str) -> ResultTable:
    """Return the table that `cases_csv` wrote.

    Raises:
        ValueError: as `csv_records`; other columns, a state or number that is none, a case that lacks a structure, or
            a line twice.
    """
    columns, records = csv_records(text)
    expected = [*COLUMNS, *METRICS]
    if columns != expected:
        raise ValueError(f"columns are {shortened(', '.join(columns))}, and not {', '.join(expected)}")
    structures: dict[Structure, None] = {}
    patients: dict[str, str] = {}
    rows: dict[tuple[str, Structure], dict[str, str]] = {}
    for line, row in records:
        labels = _labels(row["labels"], line)
        structure = Structure(row["structure"], labels, row["kind"] == "region")
        structures[structure] = None
        patients[row["case"]] = row["patient"]
        if (row["case"], structure) in rows:
            raise ValueError(f"case {shortened(row['case'])} has {shortened(structure.name)} twice")
        rows[row["case"], structure] = row
    lacking = next(((case, one.name) for case in patients for one in structures if (case, one) not in rows), None)
    if lacking:
        raise ValueError(f"case {shortened(lacking[0])} lacks {shortened(lacking[1])}")
    ordered = [[rows[case, one] for one in structures] for case in patients]

    def numbers(names: Sequence[str]) -> Any:
        values = [[[_number(row[name]) for name in names] for row in line] for line in ordered]
        return np.array(values, dtype=np.float64).reshape(len(patients), len(structures), len(names))

    return ResultTable(
        cases=tuple(patients),
        patients=numbered(patients.values()),  # an older version wrote their names
        structures=tuple(structures),
        values_NCM=numbers(list(METRICS)),
        states=tuple(tuple(_state(row["state"]) for row in line) for line in ordered),
        volumes_NC2=numbers(("reference_ml", "prediction_ml")),
    )


def summary_object(summary: Summary) -> dict[str, Any]:
    """Return a summary as JSON holds it; NaN becomes null."""
    classes = []
    for one in summary.structures:
        raw = asdict(one)
        classes.append({**raw.pop("structure"), **raw})
    found = {"cases": summary.cases, "patients": summary.patients, "structures": classes}
    return dict(without_nan({**found, "mean_over_classes": {name: asdict(m) for name, m in summary.overall.items()}}))


def summary_rows(summary: Summary, metrics: Iterable[str] = METRICS) -> list[list[str]]:
    """Return cells: name, cases, missed, false positives, then ``mean ± sd [interval]``; the mean over classes last."""
    rows = []
    for one in summary.structures:
        name = f"{one.structure.name} (region)" if one.structure.is_region else one.structure.name
        counts = [str(one.present + one.missed), str(one.missed), str(one.false_positive)]
        rows.append([name, *counts, *(_with_interval(one.metrics[metric], metric) for metric in metrics)])
    overall = (_with_interval(summary.overall[metric], metric) for metric in metrics)
    return [*rows, [OVERALL, "", "", "", *overall]]


def summary_headings(tolerance_mm: float, metrics: Iterable[str] = METRICS) -> list[str]:
    """Return the headings of `summary_rows`."""
    return [
        "structure",
        "cases",
        "missed",
        "false positive",
        *(metric_title(metric, tolerance_mm) for metric in metrics),
    ]


def _with_interval(one: MetricSummary, metric: str) -> str:
    if not one.n:
        return NONE
    digits = METRICS[metric].digits
    deviation = "" if math.isnan(one.sd) else f" ± {figure(one.sd, digits)}"
    return f"{figure(one.mean, digits)}{deviation} {interval(one.low, one.high, digits)}".rstrip()


def _labels(text: str, line: int) -> tuple[int, ...]:
    try:
        return tuple(int(label) for label in text.split("+"))
    except ValueError as error:
        raise ValueError(f"line {line} has the labels {quoted(text)}") from error


def _number(text: str) -> float:
    try:
        return float(text or "nan")
    except ValueError as error:
        raise ValueError(f"{quoted(text)} is no number") from error


def _state(word: str) -> State:
    word = "false_positive" if word == "phantom" else word  # as an older version wrote it
    for state in get_args(State):
        if word == state:
            return word  # type: ignore[return-value]
    raise ValueError(f"{quoted(word)} is no state of a structure")


def evaluation_object(
    evaluation: Evaluation, predictions: str, labels: str, provenance: Provenance | None = None
) -> dict[str, Any]:
    """Return all but the single cases, as summary.json holds it."""
    options = evaluation.options
    return {
        **summary_head(FORMAT, {"predictions": predictions, "labels": labels}, provenance),
        "space": SPACE,
        "tolerance_mm": options.tolerance_mm,
        **({} if options.ignore_label is None else {"ignored_label": options.ignore_label}),
        "empty_rule": {"name": options.rule.name, "meaning": options.rule.sentence()},
        "interval": interval_object(options.resamples, options.seed),
        **summary_object(evaluation.summary),
        "failed": failed_object(evaluation.failed),
        "unpredicted": list(evaluation.unpredicted),
        "unlisted_labels": {str(label): cases for label, cases in evaluation.unlisted.items()},
        "notes": list(evaluation.notes),
    }


def statements(evaluation: Evaluation, provenance: Provenance | None = None) -> list[str]:
    """Return what a table must say of itself, one line each."""
    summary, options = evaluation.summary, evaluation.options
    missed = sum(one.missed for one in summary.structures)
    false_positive = sum(one.false_positive for one in summary.structures)
    lines = [
        f"{summary.cases} cases of {summary.patients} patients, in {SPACE}.",
        f"Mean ± standard deviation over cases [bootstrap 95 % interval of the mean, {options.resamples} resamples "
        "by patient]; the last row is the mean of the classes' means.",
        f"Missed structures: {missed}, false positives: {false_positive}. "
        f"Rule for empty ones ({options.rule.name}): {options.rule.sentence()}.",
    ]
    if options.ignore_label is not None:
        lines.append(
            f"Voxels of label {options.ignore_label} (ignore) are left out of every measure, in label map and "
            "prediction alike."
        )
    if evaluation.failed:
        lines.append(f"Not measured: {', '.join(case for case, _ in evaluation.failed)}.")
    if evaluation.unpredicted:
        lines.append(f"Labels without a prediction, not counted: {some(evaluation.unpredicted)}.")
    if evaluation.unlisted:
        values = (f"{label} ({cases} cases)" for label, cases in evaluation.unlisted.items())
        lines.append(f"Label values outside the classes, taken as background: {', '.join(values)}.")
    if evaluation.notes:
        lines.append(f"Put right on reading, all in {SUMMARY}: {some(evaluation.notes)}.")
    return [*lines, *(provenance.lines() if provenance else ())]


def write_evaluation(
    evaluation: Evaluation, folder: Path, predictions: str, labels: str, provenance: Provenance | None = None
) -> list[Path]:
    """Write cases.csv, table.md and summary.json.

    Args:
        predictions, labels: where the two came from, for people.
        provenance: of predictions that a run made.
    Raises:
        ResourceError: the disk is full.
    """
    table = markdown(summary_headings(evaluation.options.tolerance_mm), summary_rows(evaluation.summary))
    text = "\n".join([table, *statements(evaluation, provenance)]) + "\n"
    summary = evaluation_object(evaluation, predictions, labels, provenance)
    return write_results(folder, cases_csv(evaluation.table), text, summary)


def read_evaluation(folder: Path) -> StoredEvaluation[ResultTable]:
    """Read what `write_evaluation` wrote.

    Raises:
        DataError: a file that is missing or damaged, or two files of different evaluations.
        UsageError: another format.
    """
    return load_evaluation(folder, *load_results(folder, FORMAT), parse_cases_csv)
