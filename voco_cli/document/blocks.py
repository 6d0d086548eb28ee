"""What a report is made of: plain values that a template shows in order. They hold text as it is; templates escape it.

``kind`` tells the template which block it is. What holds the blocks is in :mod:`voco_cli.document.blocks`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

Tone = Literal["plain", "good", "warning", "bad"]


@dataclass(frozen=True)
class Cell:
    """One cell of a table.

    Attributes:
        text: as it is shown.
        order: number that the column is sorted by; none sorts by the text, or last where the text is empty or a dash.
        link: anchor in the page that it leads to.
    """

    text: str
    order: float | None = None
    link: str = ""


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        numeric: its cells are numbers, aligned to the right.
    """

    heading: str
    numeric: bool = False


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        marked: stands out: a total, a value that was set.
    """

    cells: tuple[Cell, ...]
    marked: bool = False


@dataclass(frozen=True)
class Table:
    """Rows that can be sorted, and searched where there are many.

    Attributes:
        anchor: of the table in the page.
        caption: what it shows, one line.
        folded: words of a fold that it lies in; empty is open.
        searched: it has a field that filters its rows.
        names: columns from the left that name a row.
    """

    kind: ClassVar = "table"
    anchor: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    folded: str = ""
    searched: bool = False
    names: int = 1


@dataclass(frozen=True)
class Sentence:
    """A paragraph; its tone is said by a colour and a mark beside it."""

    kind: ClassVar = "sentence"
    text: str
    tone: Tone = "plain"


@dataclass(frozen=True)
class Bullets:
    """Sentences that belong together."""

    kind: ClassVar = "bullets"
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Facts:
    """Names and values, such as versions."""

    kind: ClassVar = "facts"
    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Embedded:
    """A picture as the page holds it.

    Attributes:
        source: data URI.
        width_px, height_px: of the picture.
    """

    source: str
    width_px: int
    height_px: int


@dataclass(frozen=True)
class Picture:
    """A picture with what it shows, for those who do not see it."""

    kind: ClassVar = "picture"
    picture: Embedded
    alt: str
    caption: str = ""


@dataclass(frozen=True)
class Frame:
    """One picture of a series."""

    words: str
    picture: Embedded


@dataclass(frozen=True)
class Series:
    """Pictures of one thing at several times, with a slider.

    Attributes:
        shown: index of the frame that is shown at first, and in print.
    """

    kind: ClassVar = "series"
    anchor: str
    slider: str
    alt: str
    frames: tuple[Frame, ...]
    shown: int
    caption: str = ""


@dataclass(frozen=True)
class LegendEntry:
    """A colour and what it means."""

    name: str
    colour: str


@dataclass(frozen=True)
class Layered:
    """A slice of a case: the scan, and above it, where they are there, the label and the prediction; data URIs."""

    index: int
    image: str
    label: str | None
    prediction: str | None


@dataclass(frozen=True)
class Slices:
    """Slices of a case with a slider, and a box to tick for each layer.

    Attributes:
        sides: of the patient, at the left, right, upper and lower edge.
    """

    kind: ClassVar = "slices"
    anchor: str
    title: str
    note: str
    case: str
    width_px: int
    height_px: int
    sides: tuple[str, str, str, str]
    slices: tuple[Layered, ...]
    shown: int
    has_label: bool
    has_prediction: bool


@dataclass(frozen=True)
class SlicesRow:
    """Cases side by side, and what the colours mean in all of them."""

    kind: ClassVar = "slices_row"
    legend: tuple[LegendEntry, ...]
    cases: tuple[Slices, ...]


@dataclass(frozen=True)
class Tick:
    """A mark at an axis, in units of the drawing."""

    place: float
    text: str


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Attributes:
        path: SVG path data.
        dots: places of the points, where they are few enough to be marked.
        number: which colour and dash it has.
        dense: it has so many points that a thick line, or dashes, would hide them.
    """

    name: str
    path: str
    dots: tuple[tuple[float, float], ...]
    number: int
    dense: bool


@dataclass(frozen=True)
class Level:
    """A horizontal line across the chart, such as chance."""

    place: float
    text: str


@dataclass(frozen=True)
class Chart:
    """Curves over steps, as an inline drawing, with the values that a pointer or the arrow keys read.

    Attributes:
        description: what a reader who does not see it should know: each line's first, least, greatest and last value.
        readings: JSON of what the script reads: steps, their places, names and values.
        values: some of the values as a table.
    """

    kind: ClassVar = "chart"
    anchor: str
    title: str
    description: str
    lines: tuple[Line, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    levels: tuple[Level, ...]
    readings: str
    values: Table


@dataclass(frozen=True)
class Charts:
    """Charts side by side."""

    kind: ClassVar = "charts"
    charts: tuple[Chart, ...]


Block = Sentence | Bullets | Facts | Table | Picture | Series | SlicesRow | Charts


@dataclass(frozen=True)
class Part:
    """Blocks under a heading.

    Attributes:
        anchor: of the heading in the page.
    """

    anchor: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Section:
    """One run, or what several have in common.

    Attributes:
        kind: for people: pre-training, study ...
        status, tone: how it stands, in a word; empty where that means nothing.
        lead: the one sentence to read.
        result: the same for a row of the overview.
        place: folder.
        when: last word of it.
    """

    anchor: str
    title: str
    kind: str
    parts: tuple[Part, ...]
    status: str = ""
    tone: Tone = "plain"
    lead: str = ""
    lead_tone: Tone = "plain"
    result: str = ""
    place: str = ""
    when: str = ""


@dataclass(frozen=True)
class Page:
    """All of a report.

    Attributes:
        overview: table of the sections where there are several.
        written: when and by which version.
    """

    title: str
    written: str
    sections: Sequence[Section]
    overview: Table | None = None


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
