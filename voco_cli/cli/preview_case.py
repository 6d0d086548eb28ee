"""`voco preview-case`: draw an image with its label map and a prediction, and check that they belong together."""

from __future__ import annotations

import difflib
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from voco_cli.cli.options import JsonOption, complete_tasks, picture_path
from voco_cli.document.terminal import done, out, print_json, progress, shell_words, warn
from voco_cli.errors import DataError, UsageError, VocoError

if TYPE_CHECKING:
    from voco_cli.data.index.datalist import Entry
    from voco_cli.data.io.image import Scan
    from voco_cli.evaluate.label_check import LabelCheck
    from voco_cli.evaluate.label_fit import LabelFit
    from voco_cli.evaluate.patient_case import PatientCase
    from voco_cli.figures.case_scene import CaseScene


NamedValues = tuple[tuple[str, tuple[int, ...]], ...]


@dataclass(frozen=True)
class ValueNames:
    """Names of label values.

    Attributes:
        structures: names and the values of each; empty where they are not known.
        origin: where the names come from, for people.
        ignore: value of voxels that nobody annotated, if there is one.
    """

    structures: NamedValues = ()
    origin: str = ""
    ignore: int | None = None


@dataclass(frozen=True)
class CaseFiles:
    """A case to show.

    Attributes:
        name: of the case.
        image: as it was read.
        label: file of the label map, if there is one.
        modality: as the list says.
        names: of label values, where the list knows them.
    """

    name: str
    image: Scan
    label: Path | None
    modality: str = "unknown"
    names: ValueNames = ValueNames()


def case_files(image: Path, label: Path | None, case: str | None, *, first: bool = False) -> CaseFiles:
    """Read the image of a case and find its label.

    Args:
        image: an image, or a data.json.
        label: file of the label map; of a case of a data.json only in place of its own.
        case: name of a case of the data.json.
        first: take the first case of the list where none is named.
    Raises:
        UsageError: no such case, or a case without a list.
        DataError, GeometryError: as `read_scan`.
    """
    from voco_cli.data.index.datalist import read_entry
    from voco_cli.data.index.datalist_file import read_datalist
    from voco_cli.data.index.patients import case_of
    from voco_cli.data.io.image import ignored_value
    from voco_cli.data.io.reader import read_scan

    if image.suffix.lower() != ".json":
        if case is not None:
            raise UsageError(f"--case {case} names a case of a data.json, and {image} is none.", "leave --case out")
        return CaseFiles(case_of(image), read_scan(image), label)
    datalist = read_datalist(image, check_files=False)
    entries = [entry for _, entry in datalist.entries()]
    entry = entries[0] if first and case is None and entries else _entry(entries, case, image)
    ignore = ignored_value(datalist.labels)
    values = ((name, int(value)) for value, name in datalist.labels.items() if value.isdigit())
    names = tuple((name, (value,)) for name, value in values if value not in (0, ignore))
    known = ValueNames(names, str(image), ignore)
    return CaseFiles(entry.name, read_entry(entry), label or entry.label, entry.modality, known)


def _entry(entries: list[Entry], case: str | None, path: Path) -> Entry:
    known = {entry.name: entry for entry in entries}
    if case in known:
        return known[case]
    labelled = [entry.name for entry in entries if entry.label is not None] or list(known)
    if case is None:
        raise UsageError(
            f"{path} lists {len(known)} cases, and one of them is to be shown.",
            f"say which with --case, such as --case {labelled[0]}" if labelled else None,
        )
    near = difflib.get_close_matches(case, known, 3, 0.5) or labelled[:3]
    raise UsageError(f"{path} has no case {case!r}.", f"did you mean {', '.join(near)}?" if near else None)


def value_names(files: CaseFiles, prediction: Path | None, task: str | None, classes: str | None) -> ValueNames:
    """Find the names of the label values: by options, in the list, or in a file beside the label maps.

    Raises:
        UsageError: both options, or one that names nothing.
        DataError: a file of names that cannot be read.
    """
    from voco_cli.config import load_settings
    from voco_cli.data.index.scan_files import names_beside, names_file
    from voco_cli.evaluate.segmentation.classes import classes_beside, read_classes

    if task is not None and classes is not None:
        raise UsageError("--task and --classes both name the label values.", "give one of them")
    if task is not None:
        listed = load_settings(task=task).settings.task
        if listed.kind != "segmentation":
            raise UsageError(f"--task {task} is a classification, and has no label map.", "give --classes")
        named = tuple((one.name, one.values) for one in listed.classes)
        return ValueNames(named, f"task {listed.name or task}", listed.ignore_value)
    if classes is None and files.names.structures:
        return files.names
    if classes is None and files.label is not None and names_beside(files.label):
        own = names_file(files.label)
        classes = None if own is None else str(own)
    folders = [path.parent for path in (files.label, prediction) if path is not None]
    known = read_classes(classes) if classes else classes_beside(folders[0], folders[-1]) if folders else None
    if known is None:
        return ValueNames()
    named = tuple((one.name, one.labels) for one in known.structures if not one.is_region)
    return ValueNames(named, known.origin, known.ignore)


