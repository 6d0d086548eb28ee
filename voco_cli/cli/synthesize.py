"""`voco synthesize`: tumours painted into the organs of a labelled scan, and what readers make of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from voco_cli.cli.option_groups import group_with_default
from voco_cli.cli.options import DeviceOption, ForceOption, JsonOption, ScanArgument, intensity_window
from voco_cli.document.terminal import done, print_blocks, print_json, print_line, progress, shell_words, warn
from voco_cli.errors import UsageError, VocoError

if TYPE_CHECKING:
    from voco_cli.document.blocks import Block, Value
    from voco_cli.evaluate.readers import ReaderResult
    from voco_cli.workflows.synthesize import Finder, Healthy, PaintedCase

app = typer.Typer(
    cls=group_with_default("paint"),
    help="Paint tumours onto healthy scans; test readers with them.\n\n`voco synthesize SCAN LABEL` "
    "paints; kit makes a page of shuffled real and painted crops for readers; read measures their answers.",
    no_args_is_help=True,
)


@app.command("paint")
def paint(
    scan: ScanArgument,
    label: Annotated[Path, typer.Argument(metavar="LABEL", help="Label map of the scan with its organs.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for pairs and pictures.")],
    organ: Annotated[
        list[str], typer.Option("--organ", metavar="NAME", help="Organ by name or label value; repeatable.")
    ],
    size: Annotated[
        str, typer.Option("--size", metavar="MM:MM", help="Least and most radius of a tumour, mm.")
    ] = "5:20",
    number: Annotated[str, typer.Option("--number", metavar="N:N", help="Fewest and most tumours of a copy.")] = "1:3",
    copies: Annotated[int, typer.Option("--copies", min=1, help="Painted copies of the scan.")] = 1,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of every random draw.")] = 0,
    lesion: Annotated[str, typer.Option("--lesion", help="Name of the class that painted voxels get.")] = "tumour",
    classes: Annotated[
        str | None,
        typer.Option(
            help="Names of the label values: data.json, dataset.json, a YAML file with labels, or 'liver=1,spleen=2' "
            "(by default what lies beside the label map)."
        ),
    ] = None,
    filter_run: Annotated[
        Path | None,
        typer.Option("--filter", metavar="RUN", help="Keep the tumours alone that this fine-tuned network finds."),
    ] = None,
    least_found: Annotated[
        float, typer.Option("--least-found", min=0, max=1, help="Share of a tumour that it must find more than.")
    ] = 0.7,
    rules: Annotated[
        Path | None,
        typer.Option("--rules", metavar="FILE", help="YAML file with constants of the painter (task.tumours.rules)."),
    ] = None,
    device: DeviceOption = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Paint tumours into organs of a scan; the word paint may be left out.

    Image and label map lie on the scan's own grid, in its number format; a picture shows each tumour in three planes
    before and after, and a JSON file says what was painted. The same seed paints the same.
    """
    from voco_cli.workflows.synthesize import Request, open_healthy, paint_copies, write_pair

    sizes, counts = _pair("--size", size, float), _pair("--number", number, int)
    request = Request(scan, label, tuple(organ), sizes, counts, seed, copies, lesion, classes, **_rules(rules))
    healthy = open_healthy(request)
    for doubt in healthy.doubts:
        warn(f"warning: {doubt}", "yellow")
    targets = [output / "imagesTr" / f"{healthy.case}_{copy + 1}.nii.gz" for copy in range(copies)]
    if not force and (there := next((one for one in targets if one.exists()), None)):
        raise UsageError(f"{there} exists.", "choose another folder, or replace it with --force")
    find = None if filter_run is None else _finder(filter_run, lesion, device, output)
    made: list[PaintedCase] = []
    written: list[Path] = []
    with progress("painting", copies) as advance:
        for painted in paint_copies(request, healthy, find, least_found):
            if painted.tumours:
                written += write_pair(painted, healthy, request, output)
                written.append(_draw(painted, healthy, output))
            made.append(replace(painted, scan=healthy.scan, labels_zyx=healthy.labels_zyx))  # voxels are written
            advance()
    if as_json:
        print_json(_summary(made, written))
    else:
        print_blocks(painted_blocks(made))
        done(written, shell_words("voco", "index", output, "-o", output / "data.json") if written else "")
    if not written:
        why = "the network found none of them" if any(one.rejected for one in made) else "no place was found"
        raise VocoError(f"Nothing was painted: {why}.", "try smaller tumours (--size), or another --seed")


