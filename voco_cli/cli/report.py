"""`voco report`: runs, studies and comparisons as one HTML file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from voco_cli.cli.options import JsonOption
from voco_cli.document.terminal import done, print_json, progress
from voco_cli.errors import UsageError

NAME = "report.html"


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN",
            help="Folders of voco pretrain, voco finetune, voco study or voco compare -o; several stand side by side.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="HTML file to write; by default report.html in the run, of several in the current folder.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write one page on a run, or on several side by side.

    Verdict, curves, pictures, tables, settings and data in one HTML file, which opens offline.
    """
    target = _target(runs, output)
    from voco_cli.atomic_files import write_atomic
    from voco_cli.document.html import render
    from voco_cli.report.page import find_runs, gather_page

    shown = find_runs(runs)
    with progress("report", len(shown)) as advance:
        page = gather_page(shown, advance)
    content = render(page).encode(errors="replace")  # a name on disk need not be text
    write_atomic(target, content)
    if as_json:
        rows = [
            {"run": one.place, "name": one.title, "kind": one.kind, "status": one.status, "result": one.result}
            for one in page.sections
            if one.place
        ]
        print_json({"report": str(target), "bytes": len(content), "runs": rows})
        return
    done([target], f"open {target} in a browser")


def _target(runs: Sequence[Path], output: Path | None) -> Path:
    """Return where the page goes.

    Raises:
        UsageError: a folder, or a name that no browser takes for a page.
    """
    if output is None:
        return runs[0] / NAME if len(runs) == 1 else Path(NAME)
    if os.path.isdir(output):  # noqa: PTH112 (unlike Path.is_dir, it bears a name that no disk takes)
        raise UsageError(f"-o {output} is a folder.", f"name the file: -o {output / NAME}")
    if output.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"{output} does not end like a page.", "end it with .html")
    return output
