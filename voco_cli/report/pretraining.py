"""A pre-training run as a section of a report, and what several of them have in common."""

from __future__ import annotations

from collections.abc import Sequence

from voco_cli.report.curves import compared_charts, pretraining_charts, shown_charts
from voco_cli.report.data_part import data_part
from voco_cli.report.label_picture import label_picture
from voco_cli.report.learning import chance_of, learning_of, learning_part
from voco_cli.report.location_frames import location_frames
from voco_cli.report.run_record import RunRecord, ran_with, status_of, when_of
from voco_cli.report.sections import Part, Section
from voco_cli.report.settings_part import difference_table, settings_part
from voco_cli.report.starting_weights import starting_weights


def pretraining_section(anchor: str, run: RunRecord) -> Section:
    """Everything about one run; what is missing is said where it would stand."""
    learning = learning_of(run)
    status, tone, standing = status_of(run)
    charts = pretraining_charts(f"{anchor}-curves", run.metrics, learning.chance)
    finished = status == "done"
    parts = (
        learning_part(f"{anchor}-learning", learning, with_verdict=not finished),
        Part(f"{anchor}-location", "Learning to locate", tuple(location_frames(f"{anchor}-location-series", run.path))),
        Part(f"{anchor}-curves", "Curves", (shown_charts(charts),)),
        Part(f"{anchor}-labels", "What it is asked: position labels", (label_picture(run),)),
        data_part(f"{anchor}-data", run),
        settings_part(f"{anchor}-settings", run),
        Part(f"{anchor}-about", "Start, machine and versions", (standing, starting_weights(run), ran_with(run))),
    )
    return Section(
        anchor=anchor,
        title=run.name,
        kind="pre-training",
        parts=parts,
        status=status,
        tone=tone,
        lead=learning.sentence if finished else standing.text,
        lead_tone=learning.tone if finished else standing.tone,
        result=learning.result,
        place=str(run.path),
        when=when_of(run),
    )


def together(anchor: str, runs: Sequence[RunRecord]) -> Section:
    """Several runs side by side: their curves in the same drawings, and the settings that differ."""
    charts = compared_charts(f"{anchor}-curves", [(run.name, run.metrics) for run in runs], _chance(runs))
    parts = (
        Part(f"{anchor}-curves", "Curves together", (shown_charts(charts),)),
        Part(f"{anchor}-settings", "Settings that differ", (difference_table(f"{anchor}-differences", runs),)),
    )
    return Section(anchor, "Pre-training runs together", "side by side", parts)


def _chance(runs: Sequence[RunRecord]) -> dict[str, float]:
    """The level of chance where it is the same for all."""
    found = [chance_of(run) for run in runs]
    return found[0] if all(one == found[0] for one in found) else {}