def _pair(option: str, text: str, kind: type) -> Any:
    """Read ``LEAST:MOST``, or one number for both."""
    try:
        parts = [kind(part) for part in text.split(":")]
    except ValueError:
        parts = []
    low, high = parts * 2 if len(parts) == 1 else parts if len(parts) == 2 else (1, 0)
    if not 0 < low <= high < 1e4:
        example = "5:20" if kind is float else "1:3"
        raise UsageError(f"{option} {text} is no range.", f"give least and most, such as {option} {example}")
    return (low, high)


def _rules(path: Path | None) -> dict[str, Any]:
    """Read constants of the painter."""
    if path is None:
        return {}
    from pydantic import ValidationError

    from voco_cli.config.sources import nest, yaml_layer
    from voco_cli.config.tumour_schema import TumourRules

    try:
        return {"rules": TumourRules.model_validate(nest(yaml_layer(path).values))}
    except ValidationError as error:
        one = error.errors()[0]
        key, why = ".".join(map(str, one["loc"])), one["msg"].removeprefix("Value error, ")
        raise UsageError(f"{path}: {key}: {why}.", "see task.tumours.rules in `voco config show --all`") from error


def _finder(run: Path, lesion: str, device: str | None, output: Path) -> Finder:
    from voco_cli.workflows.found_tumours import finder

    return finder(run, lesion, device, output)


def _draw(painted: PaintedCase, healthy: Healthy, output: Path) -> Path:
    from voco_cli.evaluate.patient_case import patient_case
    from voco_cli.figures.tumour_views import ShownTumour, draw_painted

    before, after = (patient_case(one, None, None) for one in (healthy.scan, painted.scan))
    middle = 10 * round(float(healthy.mean_hu) / 10)
    shown = [
        ShownTumour(
            one.centre,
            f"{one.organ}: {one.volume_ml:.2f} ml, radius {one.tumour.radius_mm:.1f} mm, "
            f"{abs(one.drop_hu):.0f} HU {'lighter' if one.drop_hu < 0 else 'darker'}",
        )
        for one in painted.tumours
    ]
    path = output / f"{painted.name}.png"
    draw_painted(painted.name, before, after, shown, (middle - 130.0, middle + 130.0), path)
    return path


def painted_blocks(made: list[PaintedCase]) -> list[Block]:
    """Return one row a tumour, and what was left out."""
    from voco_cli.document.blocks import Bullets, Column, Table

    columns = [
        *map(Column, ("copy", "organ")),
        Column("radius mm", True, ".1f"),
        Column("volume ml", True, ".2f"),
        Column("darker by HU", True, ".0f"),
    ]
    rows: list[list[Value]] = [
        [one.name, tumour.organ, tumour.tumour.radius_mm, tumour.volume_ml, tumour.drop_hu]
        for one in made
        for tumour in one.tumours
    ]
    lines = []
    if lighter := sum(tumour.drop_hu < 0 for one in made for tumour in one.tumours):
        lines.append(
            f"{lighter} of {len(rows)} came out lighter than their organ, so that they cannot be told from it or look "
            "enhanced; a fainter capsule helps (capsule_hu in --rules)."
        )
    unplaced = [radius for one in made for radius in one.unplaced_mm]
    if unplaced:
        words = ", ".join(f"{radius:.0f}" for radius in unplaced[:8])
        lines.append(f"No place without a vessel was found for {len(unplaced)} of radius {words} mm.")
    rejected, kept = sum(len(one.rejected) for one in made), len(rows)
    if rejected:
        lines.append(f"The network did not find {rejected} of {rejected + kept} ({rejected / (rejected + kept):.0%}).")
    return [Table.of("painted tumours", columns, rows), Bullets(tuple(lines))]


