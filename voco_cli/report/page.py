"""From folders to the page: a section for each, in front of them what they have in common, and an overview."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from voco_cli import __version__
from voco_cli.document.blocks import Cell, Column, PageSection, ReportPage, Table, Value
from voco_cli.errors import UsageError
from voco_cli.report.comparison import comparison_section, paired_section
from voco_cli.report.finetuning import Evaluations, finetuning_section, read_evaluations
from voco_cli.report.pretraining import compared_section, pretraining_section
from voco_cli.report.run_record import Kind, RunRecord, kind_of, read_run, run_names


@dataclass(frozen=True)
class Shown:
    """A folder that a report shows."""

    path: Path
    name: str
    kind: Kind


def find_runs(paths: Sequence[Path]) -> list[Shown]:
    """Find out what each folder holds.

    Raises:
        DataError: a folder that is not there, or whose settings are damaged.
        UsageError: a folder of something else, or one that is given twice.
    """
    places = [path.resolve() for path in paths]
    twice = [str(path) for path, place in zip(paths, places, strict=True) if places.count(place) > 1]
    if twice:
        raise UsageError(f"{twice[0]} is given more than once.", "name each folder once")
    kinds = [kind_of(path) for path in paths]
    return [Shown(*one) for one in zip(paths, run_names(paths), kinds, strict=True)]


def gather_page(shown: Sequence[Shown], advance: Callable[[], object] = lambda: None) -> ReportPage:
    """Read everything that the page shows of these folders.

    Args:
        advance: called when a folder is done.
    Raises:
        DataError: the file that a folder is known by is damaged.
        UsageError: it is of another version.
    """
    sections, pretrained, finetuned = [], list[RunRecord](), list[tuple[str, Evaluations]]()
    for number, one in enumerate(shown):
        anchor = f"run-{number + 1}"
        if one.kind == "pre-training":
            pretrained.append(read_run(one.path, one.name))
            sections.append(pretraining_section(anchor, pretrained[-1]))
        elif one.kind == "fine-tuning":
            found = read_evaluations(one.path)
            finetuned.append((one.name, found))
            sections.append(finetuning_section(anchor, read_run(one.path, one.name), found))
        elif one.kind == "comparison":
            sections.append(comparison_section(anchor, one.path, one.name))
        else:
            from voco_cli.report.study import study_section  # late: it draws in all that training needs

            sections.append(study_section(anchor, one.path, one.name))
        advance()
    in_common = [compared_section(pretrained)] if len(pretrained) > 1 else []
    in_common += [paired_section(finetuned)] if len(finetuned) > 1 else []
    written = f"Written {time.strftime('%Y-%m-%d %H:%M %Z')} by voco {__version__}."
    names = [one.name for one in shown]
    title = names[0] if len(names) == 1 else f"{', '.join(names[:3])}{' …' if len(names) > 3 else ''}"
    overview = _overview(sections) if len(sections) > 1 else None
    return ReportPage(title, written, (*in_common, *sections), overview)


def _overview(sections: Sequence[PageSection]) -> Table:
    columns = [*map(Column, ("run", "result", "status", "kind", "last written", "folder"))]
    rows: list[list[Value]] = [
        [Cell(one.title, link=one.anchor), one.result, one.status, one.kind, one.when, one.place] for one in sections
    ]
    return Table.of("What this page shows", columns, rows)
