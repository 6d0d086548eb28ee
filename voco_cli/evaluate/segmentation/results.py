"""The folder that an evaluation leaves: cases.csv, summary.json, table.md; and reading it again."""

from __future__ import annotations

import hashlib
import json
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from voco_cli import __version__
from voco_cli.atomic_files import write_atomic
from voco_cli.csv_text import csv_records, csv_text
from voco_cli.data.index.patients import numbered
from voco_cli.errors import DataError, UsageError
from voco_cli.evaluate.result_files import CASES, SUMMARY, TABLE, Provenance, damaged, read_vouched
from voco_cli.evaluate.segmentation.compare import OVERALL, CaseChange, Comparison, Difference
from voco_cli.evaluate.segmentation.evaluate import Evaluation
from voco_cli.evaluate.segmentation.metrics import METRICS, State, Structure
from voco_cli.evaluate.segmentation.table import MetricSummary, ResultTable, Summary
from voco_cli.foreign_text import one_line, quoted, shortened, visible

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


FORMAT = "voco-evaluation/1"
RUN_SETTINGS, RUN_SPLITS = "settings.yaml", ("test", "validation")
"""How a run is told from an evaluation, and where in it evaluations lie: ``evaluation/<split>``."""
SPACE = "each scan's own grid, nothing resampled"


@dataclass(frozen=True)
class StoredEvaluation:
    """An evaluation as its folder holds it.

    Attributes:
        folder: where it lies.
        table: every case.
        tolerance_mm: of the normalised surface Dice, mm.
        rule: name of the rule for empty structures.
        failed: cases that could not be measured.
        split: of the run whose predictions they are; none where they came as a folder.
        leakage: what was known of cases that were seen in training; none where nobody looked.
    """

    folder: Path
    table: ResultTable
    tolerance_mm: float
    rule: str
    failed: tuple[str, ...]
    split: str | None = None
    leakage: Mapping[str, Any] | None = None


def evaluation_object(
    evaluation: Evaluation, predictions: str, labels: str, provenance: Provenance | None = None
) -> dict[str, Any]:
    """All but the single cases, as summary.json holds it."""
    options = evaluation.options
    return {
        "format": FORMAT,
        "version": __version__,
        "predictions": predictions,
        "labels": labels,
        **(provenance.about() if provenance else {}),
        "space": SPACE,
        "tolerance_mm": options.tolerance_mm,
        **({} if options.ignore_label is None else {"ignored_label": options.ignore_label}),
        "empty_rule": {"name": options.rule.name, "meaning": options.rule.sentence()},
        "interval": {"level": 0.95, "resamples": options.resamples, "seed": options.seed, "resampled_by": "patient"},
        **summary_object(evaluation.summary),
        "failed": [{"case": case, "reason": reason} for case, reason in evaluation.failed],
        "unpredicted": list(evaluation.unpredicted),
        "unlisted_labels": {str(label): cases for label, cases in evaluation.unlisted.items()},
        "notes": list(evaluation.notes),
    }


