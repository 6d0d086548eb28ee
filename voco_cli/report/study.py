"""A study as a section of a report: what follows from it, its tables, its picture, and every run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from voco_cli.errors import DataError, VocoError
from voco_cli.evaluation.label_efficiency import ArmScore, Gain, LabelEfficiency
from voco_cli.evaluation.tables import NONE, number
from voco_cli.evaluation.yardsticks import Words
from voco_cli.report.blocks import Block, Bullets, Cell, Column, Facts, Picture, Row, Sentence, Table, Tone
from voco_cli.report.held import made
from voco_cli.report.kinds import STUDY
from voco_cli.report.pictures import embed
from voco_cli.report.rows import cell, text_table
from voco_cli.report.run_record import read_object
from voco_cli.report.sections import Part, Section
from voco_cli.report.settings_part import settings_rows
from voco_cli.study.plan import BASELINE
from voco_cli.study.record import StudyRecord, read_record
from voco_cli.study.tables import (
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


def study_section(anchor: str, path: Path, name: str) -> Section:
    """All of a study, finished or not.

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
    conclusions = [conclusion(one, found.baseline) for one in found.gains] if found else []
    words, tone = _standing(record)
    parts = (
        Part(f"{anchor}-follows", "What follows", tuple(_follows(path, found, conclusions))),
        *_tables(anchor, found),
        Part(f"{anchor}-read", "How to read this", (Bullets(statements),)),
        Part(f"{anchor}-runs", "Every run", (_runs(f"{anchor}-runs-table", record),)),
        Part(f"{anchor}-settings", "Settings that all runs share", (_settings(f"{anchor}-shared", record),)),
        Part(f"{anchor}-about", "About", (_about(path, record, held),)),
    )
    return Section(
        anchor=anchor,
        title=name,
        kind="study",
        parts=parts,
        status=words,
        tone=tone,
        lead=conclusions[-1] if conclusions else "No pair of runs is finished yet, so nothing follows.",
        lead_tone="plain" if conclusions else "warning",
        result=conclusions[-1] if conclusions else "nothing yet",
        place=str(path),
    )


def _found(held: Mapping[str, Any]) -> LabelEfficiency | None:
    """What the finished runs said when study.json was written."""
    if not held.get("scores"):
        return None
    metric, part, parts = NAMES[held["metric"]]
    return LabelEfficiency(
        baseline=BASELINE,
        words=Words(metric, part, parts, score="", paired="", better="", test="", effect=""),
        cases=held["measured_on"]["cases"],
        patients=held["measured_on"]["patients"],
        scores=tuple(made(ArmScore, one) for one in held["scores"]),
        gains=tuple(made(Gain, one) for one in held["differences"]),
        by_structure=tuple(made(Gain, one) for one in held["differences_by_structure"]),
    )


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
    metric = found.words.metric
    alt = (
        f"{metric} of {', '.join(found.arms)} by number of labelled cases, with intervals; the tables have the numbers."
    )
    return [*blocks, Picture(picture, alt, f"{metric} by number of labelled cases.")]


def _tables(anchor: str, found: LabelEfficiency | None) -> list[Part]:
    if found is None:
        return []
    metric, part = found.words.metric, found.words.part
    headings = study_headings(found)
    # What follows stands beside the difference that it follows from, whatever the width of the screen.
    order = sorted(range(len(headings)), key=lambda i: 4.5 if headings[i] == "shown" else i)
    of_sizes = text_table(
        f"{anchor}-sizes",
        f"{metric} by number of labelled cases",
        [headings[i] for i in order],
        [[row[i] for i in order] for row in study_rows(found)],
        names=2,
    )
    parts = [Part(f"{anchor}-table", "By number of labelled cases", (of_sizes,))]
    if found.by_structure:
        headings, rows = structure_headings(found), structure_rows(found)
        largest = "; ".join(dict.fromkeys(f"{one.arm} with {one.labelled}" for one in found.by_structure))
        caption = f"By {part}, with the most labelled cases ({largest})"
        of_parts = text_table(f"{anchor}-structures", caption, headings, rows, names=len(headings) - 5)
        parts.append(Part(f"{anchor}-parts", f"By {part}", (of_parts,)))
    of_seeds = text_table(f"{anchor}-seeds", f"{metric} of every seed", seed_headings(found), seed_rows(found), names=2)
    return [*parts, Part(f"{anchor}-every", "Every seed", (of_seeds,))]


def _runs(anchor: str, record: StudyRecord) -> Table:
    """One row a run, with what became of it."""
    columns = (
        Column("labelled cases"),
        Column("weights"),
        Column("seed", True),
        Column("status"),
        Column("score", True),
        Column("minutes", True),
        Column("folder"),
        Column("weights measured, or why it failed"),
    )
    rows = []
    for run in record.in_order():
        score = Cell(NONE) if run.score is None else Cell(number(run.score, "dice"), run.score)
        minutes = Cell(NONE) if run.took_s is None else Cell(f"{run.took_s / 60:.1f}", run.took_s)
        words = run.reason or run.how_chosen or ""
        first = (cell(run.cases), Cell(run.arm), cell(run.seed), Cell(run.status))
        rows.append(Row((*first, score, minutes, Cell(run.folder), Cell(words)), marked=run.status == "failed"))
    return Table(anchor, "Runs; each is a folder that voco report shows in full", columns, tuple(rows), names=2)


def _settings(anchor: str, record: StudyRecord) -> Table:
    columns = tuple(map(Column, ("setting", "value", "meaning")))
    words = f"{len(record.settings)} settings that all runs share"
    return Table(anchor, words, columns, settings_rows(record.settings), folded=words, searched=True)


def _about(path: Path, record: StudyRecord, held: Mapping[str, Any]) -> Facts:
    arms = [(f"weights: {name}", arm.weights or "fresh") for name, arm in record.arms.items()]
    about = (
        ("folder", str(path)),
        ("task", record.task),
        ("split", record.split),
        ("voco", str(held.get("version", ""))),
    )
    return Facts((*about, *arms))
