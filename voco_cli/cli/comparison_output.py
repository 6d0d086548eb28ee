"""What comparisons of segmentations and of classifications have in common on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from voco_cli.cli.evaluation_output import spotless
from voco_cli.cli.output import out

if TYPE_CHECKING:
    from voco_cli.evaluation.stored import Stored


def about(names: Sequence[str], stored: Sequence[Stored], resamples: int, seed: int) -> dict[str, Any]:
    """What was compared and how, for comparison.json."""
    from voco_cli.evaluation.unlike import trained_as, training_warnings, unlike_settings

    trained = [trained_as(one.folder) for one in stored]
    return {
        "evaluations": [str(one.folder) for one in stored],
        "splits": [one.split for one in stored],
        "contamination": [one.contamination for one in stored],
        "settings_that_differ": unlike_settings(trained),
        "warnings": training_warnings(names, trained),
        "interval": {"level": 0.95, "resamples": resamples, "seed": seed, "resampled_by": "patient"},
    }


def unmeasured(names: Sequence[str], stored: Sequence[Stored]) -> list[str]:
    """Cases that an evaluation could not measure, one sentence for each evaluation."""
    pairs = zip(names, stored, strict=True)
    return [f"{name} could not measure {', '.join(one.failed)}" for name, one in pairs if one.failed]


def seen_statements(names: Sequence[str], stored: Sequence[Stored]) -> list[str]:
    """What each evaluation recorded of cases that were seen in training."""
    return [
        f"{name}: {sentence}"
        for name, one in zip(names, stored, strict=True)
        for sentence in (one.contamination or {}).get("sentences", ())
    ]


def training_statements(names: Sequence[str], stored: Sequence[Stored]) -> list[str]:
    """Which settings differ between the runs, and warnings where steps or training cases do."""
    from voco_cli.evaluation.unlike import settings_sentences, trained_as, training_warnings

    trained = [trained_as(one.folder) for one in stored]
    warnings = [f"warning: {line}" for line in training_warnings(names, trained)]
    return [*settings_sentences(names, trained), *warnings]


def print_statements(lines: Sequence[str], names: Sequence[str], stored: Sequence[Stored]) -> None:
    """Lines below the tables; cases that were seen in yellow."""
    for line in lines:
        out.print(line, markup=False, highlight=False, soft_wrap=True)
    for line in training_statements(names, stored):
        style = "yellow" if line.startswith("warning: ") else None
        out.print(line, style=style, markup=False, highlight=False, soft_wrap=True)
    spotted = not all(spotless(one.contamination) for one in stored if one.contamination)
    for line in seen_statements(names, stored):
        out.print(line, style="yellow" if spotted else None, markup=False, highlight=False, soft_wrap=True)


def print_table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]], texts: int) -> None:
    """A table whose first ``texts`` columns are words; an interval goes on the next line."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title), title_justify="left", box=None, pad_edge=False, collapse_padding=True)
    for i, heading in enumerate(headings):
        table.add_column(Text(heading), justify="left" if i < texts else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell.replace(" [", "\n[").replace(" (+", "\n(+")) for cell in row))
    out.print(table)


def without_run(headings: Sequence[str], rows: Sequence[Sequence[str]], run: str) -> tuple[list[str], list[list[str]]]:
    """A table of one run: its name stands in the heading of its values, and has no column of its own."""
    named = [run if heading == "run's" else heading for heading in headings]
    return named[1:], [list(row[1:]) for row in rows]