def _summary(made: list[PaintedCase], written: list[Path]) -> dict[str, Any]:
    rejected, kept = (sum(len(getattr(one, what)) for one in made) for what in ("rejected", "tumours"))
    return {
        "painted": kept,
        "lighter": sum(tumour.drop_hu < 0 for one in made for tumour in one.tumours),
        "without_place": sum(len(one.unplaced_mm) for one in made),
        "rejected": rejected,
        "rejected_share": rejected / (rejected + kept) if rejected + kept else None,
        "written": written,
    }


@app.command("kit")
def kit(
    painted: Annotated[Path, typer.Argument(metavar="DIR", help="Folder that voco synthesize wrote.")],
    real: Annotated[
        Path, typer.Option("--real", metavar="DATA.json", help="List of labelled scans with real lesions.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for the page and its key.")],
    lesion: Annotated[str, typer.Option("--lesion", help="Name of the lesions' class in that list.")] = "tumour",
    crops: Annotated[int, typer.Option("--crops", min=2, help="Crops in all, half of them painted.")] = 40,
    width: Annotated[float, typer.Option("--width-mm", min=20, help="Width of a view, mm.")] = 90.0,
    window: Annotated[
        str, typer.Option("--window", metavar="LOW,HIGH", help="Intensities that become black and white.")
    ] = "-50,200",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of choice and order.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Make a page of shuffled real and painted lesions for readers.

    One HTML file that needs nothing else, asks real or painted of each crop and saves the answers as CSV. The key is a
    file of its own, which the readers must not have.
    """
    from voco_cli.workflows.readers import make_kit

    shown_hu = intensity_window(window)
    with progress("drawing", crops) as advance:
        made = make_kit(
            painted, real, lesion, output, crops=crops, width_mm=width, window=shown_hu, seed=seed, on_done=advance
        )
    if as_json:
        print_json({"page": made.page, "key": made.key, "real": made.real, "painted": made.painted})
        return
    print_line(f"{made.real} real and {made.painted} painted lesions; give the page to readers, and keep the key.")
    done([made.page, made.key], shell_words("voco", "synthesize", "read", output, "answers.csv"))


@app.command("read")
def read(
    kit_folder: Annotated[Path, typer.Argument(metavar="KIT", help="Folder that voco synthesize kit wrote.")],
    answers: Annotated[list[Path], typer.Argument(metavar="CSV...", help="Answers that the page saved, one a reader.")],
    as_json: JsonOption = False,
) -> None:
    """Measure how well readers told painted lesions from real ones.

    Sensitivity is the share of painted lesions that were called painted, specificity that of real ones called real,
    each with its exact 95 % interval.
    """
    from voco_cli.workflows.readers import read_answers

    results = read_answers(kit_folder, answers)
    if as_json:
        print_json({"positive": "painted", "readers": [reader_object(one) for one in results]})
    else:
        print_blocks(reader_blocks(results))


FIGURES = ("sensitivity", "specificity", "accuracy")


def reader_object(result: ReaderResult) -> dict[str, Any]:
    """Return a reader's figures as JSON holds them."""
    from voco_cli.evaluate.tables import without_nan

    figures = {}
    for name in FIGURES:
        share = getattr(result, name)
        low, high = share.interval
        figures[name] = {"part": share.part, "of": share.total, "value": share.value, "low": low, "high": high}
    return dict(without_nan({"reader": result.reader, **figures, "unanswered": result.unanswered}))


def reader_blocks(results: list[ReaderResult]) -> list[Block]:
    """Return a row a reader: shares of the painted and of the real with their exact intervals."""
    from voco_cli.document.blocks import Bullets, Column, Table
    from voco_cli.evaluate.tables import with_interval

    columns = [Column("reader"), *(Column(name, True) for name in (*FIGURES, "unanswered"))]
    rows = [
        [
            one.reader,
            *(with_interval(share.value, *share.interval) for share in (getattr(one, name) for name in FIGURES)),
            str(one.unanswered),
        ]
        for one in results
    ]
    words = "Sensitivity: painted that were called painted; specificity: real that were called real; guessing is 0.5."
    return [Table.of("readers", columns, rows), Bullets((words, "Intervals: 95 %, exact (Clopper and Pearson)."))]
