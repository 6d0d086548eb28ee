"""`voco locate`: ask a pre-trained network where in the body crops of a scan lie."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from voco_cli.cli.options import (
    AtOption,
    DeviceOption,
    JsonOption,
    PictureOption,
    PretrainedArgument,
    ScanArgument,
    crop_centre,
    picture_path,
)
from voco_cli.document.terminal import done, note, print_blocks, print_json, progress, shell_words, warn
from voco_cli.errors import UsageError

if TYPE_CHECKING:
    from voco_cli.document.blocks import Block, Value
    from voco_cli.figures.locate import LocatedScan

DRAWN = 4
"""Crops that are drawn where none are asked for."""


def locate(
    run: PretrainedArgument,
    scan: ScanArgument,
    at: AtOption = None,
    crops: Annotated[int | None, typer.Option("--crops", min=1, help="Number of random crops (by default 4).")] = None,
    against: Annotated[
        Path | None,
        typer.Option("--against", metavar="SCAN", help="Look among the base crops of this other scan."),
    ] = None,
    checkpoint: Annotated[
        Literal["last", "best"],
        typer.Option("--checkpoint", help="The last checkpoint, or the one with the lowest rank."),
    ] = "last",
    device: DeviceOption = None,
    output: PictureOption = None,
    as_json: JsonOption = False,
) -> None:
    """Draw where a network thinks crops of a scan lie.

    All crops of a call are projected together, as in training, so that logits depend a little on what else is asked.
    """
    picture = picture_path(scan, output, "location", as_json)
    centres = [crop_centre(text) for text in at or ()]
    if centres and crops is not None:
        raise UsageError("--at and --crops exclude each other.", "leave one of them out")

    from voco_cli.config.load import read_resolved
    from voco_cli.data.index.intensity import suit_scans, with_preprocess
    from voco_cli.data.io.reader import read_scan
    from voco_cli.pretrain.inference import open_pretrained
    from voco_cli.pretrain.locate import locate as locate_crops
    from voco_cli.pretrain.locate import location_record

    with progress("locate", 3) as advance:
        pretrained = open_pretrained(run, device, checkpoint)
        advance()
        asked, other = read_scan(scan), None if against is None else read_scan(against)
        suited = suit_scans(read_resolved(run / "settings.yaml"), [asked, *([other] if other else [])], settable=False)
        settings = with_preprocess(pretrained.settings, suited)
        located = locate_crops(replace(pretrained, settings=settings), asked, centres, crops or DRAWN, other)
        advance()
        if picture is not None:
            from voco_cli.figures.locate import draw_located_scan

            draw_located_scan(located, picture)
        advance()
    for text in suited.notes:
        note(text)
    for text in suited.warnings:
        warn(text, style="yellow")
    if as_json:
        names = {"run": str(run), "scan": str(scan), "against": str(against) if against else None}
        print_json({**names, "picture": str(picture) if picture else None, **location_record(located)})
        return
    print_blocks(location_blocks(located))
    done([picture] if picture else [], shell_words("voco", "embed", run, scan, "-o", "embeddings.npz"))


def location_blocks(located: LocatedScan) -> list[Block]:
    """Return a table of one row a crop, base crops numbered from 1, as in the picture; and the mean rank."""
    from voco_cli.document.blocks import Column, Sentence, Table
    from voco_cli.figures.crops import crop_name

    target = f" among the base crops of {located.target.name}" if located.target else ""
    grid = "x".join(map(str, located.scene.grid))
    columns = [
        *map(Column, ("crop", "centre, voxels")),
        Column("most likely base", True),
        *(Column(heading, True, ".3f") for heading in ("its logit", "its label")),
        Column("true base", True),
        Column("rank of it", True, "g"),
    ]
    rows: list[list[Value]] = []
    for answer in located.answers:
        words = [crop_name(answer.crop), ", ".join(map(str, answer.centre))]
        rows.append([*words, answer.likely + 1, answer.logit, answer.label, answer.true + 1, answer.rank])
    return [
        Sentence(f"{located.scene.name}{target}: {located.run} at step {located.step}, grid {grid}"),
        Table.of("", columns, rows),
        Sentence(f"mean rank {located.mean_rank:.2f}; 0 is first, guessing gives {located.chance_rank:g}"),
    ]
