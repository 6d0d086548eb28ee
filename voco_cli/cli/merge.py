"""`voco merge`: the parts of all shards of a command put together, as if it had done all scans itself."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Annotated

import typer

from voco_cli.cli.options import JsonOption
from voco_cli.document.terminal import be_quiet, is_quiet


def merge(
    context: typer.Context,
    output: Annotated[
        Path, typer.Argument(metavar="OUTPUT", help="What the command writes whose shards these are, as its -o says.")
    ],
    as_json: JsonOption = False,
) -> None:
    """Put the shards of a command together.

    Checks that all shards are there, whole, and of the same command, settings and scans; then writes what the command
    without --shard writes, and removes the parts. What is missing is named with the command that makes it.
    """
    from voco_cli.data.shards import MergedOutcomes
    from voco_cli.workflows.shards import merging, read_parts

    parts = read_parts(output)
    words = [*parts[0].command, *(["--json"] if as_json else []), *(["--quiet"] if is_quiet() else [])]
    folder, quiet = parts[0].folder, is_quiet()
    outcomes = MergedOutcomes(Path(os.path.abspath(output)), parts)  # noqa: PTH100 (a link stays as it was named)
    try:
        with contextlib.chdir(folder), merging(outcomes):
            code = context.find_root().command(words, prog_name="voco", standalone_mode=False)
    finally:
        be_quiet(quiet)
    if code:
        raise typer.Exit(code)
