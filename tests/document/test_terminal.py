"""What reaches the terminal: never a character that steers it."""

from __future__ import annotations

import io
import logging
import warnings

import pytest
from rich.table import Column as RichColumn
from rich.table import Table as RichTable
from rich.text import Text

from tests.document.made_blocks import every_block
from voco_cli.cli.exit import VisibleFormatter, open_streams, tell
from voco_cli.document import terminal as output
from voco_cli.document.blocks import Block, Column, Sentence, Table
from voco_cli.document.terminal import ForeignTextConsole, done, note, print_blocks, print_error, warn
from voco_cli.errors import UsageError

ODD = "a\x1b[31m\u202e\n\x9bz"


@pytest.mark.parametrize("terminal", [False, True])
def test_tables_and_bars_show_names_spelled_out(terminal: bool) -> None:
    stream = io.StringIO()
    console = ForeignTextConsole(
        file=stream, width=100, force_terminal=terminal, color_system=None, legacy_windows=False
    )
    table = RichTable(RichColumn(Text(ODD), min_width=40), title=ODD)
    table.add_row(Text(ODD, style="red"))
    table.add_row(ODD)
    console.print(table, ODD, Text(ODD))
    text = stream.getvalue()
    assert text.count("a\\x1b[31m\\u202e") == 6
    assert text.count("\\x9bz") == 6
    assert not set("\x9b\u202e") & set(text)
    assert "\x1b[31m\\" not in text


def test_lines_and_errors(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "err", ForeignTextConsole(stderr=True, width=100))
    monkeypatch.setattr(output, "out", ForeignTextConsole(width=100))
    warn(ODD)
    note(ODD)
    print_error(UsageError(f"{ODD} is wrong:\n  this", ODD))
    done([ODD], ODD)
    shown = capsys.readouterr()
    spelled = "a\\x1b[31m\\u202e\\n\\x9bz"
    assert shown.err == f"{spelled}\n{spelled}\nerror: {spelled} is wrong:\n  this\nhint: {spelled}\n"
    assert shown.out == f"wrote {spelled}\nnext: {spelled}\n"


def test_tracebacks_logs_and_warnings(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOCO_DEBUG", "1")
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    tell(UsageError(ODD))
    open_streams()
    shown = capsys.readouterr().err
    shown += warnings.formatwarning(ODD, UserWarning, "a.py", 1, "")
    shown += VisibleFormatter("%(message)s").format(logging.LogRecord("x", 30, "a.py", 1, ODD, None, None))
    assert shown.count("a\\x1b[31m\\u202e") == 4
    assert not set("\x9b\u202e\x1b") & set(shown)


def printed(monkeypatch: pytest.MonkeyPatch, width: int, *blocks: Block) -> str:
    """What blocks look like on a terminal of so many columns, without blanks at the end of lines."""
    stream = io.StringIO()
    monkeypatch.setattr(output, "out", ForeignTextConsole(file=stream, width=width, color_system=None))
    print_blocks(blocks)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())


def test_every_block(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (
        printed(monkeypatch, 80, *every_block())
        == r"""
What follows
Weights help <b>|\x1b[1m.
first
second
voco  0.1.0
file  <b>|\x1b[1m
Dice
structure     mean               difference
liver        0.951  +0.100 [+0.050, +0.150]
<b>|\x1b[1m      -                        -
All runs.
Panels.
Best case: case1; mean Dice 0.8
Loss: values
step  loss
   0     4
  10     1"""
    )


def test_a_narrow_table_breaks_intervals_first_and_then_leaves_out_what_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    columns = ["structure", Column("mean", True), Column("volume", True, optional=True)]
    table = Table.of("", columns, [["right kidney", "0.951 [0.9, 1.0]", "12.5 [1.0, 9.0]"]])
    assert printed(monkeypatch, 50, table) == (
        "structure                 mean           volume\nright kidney  0.951 [0.9, 1.0]  12.5 [1.0, 9.0]"
    )
    assert printed(monkeypatch, 34, table) == (
        "structure          mean     volume\nright kidney      0.951       12.5\n             [0.9, 1.0] [1.0, 9.0]"
    )
    assert printed(monkeypatch, 20, table) == "structure       mean\nright          0.951\nkidney    [0.9, 1.0]"


def test_a_heading_of_numbers_is_broken_where_room_is_scarce(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table.of("", ["structure", Column("false pos.", True), Column("mean", True)], [["liver", 12, 0.5]])
    assert printed(monkeypatch, 27, table) == "structure  false pos.  mean\nliver              12   0.5"
    assert printed(monkeypatch, 26, table) == "          false\nstructure  pos. mean\nliver        12  0.5"


def test_a_sentence_is_broken_between_words_on_a_terminal_and_one_line_elsewhere() -> None:
    for terminal, lines in ((True, ["Missed structures:", "1, false positives:", "0."]), (False, None)):
        stream = io.StringIO()
        console = ForeignTextConsole(file=stream, width=20, color_system=None, force_terminal=terminal)
        text = "Missed structures: 1, false positives: 0."
        print_blocks([Sentence(text)], console)
        assert [line.rstrip() for line in stream.getvalue().splitlines()] == (lines or [text])
