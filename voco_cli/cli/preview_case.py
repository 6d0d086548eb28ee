"""`voco tasks preview`: draw an image with its label map and a prediction, and check that they belong together."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from voco_cli.cli.options import SCAN_HELP, JsonOption, PictureOption, complete_tasks, intensity_window, picture_path
from voco_cli.document.terminal import done, print_blocks, print_json, progress, shell_words, warn
from voco_cli.errors import VocoError

if TYPE_CHECKING:
    from voco_cli.document.blocks import Block
    from voco_cli.workflows.preview_case import CasePreview

MOST_LISTED = 20


def preview_case(
    image: Annotated[
        Path,
        typer.Argument(metavar="IMAGE", help=f"{SCAN_HELP}, or a data.json."),
    ],
    label: Annotated[
        Path | None, typer.Argument(metavar="LABEL", help="Label map of the image (by default that of the data.json).")
    ] = None,
    prediction: Annotated[
        Path | None, typer.Option("--prediction", metavar="FILE", help="Predicted label map, drawn as outlines.")
    ] = None,
    case: Annotated[str | None, typer.Option("--case", help="Which case of the data.json.")] = None,
    task: Annotated[
        str | None,
        typer.Option(
            "--task", autocompletion=complete_tasks, help="Task that names the label values and gives the window."
        ),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            help="Names of the label values: data.json, dataset.json, a YAML file with labels, or 'liver=1,spleen=2' "
            "(by default the data.json, or a dataset.json beside the label)."
        ),
    ] = None,
    window: Annotated[
        str | None,
        typer.Option(
            metavar="LOW,HIGH", help="Intensities that become black and white (by default by modality and task)."
        ),
    ] = None,
    slices: Annotated[int, typer.Option("--slices", min=1, max=64, help="Axial slices of the strip.")] = 8,
    output: PictureOption = None,
    require_fit: Annotated[
        bool, typer.Option("--require-fit", help="Exit with 1 where image and label seem flipped or misplaced.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Draw an image with its labels, and warn of flipped ones.

    Three views through the structures, a strip of axial slices, volumes, and the Dice of a prediction. Whether the
    label map lies right is judged by the headers, by the edges of the image under its borders, by the air around the
    patient, and by the names of the structures.
    """
    from voco_cli.figures.case import draw_case_preview
    from voco_cli.workflows.case_files import case_files, value_names
    from voco_cli.workflows.preview_case import preview_case as prepare

    picture = picture_path(Path(case) if case else image, output, "case", as_json)
    given_window = None if window is None else intensity_window(window)
    with progress("preview", 3) as advance:
        files = case_files(image, label, case)
        known = value_names(files, prediction, task, classes)
        preview = prepare(files, known, prediction, task, given_window, slices, advance)
        if picture is not None:
            draw_case_preview(preview.scene, picture)
        advance()
    if as_json:
        print_json(preview.to_json(picture))
    else:
        print_blocks(case_blocks(preview))
    for sentence in preview.scene.warnings:
        warn(f"warning: {sentence}", "yellow")
    if not as_json:
        done([picture] if picture else [], _next(files.label, prediction, task, image))
    if require_fit and preview.scene.warnings:
        raise VocoError("Image and label map do not seem to belong together as they are.", "see the warnings above")


def case_blocks(preview: CasePreview) -> list[Block]:
    """Return facts on the files, volumes of the structures, what is not there, and what is of none."""
    from voco_cli.document.blocks import Bullets, Column, Table
    from voco_cli.figures.case import ml_text, unlisted_text

    scene = preview.scene
    blocks: list[Block] = [Bullets((scene.name, *scene.facts))]
    both = {"label": scene.case.label_xyz, "prediction": scene.case.prediction_xyz}
    maps = [word for word, values in both.items() if values is not None]
    rows = []
    for one in scene.volumes:
        pairs = ((one.label_voxels, one.label_ml), (one.prediction_voxels, one.prediction_ml))
        told = [(str(n), ml_text(ml).removesuffix(" ml")) for n, ml in pairs if n is not None and ml is not None]
        cells = [text for pair in told for text in pair] + ([] if one.dice is None else [f"{one.dice:.3f}"])
        rows.append([one.name, ",".join(map(str, one.values)), *cells])
    if rows:
        headings = [f"{word} {unit}" for word in maps for unit in ("voxels", "ml")] + ["Dice"] * (len(maps) == 2)
        columns = [*map(Column, ("structure", "values")), *(Column(heading, True) for heading in headings)]
        blocks.append(Table.of("", columns, rows))
    there = {one.name for one in scene.volumes}
    absent = [name for name in preview.names if maps and name not in there]
    lines = [f"not there: {', '.join(absent)}"] if absent else []
    if scene.unlisted:
        lines.append(f"values of no class: {unlisted_text(scene.unlisted, MOST_LISTED)}")
    return [*blocks, Bullets(tuple(lines))]


def _next(label: Path | None, prediction: Path | None, task: str | None, image: Path) -> str:
    if label is not None and prediction is not None:
        return shell_words("voco", "evaluate", "--predictions", prediction.parent, "--labels", label.parent)
    if task is not None:
        return shell_words("voco", "tasks", "check", "--task", task)
    if image.suffix.lower() == ".json":
        return shell_words("voco", "pretrain", image)
    return "voco index FOLDER -o data.json"
