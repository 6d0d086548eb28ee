"""A study of label efficiency, finished or not, as a section of a report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from voco_cli.document.blocks import (
    Block,
    Bullets,
    Column,
    Facts,
    PagePart,
    PageSection,
    Picture,
    Sentence,
    Table,
    Tone,
    Value,
)
from voco_cli.errors import DataError, VocoError
from voco_cli.evaluate.metric import DisplayText
from voco_cli.evaluate.tables import from_json
from voco_cli.report.run_record import STUDY, read_object
from voco_cli.report.shared_parts import embed, settings_table
from voco_cli.study.analysis import ArmScore, LabelEfficiency, gain_from_object, verdict
from voco_cli.study.arms import BASELINE
from voco_cli.study.costs import COST_HEADINGS, arm_costs, cost_note, cost_rows
from voco_cli.study.record import StudyRecord, read_record
from voco_cli.workflows.study_outcome import (
    PICTURE,
    conclusion,
    seed_headings,
    seed_rows,
    structure_headings,
    structure_rows,
    study_headings,
    study_rows,
)

NAMES = {"dice": ("Dice", "class", "classes"), "auc": ("AUC", "category", "categories")}
"""What a study is measured by, and what that can be taken of alone."""
WIDEST_PX = 1400


def study_section(anchor: str, path: Path, name: str) -> PageSection:
    """Return all of a study, finished or not.

    Raises:
        DataError: study.json is damaged.
        UsageError: it is of another format.
    """
    record, held = read_record(path), read_object(path / STUDY)
    if record is None:
        raise DataError(f"{path / STUDY} is not there any more.")
    try:
        found = _found(held)
        statements = tuple(map(str, held.get("statements", ())))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{path / STUDY} is damaged: {error!r}.", "the same voco study command writes it again"
        ) from error
    said = [str(one) for one in held.get("conclusions", ())]
    lead = _lead(found) if found is not None else ""
    words, tone = _standing(record)
    parts = [
        PagePart("follows", "What follows", _follows(path, found, said)),
        *_tables(found),
        *_costs(record),
        PagePart("read", "How to read this", [Bullets(statements)]),
        PagePart("runs", "Every run", [_runs(record)]),
        PagePart("settings", "Settings that all runs share", [_settings(record)]),
        PagePart("about", "About", [_about(path, record, held)]),
    ]
    return PageSection(
        anchor=anchor,
        title=name,
        kind="study",
        parts=parts,
        status=words,
        tone=tone,
        lead=lead or "No pair of runs is finished yet, so nothing follows.",
        lead_tone="plain" if lead else "warning",
        result=lead or "nothing yet",
        place=str(path),
    )


def _found(held: Mapping[str, Any]) -> LabelEfficiency | None:
    """Return what the finished runs said when study.json was written."""
    if not held.get("scores"):
        return None
    metric, part, parts = NAMES[held["metric"]]
    return LabelEfficiency(
        baseline=BASELINE,
        text=DisplayText(metric, part, parts),
        cases=held["measured_on"]["cases"],
        patients=held["measured_on"]["patients"],
        scores=tuple(from_json(ArmScore, one) for one in held["scores"]),
        gains=tuple(map(gain_from_object, held["differences"])),
        by_structure=tuple(map(gain_from_object, held["differences_by_structure"])),
    )


def _lead(found: LabelEfficiency) -> str:
    """Return what follows with the most labelled cases, in one sentence over all arms."""
    most = max((one.labelled for one in found.gains), default=0)
    gains = [one for one in found.gains if one.labelled == most]
    if len(gains) < 2:
        return conclusion(gains[0], found.baseline) if gains else ""
    arms: dict[str, list[str]] = {}
    for one in sorted(gains, key=lambda one: -one.difference):
        arms.setdefault(verdict(one), []).append(one.run)
    told = "; ".join(f"{shown}: {', '.join(names)}" for shown, names in arms.items())
    return f"{most} labelled cases, beside {found.baseline}: {told}."


def _standing(record: StudyRecord) -> tuple[str, Tone]:
    counts = Counter(run.status for run in record.runs.values())
    if counts["failed"]:
        return f"{counts['failed']} of {len(record.runs)} runs failed", "bad"
    waiting = counts["waiting"] + counts["started"] + counts["interrupted"]
    if waiting:
        return f"{waiting} of {len(record.runs)} runs not finished", "warning"
    return "done", "good"


def _follows(path: Path, found: LabelEfficiency | None, conclusions: Sequence[str]) -> list[Block]:
    if found is None:
        return [Sentence("No run is finished yet.", "warning")]
    blocks: list[Block] = [Bullets(tuple(conclusions))] if conclusions else []
    try:
        picture = embed((path / PICTURE).read_bytes(), PICTURE, WIDEST_PX, drawing=True)
    except OSError:
        return [*blocks, Sentence(f"{PICTURE} is not in the folder any more.", "warning")]
    except VocoError as error:
        return [*blocks, Sentence(error.message, "warning")]
    metric = found.text.metric
    alt = (
        f"{metric} of {', '.join(found.arms)} by number of labelled cases, with intervals; the tables have the numbers."
    )
    return [*blocks, Picture(picture, alt, f"{metric} by number of labelled cases.")]


def _tables(found: LabelEfficiency | None) -> list[PagePart]:
    if found is None:
        return []
    metric, part = found.text.metric, found.text.part
    headings = study_headings(found)
    # What follows stands beside the difference that it follows from, whatever the width of the screen.
    order = sorted(range(len(headings)), key=lambda i: 4.5 if headings[i] == "shown" else i)
    of_sizes = Table.of(
        f"{metric} by number of labelled cases",
        [headings[i] for i in order],
        [[row[i] for i in order] for row in study_rows(found)],
        names=2,
        anchor="sizes",
    )
    parts = [PagePart("table", "By number of labelled cases", [of_sizes])]
    if found.by_structure:
        headings, rows = structure_headings(found), structure_rows(found)
        largest = "; ".join(dict.fromkeys(f"{one.run} with {one.labelled}" for one in found.by_structure))
        caption = f"By {part}, with the most labelled cases ({largest})"
        of_parts = Table.of(caption, headings, rows, names=len(headings) - 5, anchor="structures")
        parts.append(PagePart("parts", f"By {part}", [of_parts]))
    of_seeds = Table.of(f"{metric} of every seed", seed_headings(found), seed_rows(found), names=2, anchor="seeds")
    return [*parts, PagePart("every", "Every seed", [of_seeds])]


def _costs(record: StudyRecord) -> list[PagePart]:
    """Return the table of costs, where the study has pre-trained something."""
    costs = arm_costs(record)
    if not record.pretrainings:
        return []
    table = Table.of("Cost of one run of each", COST_HEADINGS, cost_rows(costs), names=2, anchor="costs")
    return [PagePart("cost", "What each cost", [table, Sentence(cost_note(costs))])]


def _runs(record: StudyRecord) -> Table:
    """Return a table of one row a run, with what became of it."""
    columns = [
        *map(Column, ("labelled cases", "weights")),
        Column("seed", True),
        Column("status"),
        Column("score", True, ".3f"),
        Column("minutes", True, ".1f"),
        *map(Column, ("folder", "weights measured, or why it failed")),
    ]
    runs = record.in_order()
    rows: list[list[Value]] = []
    for run in runs:
        minutes = None if run.took_s is None else run.took_s / 60
        words = [run.folder, run.reason or run.how_chosen or ""]
        rows.append([run.cases, run.arm, run.seed, run.status, run.score, minutes, *words])
    failed = [n for n, run in enumerate(runs) if run.status == "failed"]
    caption = "Runs; each is a folder that voco report shows in full"
    return Table.of(caption, columns, rows, names=2, marked=failed, anchor="table")


def _settings(record: StudyRecord) -> Table:
    words = f"{len(record.settings)} settings that all runs share"
    return settings_table(words, record.settings, anchor="shared", folded=words)


def _about(path: Path, record: StudyRecord, held: Mapping[str, Any]) -> Facts:
    arms = [(f"weights: {name}", arm.weights or arm.objective or "fresh") for name, arm in record.arms.items()]
    about = (
        ("folder", str(path)),
        ("task", record.task),
        ("split", record.split),
        ("voco", str(held.get("version", ""))),
    )
    return Facts((*about, *arms))
