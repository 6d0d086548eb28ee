"""What commands print: results on stdout; progress, notes, warnings, errors on stderr; plain lines without a terminal.

With ``--quiet``, progress, notes and the ``next:`` line are left out; results, the files that were written, warnings
and errors stay.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import Console
from rich.text import Text

from voco_cli.errors import VocoError
from voco_cli.foreign_text import one_line, sentence_lines, visible
from voco_cli.object_stores import location

if TYPE_CHECKING:
    from rich.console import ConsoleOptions, RenderableType
    from rich.segment import Segment

    from voco_cli.document.blocks import Block, Column, Table

WIDTH_OF_FILES = 200
"""Columns where a table goes into a file or a pipe: a row stays a line, for grep and for less."""
PLAIN_LINE_EVERY_S = 10.0


def _width(stream: TextIO | None) -> int | None:
    """Return the width of a stream's tables; None leaves it to the terminal, or to COLUMNS."""
    on_terminal = stream is not None and stream.isatty()
    return None if on_terminal or os.environ.get("COLUMNS", "").isdigit() else WIDTH_OF_FILES


class ForeignTextConsole(Console):
    """A console on which no name can steer the terminal: whatever is printed, tables and bars too, is made visible."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """Spell out unseen characters: every text passes here before it is folded into lines."""
        if isinstance(renderable, Text) and (shown := visible(renderable.plain)) != renderable.plain:
            spelled = renderable.copy()
            spelled.plain = shown
            renderable = spelled
        yield from super().render(renderable, options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Return a plain cell or line as a text."""
        return super().render_str(visible(text), **options)


out = ForeignTextConsole(width=_width(sys.stdout))
err = ForeignTextConsole(stderr=True, width=_width(sys.stderr))

_silent = False


def be_quiet(wanted: bool) -> None:
    """Leave out, from now on, what nobody needs to act: ``--quiet``."""
    global _silent
    _silent = wanted


def is_quiet() -> bool:
    """Return whether only results, warnings and errors are wanted."""
    return _silent


def shell_words(*words: object) -> str:
    """Return a command as one may paste it into a shell, whatever blanks and brackets a path has."""
    return " ".join(shlex.quote(str(location(word) if isinstance(word, Path) else word)) for word in words)


STYLES = {"plain": None, "good": "bold green", "warning": "yellow", "bad": "bold red"}
"""How the tone of a sentence looks."""


def print_blocks(blocks: Iterable[Block], console: Console | None = None) -> None:
    """Print blocks; what does not fit the width is folded, but for optional columns, which are left out.

    Args:
        console: by default that of stdout.
    """
    from voco_cli.document import blocks as of  # late: to define its classes takes 10 ms, and help prints no block

    console = console or out
    for block in blocks:
        match block:
            case of.Heading(text):
                console.print()
                print_line(text, "bold", console)
            case of.Sentence(text, tone):
                _print_prose(text, STYLES[tone], console)
            case of.Bullets(lines):
                for line in lines:
                    _print_prose(line, None, console)
            case of.Facts(pairs):
                _print_facts(pairs, console)
            case of.Table():
                _print_table(block, console)
            case of.Picture() | of.PictureSeries():
                print_line(block.caption or block.alt, None, console)
            case of.SlicesRow():
                for case in block.cases:
                    print_line(f"{case.title}: {case.case}; {case.note}", None, console)
            case of.Charts():
                print_blocks((chart.values for chart in block.charts), console)


def print_line(text: str, style: str | None = None, console: Console | None = None) -> None:
    """Print one line, however long, to stdout if to no other console."""
    (console or out).print(one_line(text), style=style, markup=False, highlight=False, soft_wrap=True)


def _print_prose(text: str, style: str | None, console: Console) -> None:
    """Print a sentence: on a terminal broken between words, elsewhere one line, for grep."""
    if console.is_terminal:
        console.print(one_line(text), style=style, markup=False, highlight=False, overflow="fold")
    else:
        print_line(text, style, console)


def _print_facts(pairs: Sequence[tuple[str, str]], console: Console) -> None:
    from rich.table import Table as RichTable

    grid = RichTable(box=None, show_header=False, pad_edge=False)
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in pairs:
        grid.add_row(Text(one_line(name)), Text(one_line(value)))
    console.print(grid)


