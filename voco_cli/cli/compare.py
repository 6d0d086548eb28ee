"""`voco compare`: evaluations of the same cases, paired."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from voco_cli.cli.options import JsonOption, RequireCleanOption, SplitChoice
from voco_cli.document.terminal import done, print_blocks, print_json, shell_words, warn
from voco_cli.errors import UsageError
from voco_cli.foreign_text import visible

if TYPE_CHECKING:
    from voco_cli.document.blocks import Block
    from voco_cli.workflows.compare import Compared


def compare(
    evaluations: Annotated[
        list[Path],
        typer.Argument(
            metavar="EVALUATION",
            help="Folders that voco evaluate wrote, or runs of voco finetune; the first is compared with.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="DIR", help="Folder for comparison.json, comparison.md and comparison.png."
        ),
    ] = Path("comparison"),
    metric: Annotated[
        str | None,
        typer.Option(
            metavar="METRIC",
            help="Metric of the tables and the picture of segmentations: dice (by default), iou, nsd (surface Dice), "
            "hd95_mm or asd_mm; comparison.json has all.",
        ),
    ] = None,
    resamples: Annotated[
        int,
        typer.Option(
            min=100, help="Bootstrap resamples of the patients, and permutations where categories are compared."
        ),
    ] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the resamples.")] = 0,
    split: SplitChoice = None,
    require_clean: RequireCleanOption = False,
    as_json: JsonOption = False,
) -> None:
    """Compare evaluations of the same cases, with paired tests.

    Differences with their intervals, tests over patients, the cases that changed most, and one picture.
    """
    from voco_cli.atomic_files import write_atomic
    from voco_cli.evaluate.read_results import evaluation_folders, read_results
    from voco_cli.workflows.compare import (
        compare_evaluations,
        names_of,
        require_all_clean,
        require_one_split,
        same_folders,
    )

    if len(evaluations) < 2:
        raise UsageError("One evaluation cannot be compared.", "Give two or more folders that voco evaluate wrote.")
    stored = [read_results(folder) for folder in evaluation_folders(evaluations, split)]
    names = names_of(evaluations)
    for line in same_folders(names, stored):
        warn(f"note: {line}")
    require_one_split(names, stored)
    if require_clean:
        require_all_clean(names, stored)
    compared = compare_evaluations(names, stored, metric, resamples, seed)
    contents = {
        "comparison.json": json.dumps(compared.content, indent=2, allow_nan=False).encode() + b"\n",
        "comparison.md": visible(compared.page).encode(),
        "comparison.png": compared.picture,
    }
    for name, content in contents.items():
        write_atomic(output / name, content)
    if as_json:
        print_json(compared.content)
        return
    print_blocks(comparison_blocks(compared))
    done([output / name for name in contents], shell_words("voco", "report", output))


def comparison_blocks(compared: Compared) -> list[Block]:
    """Return the tables and the lines below them, what spoils the figures as warnings."""
    from voco_cli.document.blocks import Bullets, Sentence, Table

    blocks: list[Block] = []
    for table in compared.tables:
        headings, rows, names = list(table.headings), table.rows, table.names
        if len(compared.runs) == 2:  # one run needs no column of its name
            headings = [compared.runs[1] if heading == "run's" else heading for heading in headings[1:]]
            rows, names = [row[1:] for row in rows], names - 1
        blocks.append(Table.of(table.title, headings, rows, names=names))
    blocks.append(Bullets(compared.statements))
    blocks += [Sentence(line, "warning" if line.startswith("warning: ") else "plain") for line in compared.training]
    return [*blocks, *(Sentence(line, "plain" if compared.spotless else "warning") for line in compared.leakage)]