MOST_UNNAMED, MOST_LISTED = 256, 20


def preview_case(
    image: Annotated[
        Path,
        typer.Argument(
            metavar="IMAGE", help="NIfTI, NRRD or MetaImage file, a folder with a DICOM series, or a data.json."
        ),
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
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", help="Picture to write: .png, .pdf or .svg (by default IMAGE_case.png in this folder)."
        ),
    ] = None,
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
    from voco_cli.evaluate.label_check import check_label
    from voco_cli.evaluate.patient_case import patient_case
    from voco_cli.figures.case import draw_case_preview
    from voco_cli.figures.case_scene import case_scene
    from voco_cli.figures.slices import shown_structures

    picture = picture_path(Path(case) if case else image, output, "case", as_json)
    given_window = None if window is None else _window(window)
    with progress("preview", 3) as advance:
        files = case_files(image, label, case)
        known = value_names(files, prediction, task, classes)
        maps, ignored = _read_maps(files.label, prediction, known.ignore)
        placed = patient_case(files.image, maps.get("label map"), maps.get("prediction"))
        names = known.structures or _numbered(placed, files.image)
        advance()
        named = dict(names) if known.origin else {}
        checks = {word: check_label(files.image, one, named, files.modality, word) for word, one in maps.items()}
        advance()
        shown, words = _shown_window(files.image, placed, files.modality, task, given_window)
        facts = _facts(files.image, maps, words, known.origin)
        if known.ignore is not None:
            facts.append(f"ignored: {ignored} voxels of value {known.ignore}, which nobody annotated")
        warnings = [finding.sentence for check in checks.values() for finding in check.findings]
        scene = case_scene(files.name, facts, placed, shown_structures(names), shown, slices, warnings)
        if picture is not None:
            draw_case_preview(scene, picture)
        advance()
    if as_json:
        print_json(_record(scene, files.image, maps, checks, picture, known.origin))
    else:
        _print_table(scene, [name for name, _ in names])
    for sentence in scene.warnings:
        warn(f"warning: {sentence}", "yellow")
    if not as_json:
        done([picture] if picture else [], _next(files.label, prediction, task, image))
    if require_fit and scene.warnings:
        raise VocoError("Image and label map do not seem to belong together as they are.", "see the warnings above")


def _read_maps(label: Path | None, prediction: Path | None, ignore: int | None) -> tuple[dict[str, Scan], int]:
    """Read the label maps that are there, by what they are called, without the voxels that nobody annotated.

    Returns:
        the maps, in which such voxels are background, also in the prediction; and the number of these voxels.
    """
    import numpy as np

    from voco_cli.data.io.reader import read_scan

    places = {"label map": label, "prediction": prediction}
    maps = {word: read_scan(path) for word, path in places.items() if path is not None}
    if ignore is None or label is None:
        return maps, 0
    ignored = maps["label map"].array_zyx == ignore
    same = {word: one for word, one in maps.items() if one.array_zyx.shape == ignored.shape}
    cleared = {word: replace(one, array_zyx=np.where(ignored, 0, one.array_zyx)) for word, one in same.items()}
    return {**maps, **cleared}, int(np.count_nonzero(ignored))


def _window(text: str) -> tuple[float, float]:
    """Read ``LOW,HIGH`` as two numbers."""
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        low, high = 1.0, 0.0
    if not low < high:
        raise UsageError(
            f"--window {text} is no range of intensities.", "give two rising numbers, such as --window -175,250"
        )
    return low, high


def _shown_window(
    image: Scan, case: PatientCase, modality: str, task: str | None, given: tuple[float, float] | None
) -> tuple[tuple[float, float], str]:
    """Return the window, as given, as the task has it, or by modality; and the same in words."""
    if given is not None:
        return given, f"{given[0]:g} to {given[1]:g}"
    if task is None:
        from voco_cli.figures.case import default_window

        return default_window(case, modality)
    from voco_cli.config import load_settings
    from voco_cli.data.cache.preprocess import intensity_window

    settings = load_settings(task=task).settings.preprocess
    found = intensity_window(image, settings)
    unit = " HU" if settings.intensity == "window" else ""
    return (found.low, found.high), f"{found.low:.4g} to {found.high:.4g}{unit}, as the task has it"


