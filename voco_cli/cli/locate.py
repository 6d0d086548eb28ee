"""`voco locate`: ask a pre-trained network where in the body crops of a scan lie."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from voco_cli.cli.options import DeviceOption, JsonOption, crop_centre, picture_path
from voco_cli.document.terminal import done, folded, note, out, print_json, progress, shell_words, warn
from voco_cli.errors import UsageError

if TYPE_CHECKING:
    from voco_cli.figures.locate import LocatedScan

DRAWN = 4
"""Crops that are drawn where none are asked for."""


def locate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder of voco pretrain.")],
    scan: Annotated[
        Path,
        typer.Argument(metavar="SCAN", help="Scan: a NIfTI, NRRD or MetaImage file, or a folder with a DICOM series."),
    ],
    at: Annotated[
        list[str] | None,
        typer.Option(
            "--at", metavar="X,Y[,Z]", help="Centre of a crop, voxels of the preprocessed volume; repeatable."
        ),
    ] = None,
    crops: Annotated[
        int | None, typer.Option("--crops", min=1, help="Number of random crops; 4 if none is given.")
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option("--against", metavar="SCAN", help="Look among the base crops of this other scan."),
    ] = None,
    checkpoint: Annotated[
        Literal["last", "best"], typer.Option("--checkpoint", help="The last checkpoint, or that with the lowest rank.")
    ] = "last",
    device: DeviceOption = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Picture to write: .png, .pdf or .svg; SCAN_location.png if not given."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Draw where a network believes crops of a scan to lie.

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
    _print_table(located)
    done([picture] if picture else [], shell_words("voco", "embed", run, scan, "-o", "embeddings.npz"))


def _print_table(located: LocatedScan) -> None:
    """Print one row a crop; base crops are numbered from 1, as in the picture."""
    from rich.table import Table

    from voco_cli.figures.crops import crop_name

    target = f" among the base crops of {located.target.name}" if located.target else ""
    grid = "x".join(map(str, located.scene.grid))
    out.print(
        f"{located.scene.name}{target}: {located.run} at step {located.step}, grid {grid}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    table = Table(
        *folded("crop", "centre, voxels", "most likely base", "its logit", "its label", "true base", "rank of it")
    )
    for answer in located.answers:
        table.add_row(
            crop_name(answer.crop),
            ", ".join(map(str, answer.centre)),
            str(answer.likely + 1),
            f"{answer.logit:.3f}",
            f"{answer.label:.3f}",
            str(answer.true + 1),
            f"{answer.rank:g}",
        )
    out.print(table)
    out.print(f"mean rank {located.mean_rank:.2f}; 0 is first, guessing gives {located.chance_rank:g}", highlight=False)
