"""How whatever ends a command becomes a sentence, a hint and an exit code."""

from __future__ import annotations

import errno
import os
import platform
import re
import sys
import traceback
from typing import Any

from voco_cli import __version__
from voco_cli.cli.interrupts import Stopped
from voco_cli.cli.output import print_error
from voco_cli.errors import DataError, ResourceError, UsageError, VocoError
from voco_cli.foreign_text import visible

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.ENOMEM)
NO_MORE_FILES = (errno.EMFILE, errno.ENFILE)


def tell(error: BaseException) -> int:
    """Print what went wrong; returns the exit code."""
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
    """Whether tracebacks are wanted: ``--debug``, or the variable that it sets."""
    return os.environ.get("VOCO_DEBUG", "0") not in ("", "0")


def _unforeseen(error: BaseException) -> VocoError:
    """What no line of ours has foreseen: the parser's and the system's refusals, and faults of our own."""
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
    """A command line that cannot be parsed."""
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
