"""Tables of a report from headings and cells of text, such as those that commands print."""

from __future__ import annotations

import re
from collections.abc import Sequence

from voco_cli.report.blocks import Cell, Column, Row, Table

NUMBER = re.compile(r"[<>\[]?\s*([+\-\N{MINUS SIGN}]?\d[\d,]*(?:\.\d+)?(?:[eE][+-]?\d+)?)(?=$|[\s%,\[(±])")
NOTHING = ("", "-", "\N{EN DASH}")


def cell(value: object, text: str | None = None) -> Cell:
    """A cell of a number or of words; a number may be shown as another text."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return Cell(str(value) if text is None else text)
    shown = (f"{value:,}" if isinstance(value, int) else f"{value:.4g}") if text is None else text
    return Cell(shown, float(value))


def leading_number(text: str) -> float | None:
    """The number that a text begins with, such as that of ``0.812 ± 0.05 [0.70, 0.91]``; none where it has none."""
    found = NUMBER.match(text.strip())
    return None if found is None else float(found[1].replace(",", "").replace("\N{MINUS SIGN}", "-"))


def text_table(
    anchor: str,
    caption: str,
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    names: int = 1,
    *,
    folded: str = "",
    searched: bool = False,
    marked: Sequence[int] = (),
) -> Table:
    """A table of cells that are text already.

    A column is of numbers where every cell that is not empty begins with one; it is then sorted by them.

    Args:
        names: columns from the left that are words, whatever they look like.
        marked: indices of rows that stand out.
    """
    numeric = [i >= names and _all_numbers([row[i] for row in rows]) for i in range(len(headings))]
    columns = tuple(Column(heading, number) for heading, number in zip(headings, numeric, strict=True))
    made = tuple(
        Row(
            tuple(
                Cell(text, leading_number(text) if number else None) for text, number in zip(row, numeric, strict=True)
            ),
            n in marked,
        )
        for n, row in enumerate(rows)
    )
    return Table(anchor, caption, columns, made, folded, searched, names)


def _all_numbers(texts: Sequence[str]) -> bool:
    there = [text for text in texts if text.strip() not in NOTHING]
    return bool(there) and all(leading_number(text) is not None for text in there)
