"""CSV that spreadsheets take as text and numbers, never as formulas, and that gives back every name as it was."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence

from voco_cli.foreign_text import quoted

# What a spreadsheet computes (= + - @), or looks behind (tab, carriage return). Spreadsheets hide a first apostrophe; a
# name that already has some gets one more, so that reading takes away what writing gave.
FORMULA = re.compile(r"'*[=+\-@\t\r]")
MARKED = re.compile(r"'+[=+\-@\t\r]")
NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def csv_text(rows: Iterable[Sequence[str]]) -> str:
    """Return rows as CSV; a cell that a spreadsheet would compute gets an apostrophe in front, a number does not."""
    lines: list[str] = []
    for row in rows:
        line = io.StringIO()
        # A cell is quoted for the characters of the line's end alone: without \r there, one in a name splits a row.
        csv.writer(line, lineterminator="\r\n").writerow([_marked(cell) for cell in row])
        lines.append(line.getvalue().removesuffix("\r\n"))
    return "".join(f"{line}\n" for line in lines)


def csv_rows(text: str, delimiter: str = ",") -> list[tuple[int, list[str]]]:
    """Return the line that each row begins on, and its cells, without the apostrophes that `csv_text` gave.

    Raises:
        ValueError: a quotation mark that is not closed, or not where a cell begins or ends.
    """
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[tuple[int, list[str]]] = []
    began = 1
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise ValueError(f"the row from line {began} on has a stray quotation mark ({error})") from error
        if cells is None:
            return rows
        rows.append((began, [cell[1:] if MARKED.match(cell) else cell for cell in cells]))
        began = reader.line_num + 1


def csv_records(text: str) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Return the names of the columns, and each row's line and cells by column.

    Raises:
        ValueError: as `csv_rows`; a column that stands twice, or a row with more or fewer cells than there are columns.
    """
    (_, columns), *rows = csv_rows(text) or [(1, [])]
    twice = next((name for name in columns if columns.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"the column {quoted(twice)} stands twice")
    records = []
    for line, cells in rows:
        if not cells:
            continue
        if len(cells) != len(columns):
            raise ValueError(f"line {line} has {len(cells)} cells, and not {len(columns)}")
        records.append((line, dict(zip(columns, cells, strict=True))))
    return columns, records


def _marked(cell: str) -> str:
    return f"'{cell}" if FORMULA.match(cell) and not NUMBER.fullmatch(cell) else cell
