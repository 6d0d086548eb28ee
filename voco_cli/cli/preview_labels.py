"""`voco preview-labels`: draw the method on one scan, as one picture."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from voco_cli.cli.options import (
    ConfigOption,
    JsonOption,
    RecipeOption,
    SetOption,
    crop_centre,
    picture_path,
    require_agreement,
)
from voco_cli.cli.preview_case import case_files
from voco_cli.document.terminal import done, folded, note, out, print_json, progress, warn
from voco_cli.errors import UsageError
from voco_cli.operating_system import seems_to_have_gpu

if TYPE_CHECKING:
    from voco_cli.figures.crops import LabelPreview


def preview_labels(
    scan: Annotated[
        Path,
        typer.Argument(
            metavar="SCAN", help="NIfTI, NRRD or MetaImage file, a folder with a DICOM series, or a data.json."
        ),
    ],
    case: Annotated[
        str | None, typer.Option("--case", help="Which case of the data.json (by default its first).")
    ] = None,
    recipe: RecipeOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    grid: Annotated[
        str | None,
        typer.Option(
            "--grid",
            metavar="GXxGY[xGZ]",
            help="Base crops along x, y and z, such as 4x4 or 4x4x2 (by default the recipe's).",
        ),
    ] = None,
    crops: Annotated[
        int | None, typer.Option("--crops", min=1, help="Number of random crops (by default the recipe's).")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Seed of the random draws (by default 0).")] = None,
    at: Annotated[
        list[str] | None,
        typer.Option(
            "--at",
            metavar="X,Y[,Z]",
            help="Centre of a crop in place of a random one, in voxels of the preprocessed scan; repeatable.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", help="Picture to write: .png, .pdf or .svg (by default SCAN_labels.png in this folder)."
        ),
    ] = None,
    augmented: Annotated[
        bool, typer.Option("--augmented", help="Also show the crops as the network gets them, after augmentation.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Draw the method on one scan: its crops and their labels.

    The label of a random crop is the share of it that each base crop covers. This is what the encoder learns to tell.
    """
    from voco_cli.config import load_settings
    from voco_cli.data.index.intensity import suit_scans
    from voco_cli.figures.crops import label_scene, network_crops, preview_record, preview_scan

    picture = picture_path(Path(case) if case else scan, output, "labels", as_json)
    centres = [crop_centre(text) for text in at or ()]
    flags: dict[str, object] = {"crops.grid": grid, "crops.random_per_volume": crops, "seed": seed}
    require_agreement({**flags, "recipe": recipe}, set_ or ())
    try:
        resolved = load_settings(recipe, config, set_ or (), flags)
    except UsageError:
        flags["crops.size"] = _size_for(grid, recipe, config, set_ or ())
        if flags["crops.size"] is None:
            raise
        resolved = load_settings(recipe, config, set_ or (), flags)
    with progress("preview", 3) as advance:
        files = case_files(scan, None, case, first=True)
        volume = files.image
        advance()
        suited = suit_scans(resolved, [volume], files.modality)
        preview = preview_scan(volume, suited.resolved.settings, centres)
        advance()
        if picture is not None:
            from voco_cli.figures.position_labels import draw_label_preview

            draw_label_preview(label_scene(preview, network_crops(preview) if augmented else None), picture)
        advance()
    for text in suited.notes:
        note(text)
    for text in suited.warnings:
        warn(text, style="yellow")
    if as_json:
        place = str(picture) if picture else None
        print_json({"scan": str(scan), "picture": place, **preview_record(preview, augmented)})
        return
    _print_table(preview)
    recipe_words = "" if seems_to_have_gpu() else " --recipe debug"
    index = "" if scan.suffix == ".json" else "voco index FOLDER -o data.json, then "
    data = shlex.quote(str(scan)) if scan.suffix == ".json" else "data.json"
    done([picture] if picture else [], f"{index}voco pretrain {data}{recipe_words}")


def _size_for(
    grid: str | None, recipe: str | None, config: Path | None, overrides: Sequence[str]
) -> tuple[int, ...] | None:
    """Return the size of crops that share out the recipe's volume under another grid; None where it was given."""
    from voco_cli.config import load_settings

    try:
        resolved = load_settings(recipe, config, overrides)
    except UsageError:
        return None
    volume, cells = resolved.settings.preprocess.resize_vox, (grid or "").lower().split("x")
    given = not resolved.sources["crops.size"].startswith(("recipe", "default"))
    if volume is None or given or len(cells) not in (2, 3) or not all(cell.isdigit() and int(cell) for cell in cells):
        return None
    counts = [*map(int, cells), 1][:3]
    if any(edge % count for edge, count in zip(volume, counts, strict=True)):
        return None
    return tuple(edge // count for edge, count in zip(volume, counts, strict=True))


def _print_table(preview: LabelPreview) -> None:
    """Print centre and shares of each random crop; base crops are numbered from 1, as in the picture."""
    from rich.table import Table

    from voco_cli.figures.crops import crop_name

    crops = preview.crops
    size = "x".join(map(str, preview.volume.array_xyz.shape))
    grid = "x".join(map(str, preview.settings.crops.grid))
    out.print(
        f"{preview.case}: {size} voxels after preprocessing, grid {grid}, recipe {preview.settings.recipe}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    table = Table(*folded("crop", "centre, voxels", "share in each base crop (number: share)", "sum"))
    for number, centre in enumerate((crops.centres_S3 + crops.region_start_3).tolist()):
        shares = crops.labels_SK[number]
        listed = "  ".join(
            f"{base}:\N{NO-BREAK SPACE}{share:.3f}" for base, share in enumerate(shares, start=1) if share > 0
        )
        table.add_row(crop_name(number), ", ".join(map(str, centre)), listed, f"{shares.sum():.3f}")
    out.print(table)
