"""Results as text: CSV, JSON-ready objects, and tables for a terminal or a paper."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from voco_cli.csv_text import csv_records, csv_text
from voco_cli.evaluation.comparison import OVERALL, CaseChange, Comparison, Difference
from voco_cli.evaluation.measures import METRICS, State, Structure
from voco_cli.evaluation.patient_numbers import numbered
from voco_cli.evaluation.results import ResultTable
from voco_cli.evaluation.summary import MetricSummary, Summary
from voco_cli.foreign_text import one_line, quoted, shortened

COLUMNS = ("case", "patient", "structure", "labels", "kind", "state", "reference_ml", "prediction_ml", *METRICS)
UNITS = {"hd95_mm": "mm", "asd_mm": "mm"}
NONE = "-"


def metric_title(metric: str, tolerance_mm: float) -> str:
    """What a table calls a metric."""
    titles = {
        "dice": "Dice",
        "iou": "IoU",
        "nsd": f"NSD {tolerance_mm:g} mm",
        "hd95_mm": "HD95 (mm)",
        "asd_mm": "ASD (mm)",
    }
    return titles[metric]


def cases_csv(table: ResultTable) -> str:
    """One line for each case and structure; a value that the rule leaves out is empty."""
    rows: list[Sequence[str]] = [COLUMNS]
    for n, case in enumerate(table.cases):
        for c, one in enumerate(table.structures):
            kind = "region" if one.is_region else "class"
            labels = "+".join(map(str, one.labels))
            numbers = [*table.volumes_NC2[n, c], *table.values_NCM[n, c]]
            cells = ["" if math.isnan(number) else f"{number:.10g}" for number in numbers]
            rows.append([case, table.patients[n], one.name, labels, kind, table.states[n][c], *cells])
    return csv_text(rows)


def parse_cases_csv(text: str) -> ResultTable:
    """The table that `cases_csv` wrote.

    Raises:
        ValueError: as `csv_records`; other columns, a state or number that is none, a case that lacks a structure, or
            a line twice.
    """
    columns, records = csv_records(text)
    if tuple(columns) != COLUMNS:
        raise ValueError(f"columns are {shortened(', '.join(columns))}, and not {', '.join(COLUMNS)}")
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
        values_NCM=numbers(METRICS),
        states=tuple(tuple(_state(row["state"]) for row in line) for line in ordered),
        volumes_NC2=numbers(("reference_ml", "prediction_ml")),
    )


def summary_object(summary: Summary) -> dict[str, Any]:
    """A summary as JSON holds it; NaN becomes null."""
    classes = []
    for one in summary.structures:
        raw = asdict(one)
        classes.append({**raw.pop("structure"), **raw})
    found = {"cases": summary.cases, "patients": summary.patients, "structures": classes}
    return dict(without_nan({**found, "mean_over_classes": {name: asdict(m) for name, m in summary.overall.items()}}))


def comparison_object(comparison: Comparison, most_changes: int) -> dict[str, Any]:
    """A comparison as JSON holds it, with the largest changes of each metric."""
    changes = {
        metric: [{**asdict(one), "change": one.change} for one in found[:most_changes]]
        for metric, found in comparison.changes.items()
    }
    found = {
        "runs": comparison.runs,
        "cases": comparison.cases,
        "patients": comparison.patients,
        "differences": [asdict(one) for one in comparison.differences],
        "largest_changes": changes,
    }
    return dict(without_nan(found))


def without_nan(value: Any) -> Any:
    """The same object with null for numbers that are not finite, which JSON does not know."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def summary_rows(summary: Summary, metrics: Sequence[str] = METRICS) -> list[list[str]]:
    """Cells for a table: name, cases, missed, phantom, then ``mean ± sd [interval]``; the mean over classes last."""
    rows = []
    for one in summary.structures:
        name = f"{one.structure.name} (region)" if one.structure.is_region else one.structure.name
        counts = [str(one.present + one.missed), str(one.missed), str(one.phantom)]
        rows.append([name, *counts, *(_with_interval(one.metrics[metric], metric) for metric in metrics)])
    overall = (_with_interval(summary.overall[metric], metric) for metric in metrics)
    return [*rows, [OVERALL, "", "", "", *overall]]


def summary_headings(tolerance_mm: float, metrics: Sequence[str] = METRICS) -> list[str]:
    """Headings of `summary_rows`."""
    return ["structure", "cases", "missed", "phantom", *(metric_title(metric, tolerance_mm) for metric in metrics)]


def difference_rows(differences: Sequence[Difference]) -> list[list[str]]:
    """Cells for a table of one metric's differences."""
    return [
        [
            one.run,
            one.structure,
            str(one.cases) + (f" (+{one.unpaired} unpaired)" if one.unpaired else ""),
            number(one.first_mean, one.metric),
            number(one.mean, one.metric),
            f"{number(one.difference, one.metric, sign=True)} {_interval(one.low, one.high, one.metric, sign=True)}",
            p_value(one.p),
            p_value(one.p_holm) if one.structure != OVERALL else NONE,
            NONE if math.isnan(one.effect) else f"{one.effect:+.2f}",
        ]
        for one in differences
    ]


def difference_headings(first: str) -> list[str]:
    """Headings of `difference_rows`."""
    return ["run", "structure", "cases", first, "run's", "difference [95 %]", "p", "p (Holm)", "effect"]


def change_rows(changes: Sequence[CaseChange]) -> list[list[str]]:
    """Cells for a table of the cases that changed most."""
    return [
        [
            one.run,
            one.case,
            one.structure,
            number(one.first, one.metric),
            number(one.value, one.metric),
            number(one.change, one.metric, sign=True),
        ]
        for one in changes
    ]


def markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; numbers to the right, the first column to the left."""
    rules = ["---", *["---:"] * (len(headings) - 1)]
    lines = [headings, rules, *rows]
    escaped = ([one_line(cell).replace("|", "\\|") for cell in line] for line in lines)
    return "".join(f"| {' | '.join(line)} |\n" for line in escaped)


def number(value: float, metric: str, sign: bool = False) -> str:
    """A value with the digits that its metric deserves."""
    if math.isnan(value):
        return NONE
    digits = 2 if metric in UNITS else 3
    return f"{value:{'+' if sign else ''}.{digits}f}"


def p_value(p: float) -> str:
    """A p value as papers print it."""
    if math.isnan(p):
        return NONE
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _with_interval(one: MetricSummary, metric: str) -> str:
    if not one.n:
        return NONE
    deviation = "" if math.isnan(one.sd) else f" ± {number(one.sd, metric)}"
    return f"{number(one.mean, metric)}{deviation} {_interval(one.low, one.high, metric)}".rstrip()


def _interval(low: float, high: float, metric: str, sign: bool = False) -> str:
    if math.isnan(low):
        return ""
    return f"[{number(low, metric, sign)}, {number(high, metric, sign)}]"


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
    for state in ("both", "missed", "phantom", "absent"):
        if word == state:
            return state
    raise ValueError(f"{quoted(word)} is no state of a structure")