def statements(evaluation: Evaluation, provenance: Provenance | None = None) -> list[str]:
    """What a table must say of itself, one line each."""
    summary, options = evaluation.summary, evaluation.options
    missed = sum(one.missed for one in summary.structures)
    phantom = sum(one.phantom for one in summary.structures)
    lines = [
        f"{summary.cases} cases of {summary.patients} patients, in {SPACE}.",
        f"Mean ± standard deviation over cases [bootstrap 95 % interval of the mean, {options.resamples} resamples "
        "by patient]; the last row is the mean of the classes' means.",
        f"Missed structures: {missed}, phantom structures: {phantom}. "
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
        lines.append(f"Labels without a prediction, not counted: {_some(evaluation.unpredicted)}.")
    if evaluation.unlisted:
        values = (f"{label} ({cases} cases)" for label, cases in evaluation.unlisted.items())
        lines.append(f"Label values outside the classes, taken as background: {', '.join(values)}.")
    if evaluation.notes:
        lines.append(f"Put right on reading, all in {SUMMARY}: {_some(evaluation.notes)}.")
    return [*lines, *(provenance.lines() if provenance else ())]


def write_evaluation(
    evaluation: Evaluation, folder: Path, predictions: str, labels: str, provenance: Provenance | None = None
) -> list[Path]:
    """Write the three files, each whole or not at all; summary.json, which vouches for cases.csv, comes last.

    Args:
        predictions, labels: where the two came from, for people.
        provenance: of predictions that a run made.
    Raises:
        ResourceError: the disk is full.
    """
    cases = cases_csv(evaluation.table).encode()
    headings = summary_headings(evaluation.options.tolerance_mm)
    lines = [markdown(headings, summary_rows(evaluation.summary)), *statements(evaluation, provenance)]
    found = evaluation_object(evaluation, predictions, labels, provenance)
    found["cases_csv_sha256"] = hashlib.sha256(cases).hexdigest()
    contents = {
        CASES: cases,
        TABLE: visible("\n".join(lines) + "\n").encode(),
        SUMMARY: json.dumps(found, indent=2, allow_nan=False).encode() + b"\n",
    }
    for name, content in contents.items():
        write_atomic(folder / name, content)
    return [folder / name for name in contents]


def read_evaluation(folder: Path) -> StoredEvaluation:
    """Read what `write_evaluation` wrote.

    Raises:
        DataError: a file that is missing or damaged, or two files of different evaluations.
        UsageError: another format.
    """
    return stored_evaluation(folder, *read_vouched(folder, (FORMAT,)))


def stored_evaluation(folder: Path, summary: Mapping[str, Any], cases: str) -> StoredEvaluation:
    """The evaluation that summary.json and cases.csv hold.

    Raises:
        DataError: their content makes no sense.
    """
    try:
        return StoredEvaluation(
            folder=folder,
            table=parse_cases_csv(cases),
            tolerance_mm=float(summary["tolerance_mm"]),
            rule=str(summary["empty_rule"]["name"]),
            failed=tuple(one["case"] for one in summary["failed"]),
            split=summary.get("split"),
            leakage=summary.get("leakage"),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise damaged(folder, error) from error


def evaluation_folders(given: Sequence[Path], split: str | None = None) -> list[Path]:
    """Evaluations that are named by their own folders or by the runs that they belong to.

    Args:
        split: of the runs; none is test where all of them have it, else validation.
    Raises:
        UsageError: a run that was not evaluated on the split, or runs that were evaluated on different ones.
    """
    for folder in given:
        _require_folder(folder)
    runs = [folder for folder in given if not (folder / SUMMARY).is_file() and (folder / RUN_SETTINGS).is_file()]
    there = {run: [name for name in RUN_SPLITS if (run / "evaluation" / name / SUMMARY).is_file()] for run in runs}
    wanted = (split,) if split else RUN_SPLITS
    lacking = [run for run in runs if not set(wanted).intersection(there[run])]
    for run in lacking:
        if _is_pretraining(run):
            raise UsageError(
                f"{run} is a pre-training run, which predicts nothing to compare.",
                f"voco finetune --task TASK --weights {shlex.quote(str(run))}",
            )
    if lacking:
        on = f" on its {split} split" if split else ""
        command = f"voco evaluate {shlex.quote(str(lacking[0]))}"
        raise UsageError(f"{lacking[0]} was not evaluated{on}.", command + _flag(split))
    common = next((name for name in wanted if all(name in names for names in there.values())), None)
    if common is None:
        words = " and ".join(f"{run} on {' and '.join(names)}" for run, names in there.items())
        raise UsageError(f"The runs were evaluated on different splits: {words}.", "voco evaluate RUN --split test")
    return [folder / "evaluation" / common if folder in there else folder for folder in given]


def _is_pretraining(run: Path) -> bool:
    """Whether the saved settings of a run name no task."""
    saved = yaml.safe_load((run / RUN_SETTINGS).read_text())
    settings = saved.get("settings") if isinstance(saved, dict) else None
    return isinstance(settings, dict) and (settings.get("task") or {}).get("preset") is None


def _require_folder(folder: Path) -> None:
    if not folder.exists():
        raise DataError(f"{folder} does not exist.", "give folders that voco evaluate wrote, or runs of voco finetune")
    if not folder.is_dir():
        raise UsageError(f"{folder} is a file, not the folder of an evaluation.", "give the folder")


def _flag(split: str | None) -> str:
    return f" --split {split}" if split else ""


def _some(names: tuple[str, ...], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{len(names)} ({', '.join(names[:most])}{more})"
