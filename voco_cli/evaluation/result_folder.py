"""The folder that an evaluation leaves: cases.csv, summary.json, table.md; and reading it again."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from voco_cli import __version__
from voco_cli.errors import DataError, UsageError
from voco_cli.evaluation.folder import Evaluation
from voco_cli.evaluation.provenance import Provenance
from voco_cli.evaluation.results import ResultTable
from voco_cli.evaluation.tables import (
    cases_csv,
    markdown,
    parse_cases_csv,
    summary_headings,
    summary_object,
    summary_rows,
)
from voco_cli.evaluation.vouched import CASES, SUMMARY, TABLE, damaged, read_vouched
from voco_cli.foreign_text import visible
from voco_cli.whole_files import write_whole

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
        contamination: what was known of cases that were seen in training; none where nobody looked.
    """

    folder: Path
    table: ResultTable
    tolerance_mm: float
    rule: str
    failed: tuple[str, ...]
    split: str | None = None
    contamination: Mapping[str, Any] | None = None


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
        write_whole(folder / name, content)
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
            contamination=summary.get("contamination"),
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
