"""How commands talk: results on stdout, progress and errors on stderr, plain lines without a terminal."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from voco_cli.errors import VocoError

out = Console(soft_wrap=False)
err = Console(stderr=True)

PLAIN_LINE_EVERY_S = 10.0


def print_json(value: Any) -> None:
    """Write ``value`` to stdout as JSON and nothing else."""
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")


def print_error(error: VocoError) -> None:
    """One sentence on stderr, and what to do on the next line; markup in file names is not interpreted."""
    err.print("error:", style="bold red", end=" ")
    err.print(error.message, markup=False, highlight=False, soft_wrap=True)
    if error.hint:
        err.print("hint:", style="bold cyan", end=" ")
        err.print(error.hint, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def progress(description: str, total: int | None) -> Iterator[Callable[..., None]]:
    """A bar with rate and remaining time, or a plain line every ten seconds where there is no terminal.

    Yields:
        ``advance(n=1)``, to be called as items are finished.
    """
    if not err.is_terminal:
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
    """The last lines of a command: what it wrote, and what to run next."""
    for path in wrote:
        out.print(f"wrote {path}", markup=False, highlight=False, soft_wrap=True)
    if next_command:
        out.print(f"next: {next_command}", markup=False, highlight=False, soft_wrap=True)
