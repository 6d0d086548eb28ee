"""Blocks as Markdown, for files that people read, print and paste into a paper."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from voco_cli.document.blocks import (
    Block,
    Bullets,
    Charts,
    Facts,
    Heading,
    Picture,
    PictureSeries,
    Sentence,
    SlicesRow,
    Table,
)
from voco_cli.foreign_text import one_line


def to_markdown(blocks: Iterable[Block]) -> str:
    """Return blocks as Markdown, an empty line between two; unseen characters are spelled out.

    Tables are written in full: what a page folds, too. A picture is a link, or its words where it has no file.
    """
    return "\n".join(text for block in blocks if (text := "".join(f"{line}\n" for line in _lines(block))))


def _lines(block: Block) -> list[str]:
    match block:
        case Heading(text, level):
            return [f"{'#' * level} {one_line(text)}"]
        case Sentence(text):
            return [one_line(text)]
        case Bullets(lines):
            return [f"- {one_line(line)}" for line in lines]
        case Facts(pairs):
            return [f"- {one_line(name)}: {one_line(value)}" for name, value in pairs]
        case Table():
            return _table(block)
        case Picture(str(link), alt):
            return [f"![{one_line(alt)}]({one_line(link)})"]
        case Picture() | PictureSeries():
            return [one_line(block.caption or block.alt)]
        case SlicesRow():
            return [one_line(f"- {case.title}: {case.case}; {case.note}") for case in block.cases]
        case Charts():
            return to_markdown(chart.values for chart in block.charts).splitlines()


def _table(table: Table) -> list[str]:
    """Return the lines of a table below its caption; columns of numbers to the right, all others to the left."""
    rules = ["---:" if column.numeric else "---" for column in table.columns]
    rows = [
        [column.heading for column in table.columns],
        rules,
        *([cell.text for cell in row.cells] for row in table.rows),
    ]
    caption = [one_line(table.caption), ""] if table.caption else []
    return [*caption, *map(_row, rows)]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(one_line(cell).replace('|', chr(92) + '|') for cell in cells)} |"
