"""A result as blocks: headings, sentences, facts, tables, pictures and charts, which hold text as it is.

:mod:`voco_cli.document.terminal` prints them, :mod:`voco_cli.document.markdown` writes them as Markdown and
:mod:`voco_cli.document.html` as a page; each of them escapes what it writes. A table is made from plain values::

    Table.of("Dice", ["structure", Column("mean", format=".3f")], [["liver", 0.9512], ["spleen", None]])
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

Tone = Literal["plain", "good", "warning", "bad"]

NOTHING = "-"
"""What a cell without a value shows."""
NUMBER = re.compile(r"[<>\[]?\s*([+\-\N{MINUS SIGN}]?\d[\d,]*(?:\.\d+)?(?:[eE][+-]?\d+)?)(?=$|[\s%,\[(±])")
EMPTY = ("", NOTHING, "\N{EN DASH}")


@dataclass(frozen=True)
class Heading:
    """A heading; level 1 is that of the whole document."""

    kind: ClassVar = "heading"
    text: str
    level: int = 2


@dataclass(frozen=True)
class Sentence:
    """A paragraph; with a tone it is a note, told by a colour and a mark beside it."""

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

    @classmethod
    def of(cls, pairs: Iterable[tuple[str, object]]) -> Facts:
        """Make facts from plain values; None is left out."""
        return cls(tuple((name, str(value)) for name, value in pairs if value is not None))


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


Value = str | int | float | Cell | None
"""What a table is made from; None and NaN are shown as a dash."""


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        numeric: its cells are numbers, aligned to the right.
        format: of its numbers, such as ``.3f``; by default whole numbers as ``1,234``, others with four digits.
        optional: left out on a terminal that is too narrow for all columns.
    """

    heading: str
    numeric: bool = False
    format: str = ""
    optional: bool = False


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        marked: stands out: a total, a value that was set.
    """

    cells: tuple[Cell, ...]
    marked: bool = False


@dataclass(frozen=True)
class Table:
    """Rows that can be sorted on a page, and searched where there are many.

    Attributes:
        caption: what it shows, one line.
        names: columns from the left that name a row.
        anchor: of the table within its part of a page; by default a number.
        folded: words of a fold that it lies in on a page; empty is open.
        searched: it has a field on a page that filters its rows.
    """

    kind: ClassVar = "table"
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    names: int = 1
    anchor: str = ""
    folded: str = ""
    searched: bool = False

    @classmethod
    def of(
        cls,
        caption: str,
        columns: Sequence[str | Column],
        rows: Sequence[Sequence[Value]],
        *,
        names: int = 1,
        marked: Collection[int] = (),
        anchor: str = "",
        folded: str = "",
        searched: bool = False,
    ) -> Table:
        """Make a table from plain values.

        Args:
            columns: a heading alone is a column of numbers where every cell that is not empty begins with a number.
            rows: a value for each column.
            names: columns from the left that are words, whatever they look like.
            marked: indices of rows that stand out.
        """
        shown = tuple(
            one if isinstance(one, Column) else Column(one, i >= names and _all_numbers([row[i] for row in rows]))
            for i, one in enumerate(columns)
        )
        made = tuple(
            Row(tuple(to_cell(*one) for one in zip(row, shown, strict=True)), n in marked) for n, row in enumerate(rows)
        )
        return cls(caption, shown, made, names, anchor, folded, searched)


def to_cell(value: Value, column: Column = Column("")) -> Cell:
    """Return a value as a cell of a column; a text in a column of numbers is sorted by the number it begins with."""
    if isinstance(value, Cell):
        return value
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return Cell(NOTHING)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return Cell(str(value), leading_number(str(value)) if column.numeric else None)
    return Cell(format(value, column.format or ("," if isinstance(value, int) else ".4g")), float(value))


def leading_number(text: str) -> float | None:
    """Return the number that a text begins with, such as that of ``0.812 ± 0.05 [0.70, 0.91]``; None without one."""
    found = NUMBER.match(text.strip())
    return None if found is None else float(found[1].replace(",", "").replace("\N{MINUS SIGN}", "-"))


def _all_numbers(values: Sequence[Value]) -> bool:
    cells = [to_cell(value, Column("", numeric=True)) for value in values]
    there = [cell for cell in cells if cell.text.strip() not in EMPTY]
    return bool(there) and all(cell.order is not None for cell in there)


@dataclass(frozen=True)
class EncodedPicture:
    """A picture as a page holds it.

    Attributes:
        source: data URI.
        width_px, height_px: of the picture.
    """

    source: str
    width_px: int
    height_px: int


@dataclass(frozen=True)
class Picture:
    """A picture with what it shows, for those who do not see it.

    Attributes:
        picture: a page holds the picture itself; the text is a link to a file beside a Markdown document.
    """

    kind: ClassVar = "picture"
    picture: EncodedPicture | str
    alt: str
    caption: str = ""


@dataclass(frozen=True)
class Frame:
    """One picture of a series."""

    words: str
    picture: EncodedPicture


@dataclass(frozen=True)
class PictureSeries:
    """Pictures of one thing at several times, with a slider.

    Attributes:
        shown: index of the frame that is shown at first, and in print.
    """

    kind: ClassVar = "series"
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


Block = Heading | Sentence | Bullets | Facts | Table | Picture | PictureSeries | SlicesRow | Charts


@dataclass(frozen=True)
class PagePart:
    """Blocks under a heading.

    Attributes:
        anchor: within the section; the anchors of its blocks follow it.
    """

    anchor: str
    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class PageSection:
    """One run, or what several have in common.

    Attributes:
        anchor: of the section in the page; those of its parts follow it.
        kind: for people: pre-training, study ...
        status, tone: how it stands, in a word; empty where that means nothing.
        lead: the one sentence to read.
        result: the same for a row of the overview.
        place: folder.
        when: its state was last written.
    """

    anchor: str
    title: str
    kind: str
    parts: Sequence[PagePart]
    status: str = ""
    tone: Tone = "plain"
    lead: str = ""
    lead_tone: Tone = "plain"
    result: str = ""
    place: str = ""
    when: str = ""


@dataclass(frozen=True)
class ReportPage:
    """All of a report.

    Attributes:
        overview: table of the sections where there are several.
        written: when and by which version.
    """

    title: str
    written: str
    sections: Sequence[PageSection]
    overview: Table | None = None
