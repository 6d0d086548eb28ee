"""Evaluations of whichever kind, as their folders hold them and where they lie in runs."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from voco_cli.errors import DataError, UsageError
from voco_cli.evaluate.classification.results import ClassificationEvaluation
from voco_cli.evaluate.result_files import SUMMARY, EvaluationResult, load_results
from voco_cli.evaluate.segmentation.results import Evaluation

RUN_SETTINGS, RUN_SPLITS = "settings.yaml", ("test", "validation")
"""What a run has and an evaluation has not, and where in a run evaluations lie: ``evaluation/<split>``."""
Stored = EvaluationResult[Any]
EVALUATIONS: tuple[type[Stored], ...] = (Evaluation, ClassificationEvaluation)
"""One for each kind of task."""


def read_results(folder: Path) -> Stored:
    """Read what the evaluation of a task of any kind wrote.

    Raises:
        DataError: a file that is missing or damaged, or two files of different evaluations.
        UsageError: another format.
    """
    formats = {one.format: one for one in EVALUATIONS}
    summary, cases = load_results(folder, *formats)
    return formats[summary["format"]].from_files(folder, summary, cases)


def evaluation_folders(given: Sequence[Path], split: str | None = None) -> list[Path]:
    """Return the folders of evaluations that are named by themselves or by the runs that they belong to.

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
        flag = f" --split {split}" if split else ""
        raise UsageError(f"{lacking[0]} was not evaluated{on}.", f"voco evaluate {shlex.quote(str(lacking[0]))}{flag}")
    common = next((name for name in wanted if all(name in names for names in there.values())), None)
    if common is None:
        words = " and ".join(f"{run} on {' and '.join(names)}" for run, names in there.items())
        raise UsageError(f"The runs were evaluated on different splits: {words}.", "voco evaluate RUN --split test")
    return [folder / "evaluation" / common if folder in there else folder for folder in given]


def _is_pretraining(run: Path) -> bool:
    """Return True where the saved settings of a run name no task."""
    saved = yaml.safe_load((run / RUN_SETTINGS).read_text())
    settings = saved.get("settings") if isinstance(saved, dict) else None
    return isinstance(settings, dict) and (settings.get("task") or {}).get("preset") is None


def _require_folder(folder: Path) -> None:
    if not folder.exists():
        raise DataError(f"{folder} does not exist.", "give folders that voco evaluate wrote, or runs of voco finetune")
    if not folder.is_dir():
        raise UsageError(f"{folder} is a file, not the folder of an evaluation.", "give the folder")
