"""The command as a user calls it, in a process of its own that need not load the libraries again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import IO, NoReturn

from rich.console import Console

from voco_cli.__main__ import main
from voco_cli.cli import app as command_line
from voco_cli.document import terminal

__all__ = ["command_line", "forked", "voco"]  # the first is loaded here, before the fork


def voco(*arguments: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``voco`` in a fork of this process, without a terminal; a new interpreter would load torch for seconds.

    Where the start of Python itself is tested, or what a command imports, ``python -m voco_cli`` is the one to call.

    Args:
        environment: on top of ours, without what is ours of VOCO_ and COLUMNS.
    """
    return forked(main, ["voco", *map(str, arguments)], cwd, environment)


def forked(
    program: Callable[[], object], words: list[str], cwd: Path, environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run a program in a fork of this process; what it sets, breaks or leaves behind ends with it.

    Args:
        words: its ``sys.argv``.
    """
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as error:
        child = os.fork()
        if child == 0:
            _run(program, words, cwd, environment, out, error)
        try:
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        except BaseException:
            os.kill(child, signal.SIGKILL)
            raise
        out.seek(0)
        error.seek(0)
        return subprocess.CompletedProcess(words, code, out.read(), error.read())


def _run(
    program: Callable[[], object],
    words: list[str],
    cwd: Path,
    environment: dict[str, str],
    out: IO[str],
    error: IO[str],
) -> NoReturn:
    code = 1
    try:
        os.chdir(cwd)
        for name in [name for name in os.environ if name.startswith(("VOCO_", "COLUMNS"))]:
            del os.environ[name]
        os.environ.update(environment)
        for number, file in ((0, os.open(os.devnull, os.O_RDONLY)), (1, out.fileno()), (2, error.fileno())):
            os.dup2(file, number)
        sys.stdin, sys.stdout, sys.stderr = (
            open(number, mode, closefd=False, errors=errors)  # noqa: SIM115
            for number, mode, errors in ((0, "r", None), (1, "w", None), (2, "w", "backslashreplace"))
        )
        # As at their import: they read the environment and what the streams are.
        Console.__init__(terminal.out, width=terminal._width(sys.stdout))
        Console.__init__(terminal.err, stderr=True, width=terminal._width(sys.stderr))
        if torch := sys.modules.get("torch"):
            torch.set_num_threads(1)  # a fork has none of the threads that OpenMP believes in
        sys.argv = words
        program()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
