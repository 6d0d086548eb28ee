"""A fine-tuning run, with the evaluations in its folder, as a section of a report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from voco_cli.config import read_saved
from voco_cli.document.blocks import Block, PagePart, PageSection, Sentence
from voco_cli.errors import DataError, VocoError
from voco_cli.evaluate.read_results import RUN_SPLITS, Stored, read_results
from voco_cli.evaluate.result_files import SUMMARY
from voco_cli.report.case_pictures import case_pictures
from voco_cli.report.curves import finetuning_charts, shown_charts
from voco_cli.report.run_record import SETTINGS, RunRecord, ran_with, read_object, status_of, when_of
from voco_cli.report.shared_parts import data_part, settings_part, starting_weights
from voco_cli.tasks.targets import target_of


@dataclass(frozen=True)
class Evaluations:
    """All that was measured of a run.

    Attributes:
        measured: test before validation.
        faults: what is wrong with those that cannot be read, one sentence each.
    """

    measured: tuple[Stored, ...] = ()
    faults: tuple[str, ...] = ()


def read_evaluations(run: Path) -> Evaluations:
    """Read the evaluations that lie in a run folder."""
    found: list[Stored] = []
    faults = []
    for split in RUN_SPLITS:
        folder = run / "evaluation" / split
        if not (folder / SUMMARY).is_file():
            continue
        try:
            stored = read_results(folder)
            if not stored.table.cases:
                raise DataError(f"{folder} holds no case.")
            found.append(stored)
        except VocoError as error:
            faults.append(error.message)
    return Evaluations(tuple(found), tuple(faults))


def finetuning_section(anchor: str, run: RunRecord, evaluations: Evaluations) -> PageSection:
    """Return everything about one run; what is missing is said where it would stand."""
    found = evaluations.measured
    status, tone, standing = status_of(run)
    parts = [
        *_evaluations(run, evaluations),
        PagePart("curves", "Curves", [shown_charts(finetuning_charts(run.metrics))]),
        PagePart("weights", "Weights", [starting_weights(run), *_chosen(run)]),
        data_part(run),
        settings_part(run),
        PagePart("about", "Machine and versions", [standing, ran_with(run)]),
    ]
    result = found[0].headline() if found else "not evaluated"
    kind = str(run.settings.get("task.kind", ""))
    finished = bool(found) and status == "done"
    return PageSection(
        anchor=anchor,
        title=run.name,
        kind=f"fine-tuning, {kind}" if kind else "fine-tuning",
        parts=parts,
        status=status,
        tone=tone,
        lead=f"{result[0].upper()}{result[1:]}." if finished else standing.text,
        lead_tone="plain" if finished else standing.tone,
        result=result,
        place=str(run.path),
        when=when_of(run),
    )


def _evaluations(run: RunRecord, evaluations: Evaluations) -> list[PagePart]:
    """Return a part for each split that was measured; of a segmentation cases of the first are shown."""
    found, faults = evaluations.measured, [Sentence(fault, "bad") for fault in evaluations.faults]
    if not found:
        words = faults or [Sentence(f"It was not evaluated yet: voco evaluate {run.path}", "warning")]
        return [PagePart("evaluation", "Evaluation", words)]
    parts = [PagePart(one.folder.name, f"Evaluation on the {one.folder.name} split", one.blocks()) for one in found]
    first = found[0]
    parts[0] = replace(parts[0], blocks=[*faults, *parts[0].blocks])
    pictures = _pictures(run, first)
    if pictures:
        parts.insert(1, PagePart(f"{first.folder.name}-pictures", "Best, median and worst case", pictures))
    return parts


def _pictures(run: RunRecord, stored: Stored) -> list[Block]:
    """Return cases as pictures; nothing where the task has no label maps."""
    try:
        settings = read_saved(run.path / SETTINGS)
    except VocoError as error:
        return [Sentence(f"The cases cannot be shown: {error.message}", "warning")]
    return case_pictures(run, settings, stored) if target_of(settings.task).is_label_map else []


def _chosen(run: RunRecord) -> list[Block]:
    """Return whose weights were kept."""
    about: Mapping[str, Any] = read_object(run.path / "weights" / "model.json")
    if about.get("chosen"):
        return [Sentence(f"Kept are the {about['chosen']}.")]
    if about.get("step") is not None:
        return [Sentence(f"The weights are those of step {about['step']} of a run that is not finished.", "warning")]
    return [Sentence("No weights have been written yet.", "warning")]
