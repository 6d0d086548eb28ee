"""`voco doctor`: can this machine pre-train? Line by line."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from voco_cli.cli.options import JsonOption
from voco_cli.document.terminal import done, out, print_json, print_line
from voco_cli.errors import VocoError

if TYPE_CHECKING:
    from voco_cli.resources.machine import Check

STYLES = {"ok": "green", "warning": "yellow", "problem": "bold red"}


def doctor(
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="PATH", help="data.json or folder beside which the cache will lie."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Look at this machine: versions, GPU, memory, disk, cache.

    Each line is ok, a warning or a problem, with what to do. Exit code 1 where pre-training cannot run.
    """
    from voco_cli.resources.doctor import examine

    checks = []
    for check in examine(data):
        checks.append(check)
        if not as_json:
            _print(check)
    problems = [check for check in checks if check.status == "problem"]
    if as_json:
        print_json({"can_pretrain": not problems, "checks": [asdict(check) for check in checks]})
    if problems:
        first = problems[0]
        others = len(problems) - 1
        more = f" {others} more {'problem is' if others == 1 else 'problems are'} above." if others else ""
        raise VocoError(f"Pre-training cannot run here: {first.name}: {first.found.rstrip('.')}.{more}", first.advice)
    if not as_json:
        print_line("Pre-training can run here.", "bold green")
        done([], f"voco plan {data}" if data is not None and data.is_file() else "voco index SCANS")


def _print(check: Check) -> None:
    line = Text(f"{check.status:<8}", style=STYLES[check.status])
    line.append(f"{check.name}: ", style="bold")
    line.append(check.found, style="")
    out.print(line, highlight=False, soft_wrap=True)
    if check.advice:
        print_line(f"        {check.advice}")
