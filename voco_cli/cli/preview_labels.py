"""`voco preview-labels`: draw the method on one scan, as one picture."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from voco_cli.cli.option_groups import OptionGroup, with_option_group
from voco_cli.cli.options import (
    AtOption,
    ConfigOption,
    JsonOption,
    ListedScanArgument,
    PictureOption,
    RecipeOption,
    SetOption,
    crop_centre,
    picture_path,
    setting_option,
)
from voco_cli.document.terminal import done, note, print_blocks, print_json, progress, warn
from voco_cli.errors import UsageError
from voco_cli.operating_system import seems_to_have_gpu

if TYPE_CHECKING:
    from voco_cli.document.blocks import Block, Value
    from voco_cli.figures.crops import LabelPreview


@dataclass(frozen=True, kw_only=True)
class LabelOptions(OptionGroup):
    """What crops and labels of a scan follow from."""

    recipe: RecipeOption = None
    config: ConfigOption = None
    override: SetOption = None
    grid: Annotated[
        str | None, setting_option("crops.grid", "--grid", default="the recipe's", metavar="GXxGY[xGZ]")
    ] = None
    crops: Annotated[
        int | None, setting_option("crops.random_per_volume", "--crops", default="the recipe's", min=1)
    ] = None
    seed: Annotated[int | None, setting_option("seed", "--seed", default="0", min=0)] = None


@with_option_group
def preview_labels(
    scan: ListedScanArgument,
    options: LabelOptions,
    case: Annotated[
        str | None, typer.Option("--case", help="Which case of the data.json (by default its first).")
    ] = None,
    at: AtOption = None,
    output: PictureOption = None,
    augmented: Annotated[
        bool, typer.Option("--augmented", help="Also show the crops as the network gets them, after augmentation.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Draw the method on one scan: its crops and their labels.

    The label of a random crop is the share of it that each base crop covers. This is what the encoder learns to tell.
    """
    from voco_cli.data.index.intensity import suit_scans
    from voco_cli.figures.crops import label_scene, network_crops, preview_record, preview_scan
    from voco_cli.workflows.case_files import case_files

    picture = picture_path(Path(case) if case else scan, output, "labels", as_json)
    centres = [crop_centre(text) for text in at or ()]
    try:
        resolved = options.resolve()
    except UsageError:
        size = _size_for(options)
        if size is None:
            raise
        resolved = options.resolve({"crops.size": size})
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
    print_blocks(label_blocks(preview))
    recipe_words = "" if seems_to_have_gpu() else " --recipe debug"
    index = "" if scan.suffix == ".json" else "voco index FOLDER -o data.json, then "
    data = shlex.quote(str(scan)) if scan.suffix == ".json" else "data.json"
    done([picture] if picture else [], f"{index}voco pretrain {data}{recipe_words}")


def _size_for(options: LabelOptions) -> tuple[int, ...] | None:
    """Return the size of crops that share out the recipe's volume under another grid; None where it was given."""
    try:
        resolved = replace(options, grid=None).resolve()
    except UsageError:
        return None
    volume, cells = resolved.settings.preprocess.resize_vox, (options.grid or "").lower().split("x")
    given = not resolved.sources["crops.size"].startswith(("recipe", "default"))
    if volume is None or given or len(cells) not in (2, 3) or not all(cell.isdigit() and int(cell) for cell in cells):
        return None
    counts = [*map(int, cells), 1][:3]
    if any(edge % count for edge, count in zip(volume, counts, strict=True)):
        return None
    return tuple(edge // count for edge, count in zip(volume, counts, strict=True))


def label_blocks(preview: LabelPreview) -> list[Block]:
    """Return a table of the centre and the shares of each random crop; base crops are numbered as in the picture."""
    from voco_cli.document.blocks import Column, Sentence, Table
    from voco_cli.figures.crops import crop_name

    crops = preview.crops
    size = "x".join(map(str, preview.volume.array_xyz.shape))
    grid = "x".join(map(str, preview.settings.crops.grid))
    rows: list[list[Value]] = []
    for number, centre in enumerate((crops.centres_S3 + crops.region_start_3).tolist()):
        shares = crops.labels_SK[number]
        listed = "  ".join(
            f"{base}:\N{NO-BREAK SPACE}{share:.3f}" for base, share in enumerate(shares, start=1) if share > 0
        )
        rows.append([crop_name(number), ", ".join(map(str, centre)), listed, float(shares.sum())])
    columns = [*map(Column, ("crop", "centre, voxels", "share in each base crop (number: share)"))]
    words = f"{size} voxels after preprocessing, grid {grid}, recipe {preview.settings.recipe}"
    return [Sentence(f"{preview.case}: {words}"), Table.of("", [*columns, Column("sum", True, ".3f")], rows)]
