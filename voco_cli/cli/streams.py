"""Standard output and standard error that take any file name, and their end when the reader has gone."""

from __future__ import annotations

import io
import logging
import os
import sys
import warnings

from voco_cli.cli.faults import tell
from voco_cli.foreign_text import visible

SIGPIPE_CODE = 128 + 13


def open_streams() -> None:
    """Names of files that are no text are printed escaped; a stream that was closed swallows what is printed."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        stream = getattr(sys, name)
        if stream is None:
            # The number is taken, too, or the next file that is opened would get what others print.
            setattr(sys, name, os.fdopen(_taken(number), "w", encoding="utf-8", errors="backslashreplace"))
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    _libraries_speak_visibly()


class VisibleFormatter(logging.Formatter):
    """What libraries log, names in it included, cannot steer the terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        return visible(super().format(record))


def _libraries_speak_visibly() -> None:
    """Warnings, and what is logged where nobody asked for logs, reach the terminal past our console."""
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(VisibleFormatter())
    as_python_does = warnings.formatwarning
    warnings.formatwarning = lambda *args, **named: visible(as_python_does(*args, **named))


def _taken(number: int) -> int:
    opened = os.open(os.devnull, os.O_WRONLY)
    if opened != number:
        os.dup2(opened, number)
        os.close(opened)
    return number


def flushed(code: int | str | None) -> int | str | None:
    """The exit code, once everything printed has reached its reader, or the reader has gone away."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = SIGPIPE_CODE
    except OSError as error:
        code = tell(error)
        _drop()
    if code == SIGPIPE_CODE:
        _drop()
    return code


def reader_has_gone(error: BaseException | None) -> bool:
    """Whether a pipe that nobody reads any more is at the bottom of what was raised."""
    while error is not None:
        if isinstance(error, BrokenPipeError):
            return True
        error = error.__context__
    return False


def _drop() -> None:
    """What is still buffered goes nowhere, or the interpreter would complain when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
