"""One question over several tasks: a study of each, then overview.json, overview.md and overview.png."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from voco_cli import __version__
from voco_cli.atomic_files import write_atomic
from voco_cli.errors import DataError, Interrupted, ResourceError, VocoError
from voco_cli.evaluate.tables import figure, markdown, p_value, with_interval, without_nan
from voco_cli.figures.study_overview import draw_overview
from voco_cli.foreign_text import visible
from voco_cli.study.analysis import verdict
from voco_cli.study.overview import Overview, overview
from voco_cli.workflows.study import StudyResult

FORMAT = "voco-study-overview/1"
FILE, TABLE, PICTURE = "overview.json", "overview.md", "overview.png"


@dataclass(frozen=True)
class OverviewResult:
    """How several studies ended.

    Attributes:
        studies: by task.
        left_out: tasks without a result, with the reason.
        found: what they say together.
        wrote: the files.
    """

    studies: Mapping[str, StudyResult]
    left_out: tuple[tuple[str, str], ...]
    found: Overview
    wrote: tuple[Path, ...]


def run_studies(folder: Path, tasks: Sequence[str], run: Callable[[str], StudyResult]) -> OverviewResult:
    """Run the study of each task, and put their outcomes into one table and one picture after each.

    A task whose data are not there, or whose study cannot be run, is named and left out.

    Args:
        folder: of the overview.
        run: runs the study of a task.
    Raises:
        DataError: no task has a result.
        ResourceError, Interrupted: as `run_study`; the same call goes on.
    """
    studies: dict[str, StudyResult] = {}
    left_out: list[tuple[str, str]] = []
    result = None
    for task in tasks:
        try:
            studies[task] = run(task)
        except (ResourceError, Interrupted):
            raise
        except VocoError as error:
            left_out.append((task, error.message))
            continue
        result = _publish(folder, studies, left_out)
    if result is None:
        raise DataError(f"No task has a result: {'; '.join(f'{task}: {reason}' for task, reason in left_out)}")
    return _publish(folder, studies, left_out)


def _publish(folder: Path, studies: Mapping[str, StudyResult], left_out: Sequence[tuple[str, str]]) -> OverviewResult:
    outcomes = {task: one.outcome.found for task, one in studies.items()}
    found = overview({task: one for task, one in outcomes.items() if one is not None})
    held = {
        "format": FORMAT,
        "version": __version__,
        "tasks": {task: str(one.wrote[0].parent.relative_to(folder)) for task, one in studies.items()},
        "left_out": [{"task": task, "reason": reason} for task, reason in left_out],
        "standings": [asdict(one) for one in found.standings],
        "friedman_p": found.p,
    }
    text = json.dumps(without_nan(held), indent=2, allow_nan=False)
    write_atomic(folder / FILE, text.encode() + b"\n")
    write_atomic(folder / TABLE, visible(_markdown(found, left_out)).encode())
    write_atomic(folder / PICTURE, draw_overview(found))
    wrote = tuple(folder / name for name in (FILE, TABLE, PICTURE))
    return OverviewResult(dict(studies), tuple(left_out), found, wrote)


def standing_headings() -> list[str]:
    """Return the headings of `standing_rows`."""
    return ["weights", "mean rank", "of", "shown higher", "shown lower"]


def standing_rows(found: Overview) -> list[list[str]]:
    """Return a row for each arm that all tasks have."""
    return [[one.arm, figure(one.rank, 2), str(one.blocks), str(one.higher), str(one.lower)] for one in found.standings]


def task_rows(found: Overview) -> list[list[str]]:
    """Return a row for each task, number of labelled cases and arm: task, cases, arm, score, difference, shown."""
    rows = []
    for task, study in found.studies.items():
        gains = {(one.run, one.labelled): one for one in study.gains}
        for one in study.scores:
            gain = gains.get((one.arm, one.labelled))
            cells = ["", ""]
            if gain is not None:
                cells = [with_interval(gain.difference, gain.low, gain.high, sign=True), verdict(gain)]
            rows.append([task, str(one.labelled), one.arm, figure(one.mean), *cells])
    return rows


def overview_statements(found: Overview, left_out: Sequence[tuple[str, str]]) -> list[str]:
    """Return what the tables must say of themselves, one line each."""
    lines = [
        "A rank is of the mean score over seeds, for each task and number of labelled cases; 1 is the best, and ties "
        "share. Only arms that every task has are ranked.",
        "Shown: how often a difference from none has a 95 % interval without 0 and p (Holm, within its task) below "
        "0.05; the tables of each study have the numbers.",
    ]
    if not math.isnan(found.p):
        lines.append(
            f"Friedman's test that all arms rank alike: p {p_value(found.p)}; it takes numbers of cases of one task as "
            "independent, which they are not quite."
        )
    return [*lines, *(f"Left out: {task}: {reason}" for task, reason in left_out)]


def _markdown(found: Overview, left_out: Sequence[tuple[str, str]]) -> str:
    parts = [
        "# Overview of all tasks\n",
        f"![paired differences by task]({PICTURE})\n",
        markdown(standing_headings(), standing_rows(found)),
        "## By task\n",
        markdown(["task", "labelled cases", "weights", "score", "difference [95 %]", "shown"], task_rows(found)),
        "## How to read this\n",
        *(f"- {line}" for line in overview_statements(found, left_out)),
    ]
    return "\n".join(parts) + "\n"
