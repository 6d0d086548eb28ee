"""Settings of a run with the source of each value, and what differs between runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from voco_cli.report.blocks import Block, Cell, Column, Row, Sentence, Table
from voco_cli.report.run_record import RunRecord
from voco_cli.report.sections import Part
from voco_cli.settings import Settings
from voco_cli.settings.layers import flatten
from voco_cli.settings.sources import field_descriptions

PLACES = frozenset({"run.dir"})
"""Settings that differ between any two runs and tell nothing."""
NOT_THERE = "\N{EN DASH}"


def settings_part(prefix: str, run: RunRecord) -> Part:
    """Two tables: what differs from the defaults or was set, with its source; and all else."""
    defaults, meanings = _defaults(), dict(field_descriptions())
    changed = [key for key in run.settings if key in run.sources or run.settings[key] != defaults.get(key)]
    blocks: list[Block] = []
    rows = [
        Row(
            (
                Cell(key),
                Cell(value_words(run.settings[key])),
                Cell(value_words(defaults[key]) if key in defaults else NOT_THERE),
                Cell(run.sources.get(key, "default")),
                Cell(meanings.get(key) or ""),
            ),
            marked=key in defaults and run.settings[key] != defaults[key],
        )
        for key in sorted(changed, key=lambda key: run.settings[key] == defaults.get(key))
    ]
    if rows:
        columns = tuple(map(Column, ("setting", "value", "default", "source", "meaning")))
        caption = f"{len(rows)} settings that were set; a marked value differs from its default"
        blocks.append(Table(f"{prefix}-set", caption, columns, tuple(rows), searched=True))
    else:
        blocks.append(Sentence("All settings have their defaults."))
    others = [key for key in run.settings if key not in changed]
    if others:
        kept = tuple(
            Row((Cell(key), Cell(value_words(run.settings[key])), Cell(meanings.get(key) or ""))) for key in others
        )
        columns = tuple(map(Column, ("setting", "value", "meaning")))
        words = f"{len(others)} settings at their defaults"
        blocks.append(Table(f"{prefix}-defaults", words, columns, kept, folded=words, searched=True))
    return Part(prefix, "Settings and their sources", tuple(blocks))


def difference_table(anchor: str, runs: Sequence[RunRecord]) -> Table | Sentence:
    """Settings that are not the same in all runs, one column a run."""
    keys = list(dict.fromkeys(key for run in runs for key in run.settings if key not in PLACES))
    unlike = [key for key in keys if any(_of(run, key) != _of(runs[0], key) for run in runs[1:])]
    if not unlike:
        return Sentence("The settings of these runs are the same.")
    columns = (Column("setting"), *(Column(run.name) for run in runs))
    rows = tuple(Row((Cell(key), *(Cell(_of(run, key)) for run in runs))) for key in unlike)
    return Table(anchor, f"{len(unlike)} settings that differ between the runs", columns, rows)


def value_words(value: Any) -> str:
    """A value as it would stand in a settings file."""
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False, default=str)


def settings_rows(settings: Mapping[str, Any]) -> tuple[Row, ...]:
    """A row for each setting: name, value, meaning."""
    meanings = dict(field_descriptions())
    return tuple(
        Row((Cell(key), Cell(value_words(value)), Cell(meanings.get(key) or ""))) for key, value in settings.items()
    )


def _of(run: RunRecord, key: str) -> str:
    return value_words(run.settings[key]) if key in run.settings else NOT_THERE


def _defaults() -> dict[str, Any]:
    return dict(flatten(Settings().model_dump(mode="json")))
