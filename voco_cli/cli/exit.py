"""How a command ends: errors as one sentence with an exit code, streams that take any name, readers that go away."""

from __future__ import annotations

import errno
import io
import logging
import os
import platform
import re
import sys
import traceback
import warnings
from collections.abc import Callable
from typing import Any

from voco_cli import __version__
from voco_cli.cli.interrupts import Stopped
from voco_cli.document.terminal import print_error
from voco_cli.errors import DataError, ResourceError, UsageError, VocoError
from voco_cli.foreign_text import visible

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.ENOMEM)
NO_MORE_FILES = (errno.EMFILE, errno.ENFILE)
SIGPIPE_CODE = 128 + 13


def run_to_the_end(command: Callable[[], Any]) -> Any:
    """Run a command, print any error as one sentence, and return the exit code once all output has reached its reader.

    A reader that has gone away, such as ``head``, ends it silently, with the code that shells give to SIGPIPE.
    """
    try:
        code = command()
    except SystemExit as leaving:
        code = SIGPIPE_CODE if _is_broken_pipe(leaving) else leaving.code
    except BrokenPipeError:
        code = SIGPIPE_CODE
    except (Exception, KeyboardInterrupt) as error:
        code = tell(error)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = SIGPIPE_CODE
    except OSError as error:
        code = tell(error)
        _discard_output()
    if code == SIGPIPE_CODE:
        _discard_output()
    return code


def tell(error: BaseException) -> int:
    """Print what went wrong, and return the exit code."""
    if debugging():
        print(visible("".join(traceback.format_exception(error))), end="", file=sys.stderr)
        print(f"voco {__version__}, Python {platform.python_version()}, {platform.platform()}", file=sys.stderr)
    if hasattr(error, "format_message") and not error.format_message():
        return UsageError.exit_code  # a group without a command, whose help has been shown
    if isinstance(error, KeyboardInterrupt):
        error = Stopped(error)
    told = error if isinstance(error, VocoError) else _unforeseen(error)
    if os.environ.get("RANK", "0") == "0" or told is not error:
        print_error(told)
    elif alone := [note for note in getattr(error, "__notes__", ()) if note.startswith("on process")]:
        # Where torchrun starts several processes, all end with the same sentence, unless a note says otherwise.
        print_error(VocoError(f"{alone[0]}: {told.message}", told.hint))
    return told.exit_code


def debugging() -> bool:
    """Return whether tracebacks are wanted: ``--debug``, or the variable that it sets."""
    return os.environ.get("VOCO_DEBUG", "0") not in ("", "0")


def _unforeseen(error: BaseException) -> VocoError:
    """Return the error for what no line of ours foresees: refusals of parser and system, and faults of our own."""
    if hasattr(error, "format_message"):  # of Typer's parser, whose classes moved between its versions
        return _misused(error)
    if isinstance(error, OSError) and error.errno in NO_MORE_FILES:
        return ResourceError(
            "More files would be open at once than this machine allows a process.",
            "type `ulimit -n 4096` first, or let fewer processes work (--workers, data.workers, cache.workers)",
        )
    if isinstance(error, OSError) and error.strerror:
        name = f"{error.filename}: " if error.filename else ""
        kind = ResourceError if error.errno in NO_ROOM else DataError
        return kind(f"{name}{error.strerror}.")
    return VocoError(
        f"The command failed unexpectedly ({type(error).__name__}: {error}).",
        "this is a fault of voco; the same command with --debug shows where it lies",
    )


def _misused(error: Any) -> UsageError:
    """Return the error of a command line that cannot be parsed."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "voco"
    help_hint = f"{command} --help says how it is called"
    if option := getattr(error, "option_name", None):
        near = " or ".join(sorted(getattr(error, "possibilities", None) or ()))
        if near or "No such option" in error.message:
            return UsageError(
                f"{command} has no option {option}.", f"did you mean {near}?" if near else f"{command} --help lists all"
            )
    message = " ".join(error.format_message().replace("Value error, ", "").split())
    if ought := re.fullmatch(r"Invalid value for '(\S+).*?': Input (should be .*?)(, unable to parse.*)?\.?", message):
        message = f"{ought[1]} {ought[2]}"
    return UsageError(message if message.endswith((".", "?")) else f"{message}.", help_hint)


def open_streams() -> None:
    """Let the streams print names of files that are no text, escaped, and let a closed one swallow what is printed."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        stream = getattr(sys, name)
        if stream is None:
            # The number is taken, too, or the next file that is opened would get what others print.
            setattr(sys, name, os.fdopen(_taken(number), "w", encoding="utf-8", errors="backslashreplace"))
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if logging.lastResort is not None:  # what is logged, and warnings, pass our console by
        logging.lastResort.setFormatter(VisibleFormatter())
    as_python_does = warnings.formatwarning
    warnings.formatwarning = lambda *args, **named: visible(as_python_does(*args, **named))


class VisibleFormatter(logging.Formatter):
    """A formatter of logs in which no name can steer the terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        return visible(super().format(record))


def _taken(number: int) -> int:
    opened = os.open(os.devnull, os.O_WRONLY)
    if opened != number:
        os.dup2(opened, number)
        os.close(opened)
    return number


def _is_broken_pipe(error: BaseException | None) -> bool:
    """Return whether a pipe that nobody reads any more is at the bottom of what was raised."""
    while error is not None:
        if isinstance(error, BrokenPipeError):
            return True
        error = error.__context__
    return False


def _discard_output() -> None:
    """Send what is still buffered nowhere, or the interpreter would complain when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