def _numbered(case: PatientCase, image: Scan) -> NamedValues:
    """Name every value that is there by its number."""
    from voco_cli.figures.case_scene import unlisted_values

    values = sorted(unlisted_values(case, ()))
    if len(values) > MOST_UNNAMED:
        raise DataError(
            f"The label map of {image.path} holds {len(values)} values: is it one?", "name those meant with --classes"
        )
    return tuple((f"value {value}", (value,)) for value in values)


def _facts(image: Scan, maps: dict[str, Scan], window: str, origin: str) -> list[str]:
    from voco_cli.data.io.geometry import axis_codes

    voxels = "\N{MULTIPLICATION SIGN}".join(map(str, image.shape_xyz))
    spacing = "\N{MULTIPLICATION SIGN}".join(f"{step:.4g}" for step in image.spacing_xyz_mm)
    named = [f"{word}: {scan.path.name}" for word, scan in maps.items()] + ([f"names of {origin}"] if origin else [])
    facts = [
        f"image: {image.path.name} · {voxels} voxels of {spacing} mm · axes {axis_codes(image.direction)} · "
        f"window {window}"
    ]
    if lacking := _not_finite(image):
        facts.append(f"{lacking} voxels are no finite numbers: training and prediction refuse such an image")
    return facts + ([" · ".join(named)] if named else [])


def _not_finite(image: Scan) -> int:
    import numpy as np

    return int((~np.isfinite(image.array_zyx)).sum())


def _record(
    scene: CaseScene,
    image: Scan,
    maps: dict[str, Scan],
    checks: dict[str, LabelCheck],
    picture: Path | None,
    origin: str,
) -> dict[str, Any]:
    from voco_cli.data.io.geometry import axis_codes

    return {
        "case": scene.name,
        "image": str(image.path),
        **{word.replace(" map", ""): str(scan.path) for word, scan in maps.items()},
        "picture": str(picture) if picture else None,
        "shape": image.shape_xyz,
        "spacing_mm": image.spacing_xyz_mm,
        "axes": axis_codes(image.direction),
        "not_finite": _not_finite(image),
        "window": scene.window,
        "names": origin or None,
        "structures": [asdict(one) for one in scene.volumes],
        "unlisted": scene.unlisted,
        "fit": {word: _fit_record(check.fit) for word, check in checks.items()},
        "warnings": [
            {"of": word, "kind": finding.kind, "sentence": finding.sentence}
            for word, check in checks.items()
            for finding in check.findings
        ],
    }


def _fit_record(fit: LabelFit | None) -> list[dict[str, Any]] | None:
    if fit is None:
        return None
    return [
        {"turn": str(one.turn), "jump": one.jump, "displaced": one.displaced, "above_sd": one.above_sd}
        for one in fit.fits
    ]


def _print_table(scene: CaseScene, names: list[str]) -> None:
    """Print volumes of the structures; what is not there, and what is of none."""
    from rich.table import Table
    from rich.text import Text

    from voco_cli.figures.case import ml_text, unlisted_text

    def say(line: str) -> None:
        out.print(line, markup=False, highlight=False, soft_wrap=True)

    for line in (scene.name, *scene.facts):
        say(line)
    both = {"label": scene.case.label_xyz, "prediction": scene.case.prediction_xyz}
    maps = [word for word, values in both.items() if values is not None]
    if scene.volumes:
        table = Table("structure", "values", box=None, header_style="bold", pad_edge=False)
        headings = [f"{word} {unit}" for word in maps for unit in ("voxels", "ml")]
        for heading in headings + ["Dice"] * (len(maps) == 2):
            table.add_column(heading, justify="right")
        for one in scene.volumes:
            pairs = ((one.label_voxels, one.label_ml), (one.prediction_voxels, one.prediction_ml))
            told = [(str(n), ml_text(ml).removesuffix(" ml")) for n, ml in pairs if n is not None and ml is not None]
            cells = [text for pair in told for text in pair] + ([] if one.dice is None else [f"{one.dice:.3f}"])
            table.add_row(Text(one.name), ",".join(map(str, one.values)), *cells)
        out.print(table)
    there = {one.name for one in scene.volumes}
    if absent := [name for name in names if maps and name not in there]:
        say(f"not there: {', '.join(absent)}")
    if scene.unlisted:
        say(f"values of no class: {unlisted_text(scene.unlisted, MOST_LISTED)}")


def _next(label: Path | None, prediction: Path | None, task: str | None, image: Path) -> str:
    if label is not None and prediction is not None:
        return shell_words("voco", "evaluate", "--predictions", prediction.parent, "--labels", label.parent)
    if task is not None:
        return shell_words("voco", "tasks", "check", "--task", task)
    if image.suffix.lower() == ".json":
        return shell_words("voco", "pretrain", image)
    return "voco index FOLDER -o data.json"
