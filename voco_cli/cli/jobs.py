"""`voco jobs`: how what was submitted stands."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from voco_cli.cli.options import JsonOption
from voco_cli.cli.submit import JOBS_FOLDER
from voco_cli.document.terminal import done, print_blocks, print_json, shell_words


def jobs(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="That of voco submit --folder, with scripts and logs.")
    ] = JOBS_FOLDER,
    as_json: JsonOption = False,
) -> None:
    """Show how jobs stand that were submitted: step, loss, time.

    All of it is read from what jobs and runs have written, not from SLURM: a job that was killed without a word counts
    as running, and `last written` says since when nothing has come from it.
    """
    from voco_cli.cluster.record import as_dict, read_submitted, standing
    from voco_cli.document.blocks import Column, Table, Value

    found = [(submitted, standing(submitted, folder)) for submitted in read_submitted(folder)]
    if as_json:
        print_json([as_dict(submitted, state) for submitted, state in found])
        return
    rows: list[list[Value]] = []
    for submitted, state in found:
        seen = "" if state.seen_s is None else f"{datetime.fromtimestamp(state.seen_s):%Y-%m-%d %H:%M}"
        step = "" if state.step is None else f"{state.step}" + (f" of {state.steps}" if state.steps else "")
        loss = "" if state.loss is None else f"{state.loss:.4g}"
        left = "" if state.left is None else f"about {state.left}"
        rows.append([submitted.job, state.state, step, loss, left, seen, shell_words("voco", *submitted.command)])
    headings = ("job", "state", "step", "loss", "left", "last written", "command")
    print_blocks([Table.of("", [Column(heading) for heading in headings], rows)])
    following = next((shell_words("voco", "report", submitted.run) for submitted, _ in found if submitted.run), None)
    done([], following)