def _print_table(table: Table, console: Console) -> None:
    """Print a table whose figures stay whole; where it is too wide, their intervals go on in the next line."""
    from rich.table import Table as RichTable

    every = range(len(table.columns))
    needed = [i for i in every if not table.columns[i].optional]
    for shown, is_narrow in ((every, False), (every, True), (needed, True)):
        texts = [_column_texts(table, i, is_narrow) for i in shown]
        widths = (_least_width(of_column, table.columns[i]) for i, of_column in zip(shown, texts, strict=True))
        if sum(widths) + (len(texts) - 1) * (1 if is_narrow else 2) <= console.width:
            break
    if table.caption:
        print_line(table.caption, "italic", console)
    grid = RichTable(box=None, header_style="bold", pad_edge=False, collapse_padding=is_narrow)
    for i, (heading, *_) in zip(shown, texts, strict=True):
        numeric = table.columns[i].numeric
        grid.add_column(Text(heading), justify="right" if numeric else "left", overflow="fold", no_wrap=numeric)
    for row, cells in zip(table.rows, zip(*(cells for _, *cells in texts), strict=True), strict=True):
        grid.add_row(*map(Text, cells), style="bold" if row.marked else None)
    console.print(grid)


def _column_texts(table: Table, index: int, is_narrow: bool) -> list[str]:
    """Return heading and cells of a column; where room is scarce, what is in brackets is on a line of its own.

    The heading of a column of numbers is then broken between words, so that it is no wider than these.
    """
    column = table.columns[index]
    heading, *cells = (one_line(text) for text in (column.heading, *(row.cells[index].text for row in table.rows)))
    if is_narrow and column.numeric:
        cells = [text.replace(" [", "\n[").replace(" (", "\n(") for text in cells]
        widest = max((len(line) for text in [*cells, *heading.split()] for line in text.split("\n")), default=1)
        heading = "\n".join(textwrap.wrap(heading, max(1, widest)))
    return [heading, *cells]


def _least_width(texts: Sequence[str], column: Column) -> int:
    """Return the characters that a column needs so that no word of a name and no line of figures is broken."""
    parts = (text.split("\n") if column.numeric else text.split() for text in texts)
    return max((len(part) for found in parts for part in found), default=0)


def print_json(value: Any) -> None:
    """Write ``value`` to stdout as JSON and nothing else."""
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")


def print_error(error: VocoError) -> None:
    """Print one sentence on stderr, and what to do on the next line; markup in file names is not interpreted."""
    err.print("error:", style="bold red", end=" ")
    err.print(sentence_lines(error.message), markup=False, highlight=False, soft_wrap=True)
    if error.hint:
        err.print("hint:", style="bold cyan", end=" ")
        err.print(sentence_lines(error.hint), markup=False, highlight=False, soft_wrap=True)


def note(text: str, style: str | None = None) -> None:
    """Print a line on stderr about what happens; --quiet leaves it out."""
    if not _silent:
        warn(text, style)


def warn(text: str, style: str | None = None) -> None:
    """Print a line on stderr that one should know of before using the result; --quiet leaves it in."""
    print_line(text, style, err)


@contextmanager
def progress(description: str, total: int | None) -> Iterator[Callable[..., None]]:
    """Show a bar with rate and remaining time, or a plain line every ten seconds where there is no terminal.

    Yields:
        ``advance(n=1)``, to be called as items are finished.
    """
    if _silent:
        yield lambda n=1: None
        return
    if not shows_bars():
        yield _plain_lines(description, total)
        return
    from rich.progress import (  # late: `voco --help` has no bar
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task(description, total=total)

        def advance(n: int = 1) -> None:
            bar.advance(task, n)

        yield advance


def shows_bars() -> bool:
    """Return whether stderr is a terminal that can move its cursor."""
    return err.is_terminal and not err.is_dumb_terminal


def _plain_lines(description: str, total: int | None) -> Callable[..., None]:
    done, last = 0, time.monotonic()

    def advance(n: int = 1) -> None:
        nonlocal done, last
        done += n
        if time.monotonic() - last >= PLAIN_LINE_EVERY_S:
            last = time.monotonic()
            of = f" of {total}" if total is not None else ""
            print(f"{description}: {done}{of}", file=sys.stderr, flush=True)

    return advance


def done(wrote: Sequence[str | Path], next_command: str | None = None) -> None:
    """Print the last lines of a command: what it wrote, and what to run next."""
    for path in wrote:
        print_line(f"wrote {path}")
    if next_command and not _silent:
        print_line(f"next: {next_command}")
