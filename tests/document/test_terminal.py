"""What reaches the terminal: never a character that steers it."""

from __future__ import annotations

import io
import logging
import warnings

import pytest
from rich.table import Column, Table
from rich.text import Text

from voco_cli.cli.exit import VisibleFormatter, open_streams, tell
from voco_cli.document import terminal as output
from voco_cli.document.terminal import ForeignTextConsole, done, note, print_error, warn
from voco_cli.errors import UsageError

ODD = "a\x1b[31m\u202e\n\x9bz"


@pytest.mark.parametrize("terminal", [False, True])
def test_tables_and_bars_show_names_spelled_out(terminal: bool) -> None:
    stream = io.StringIO()
    console = ForeignTextConsole(
        file=stream, width=100, force_terminal=terminal, color_system=None, legacy_windows=False
    )
    table = Table(Column(Text(ODD), min_width=40), title=ODD)
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
