"""`voco synthesize` without its command line: tumours on a labelled scan, written on the scan's own grid."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voco_cli.atomic_files import write_atomic
from voco_cli.config.tumour_schema import TumourRules
from voco_cli.data.index.painted import IMAGES, NIFTI, PAINTED_FORMAT, painted_copies
from voco_cli.data.index.patients import case_of, patients_of
from voco_cli.data.io.dicom_slices import read_slices
from voco_cli.data.io.image import LARGEST_LABEL, Scan, hounsfield_doubt, placement, stored_like, whole_labels
from voco_cli.data.io.reader import file_format, read_scan, write_scan
from voco_cli.data.synthetic.tumour_parts import Triple, Voxel
from voco_cli.data.synthetic.tumours import (
    Box,
    PaintedTumour,
    Painting,
    box_around,
    is_any,
    paint_tumours,
    prepare,
    repaint,
    tumour_voxels,
)
from voco_cli.errors import DataError, GeometryError, UsageError
from voco_cli.evaluate.patient_case import in_patient_axes, patient_case
from voco_cli.evaluate.segmentation.classes import NOT_CLASSES
from voco_cli.objectives.draws import counter_generator
from voco_cli.workflows.case_files import CaseFiles, value_names

LESION = "tumour"
"""Name of the class that painted voxels get, where the label map has no such class."""


@dataclass(frozen=True)
class Request:
    """What is to be painted.

    Attributes:
        organs: names, or label values.
        radius_mm, number: least and most, of a tumour and of a copy.
        lesion: name of the class of painted voxels.
        classes: names of the label values, as `value_names` takes them.
    """

    scan: Path
    label: Path
    organs: tuple[str, ...]
    radius_mm: tuple[float, float] = (5.0, 20.0)
    number: tuple[int, int] = (1, 3)
    seed: int = 0
    copies: int = 1
    lesion: str = LESION
    classes: str | None = None
    rules: TumourRules = field(default_factory=TumourRules)


@dataclass(frozen=True)
class Healthy:
    """A scan and its label map, ready to be painted on; arrays are views in the patient's axes.

    Attributes:
        patient: as `voco index` tells it; painted copies are of the same.
        original: the scan, or what it is itself a painted copy of.
        names: label value to name, that of a painted voxel among them.
        organs: name to label values.
        value: label value of a painted voxel.
        part: box around the organs, as far as a tumour reaches.
        mean_hu: of the first organ.
        doubts: what speaks against the voxels being HU.
    """

    case: str
    patient: str
    original: Path
    scan: Scan
    labels_zyx: NDArray[Any]
    spacing_mm: Triple
    names: Mapping[int, str]
    organs: Mapping[str, tuple[int, ...]]
    value: int
    part: Box
    mean_hu: float
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True)
class PaintedCase:
    """A painted copy.

    Attributes:
        scan: on the grid of the healthy one.
        labels_zyx: its label map.
        tumours: their middles are voxels of the whole scan in the patient's axes.
        unplaced_mm: radii of those that no place was found for.
        rejected: tumours that a network did not find.
    """

    name: str
    scan: Scan
    labels_zyx: NDArray[Any]
    tumours: tuple[PaintedTumour, ...]
    unplaced_mm: tuple[float, ...]
    rejected: tuple[PaintedTumour, ...] = ()


Finder = Callable[[Scan], NDArray[np.bool_]]
"""From a scan to the voxels that a network takes for tumour, in the order of the scan's array."""


def open_healthy(request: Request) -> Healthy:
    """Read a scan and its label map and find the organs.

    Raises:
        DataError, GeometryError: files that cannot be read; a scan with NaN or infinite voxels; label maps on another
            grid, or with what is no label.
        UsageError: an organ that is not in the label map, has no voxels, or is smaller than the tumours; background, or
            a lesion that is the organ.
    """
    scan, label = read_scan(request.scan), read_scan(request.label)
    if lacking := int((~np.isfinite(scan.array_zyx)).sum()):
        raise DataError(
            f"{request.scan} holds voxels that are not finite numbers ({lacking}).",
            "training refuses it, too; give them values first, such as -1024 (air) outside the field of view",
        )
    stored = stored_like(label, placement(scan), scan.shape_xyz, "its scan")
    if stored is None:
        raise GeometryError(
            f"{request.label} lies on another grid than {request.scan}.", "give the label map of this scan"
        )
    try:
        labels_zyx = whole_labels(stored.array_zyx)
    except ValueError as error:
        raise DataError(f"{request.label} {error}.", "give a label map: 0 is background") from error
    case, path = case_of(request.scan), request.scan.absolute()
    known = value_names(CaseFiles(case, scan, request.label), None, None, request.classes)
    named = dict(known.structures)
    organs = dict(_organ(text, named, request.label) for text in request.organs)
    labels = in_patient_axes(labels_zyx, scan)
    spacing_mm = patient_case(replace(scan, array_zyx=labels_zyx), None, None).spacing_mm
    value = _lesion_value(request.lesion, named, organs, labels)
    for name, values in organs.items():
        _require_room(name, is_any(labels, values), request, math.prod(spacing_mm))
    reach = [math.ceil(request.rules.reach * request.radius_mm[1] / step) + 4 for step in spacing_mm]
    part = box_around(is_any(labels, [one for values in organs.values() for one in values]), reach)
    assert part is not None  # every organ has voxels
    doubt = hounsfield_doubt(scan.array_zyx)
    names = {one: name for name, values in named.items() for one in values}
    return Healthy(
        case=case,
        patient=_patient(path),
        original=copies[path].original if (copies := painted_copies([path])) else path,
        scan=scan,
        labels_zyx=labels_zyx.astype(np.uint16) if value > np.iinfo(labels_zyx.dtype).max else labels_zyx,
        spacing_mm=spacing_mm,
        names={**names, value: request.lesion},
        organs=organs,
        value=value,
        part=part,
        mean_hu=float(in_patient_axes(scan.array_zyx, scan)[is_any(labels, next(iter(organs.values())))].mean()),
        doubts=() if doubt is None else (f"{request.scan} may not be in Hounsfield units: {doubt}.",),
    )


def _patient(path: Path) -> str:
    """Return the patient of a scan as an index of its folder tells it: by DICOM, or else by names."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    first = next((one for one in files if one.is_file() and file_format(one) == "dicom"), None)
    if first is not None or path.is_dir():
        return (read_slices(first)[0].patient if first else "") or patients_of([path])[path]
    return patients_of(one for one in path.parent.iterdir() if one.suffix == path.suffix)[path]


def _organ(text: str, named: Mapping[str, tuple[int, ...]], label: Path) -> tuple[str, tuple[int, ...]]:
    """Return name and label values of an organ that was named, or given as a label value."""
    if text.isdecimal() and text not in named:
        value = int(text)
        if not value:
            raise UsageError(f"--organ {text} is the background of {label}.", "name an organ, or give its value")
        return next((name for name, values in named.items() if value in values), text), (value,)
    by_case = {name.casefold(): name for name in named}
    if text.casefold() in by_case:
        name = by_case[text.casefold()]
        return name, named[name]
    if not named:
        raise UsageError(
            f"{label} has no names of its label values, and --organ {text} names one.",
            f"give the value, such as --organ 1, or names with --classes {text}=1",
        )
    near = [name for name in named if text.casefold() in name.casefold()] or difflib.get_close_matches(text, named)
    hint = f"did you mean {' or '.join(near[:4])}?" if near else f"it has {', '.join(list(named)[:8])}"
    raise UsageError(f"{label} has no class {text!r}.", hint)


def _require_room(name: str, inside: NDArray[np.bool_], request: Request, voxel_mm3: float) -> None:
    """Refuse an organ without voxels, and tumours that it could not hold."""
    volume_mm3 = int(inside.sum()) * voxel_mm3
    if not volume_mm3:
        raise UsageError(f"{request.label} has no voxel of {name}.", "name an organ that is in the scan")
    radius_mm = (volume_mm3 * 3 / 4 / math.pi) ** (1 / 3)
    if request.radius_mm[1] > radius_mm:
        raise UsageError(
            f"Tumours of {request.radius_mm[1]:g} mm radius are larger than {name}, which has the volume of a ball of "
            f"{radius_mm:.0f} mm.",
            f"give smaller ones, such as --size {min(5, radius_mm / 4):.0f}:{math.floor(radius_mm / 2)}",
        )


def _lesion_value(
    lesion: str, named: Mapping[str, tuple[int, ...]], organs: Mapping[str, tuple[int, ...]], labels: NDArray[Any]
) -> int:
    """Return the label value of the class of that name, or else the first after all that are there; no organ's."""
    if lesion.strip().lower() in {"", *NOT_CLASSES}:
        raise UsageError(f"--lesion {lesion!r} names no class.", f"name one, such as --lesion {LESION}")
    values = named.get(lesion, ())
    for organ, own in organs.items():
        if lesion.casefold() == organ.casefold() or set(values) & set(own):
            raise UsageError(
                f"--lesion {lesion} is the organ {organ}, which painted voxels could not be told from.",
                f"give the lesion a class of its own, such as --lesion {LESION}",
            )
    if values:
        return values[0]
    value = max([int(labels.max(initial=0)), *(value for values in named.values() for value in values)]) + 1
    if value > LARGEST_LABEL:
        raise UsageError(
            f"The label map has the value {value - 1}, and no room for another of {lesion}.",
            "name a class that it has with --lesion, or give smaller label values",
        )
    return value


def paint_copies(request: Request, healthy: Healthy, find: Finder | None, least_found: float) -> Iterator[PaintedCase]:
    """Paint the copies of a request, one after another; the same request paints the same.

    Args:
        find: a network that must find more than ``least_found`` of a tumour's voxels; others are not kept. None keeps
            all.
    """
    for copy in range(request.copies):
        rng = counter_generator(request.seed, copy, healthy.case, "tumours")
        count = int(rng.integers(request.number[0], request.number[1] + 1))
        radii = sorted((float(one) for one in rng.uniform(*request.radius_mm, count)), reverse=True)
        canvas = _canvas(request, healthy)
        painted = _whole(healthy, f"{healthy.case}_{copy + 1}", paint_tumours(canvas, radii, rng))
        if find is not None and painted.tumours:
            painted = _kept(request, healthy, painted, find(painted.scan), least_found)
        yield painted


def _canvas(request: Request, healthy: Healthy) -> Any:
    image, labels = (in_patient_axes(one, healthy.scan) for one in (healthy.scan.array_zyx, healthy.labels_zyx))
    part = healthy.part
    return prepare(image[part], labels[part], healthy.spacing_mm, healthy.organs, healthy.value, request.rules)


def _whole(healthy: Healthy, name: str, painting: Painting) -> PaintedCase:
    """Put a painted part back into its scan; voxels that no tumour changed keep their very values."""
    array_zyx, labels_zyx = healthy.scan.array_zyx.copy(), healthy.labels_zyx.copy()
    image = in_patient_axes(array_zyx, healthy.scan)[healthy.part]
    changed = painting.image_hu != image.astype(np.float32)
    image[changed] = _stored_as(painting.image_hu[changed], image.dtype)
    in_patient_axes(labels_zyx, healthy.scan)[healthy.part] = painting.labels
    moved = tuple(_moved(one, [part.start for part in healthy.part]) for one in painting.tumours)
    return PaintedCase(
        name, replace(healthy.scan, array_zyx=array_zyx, notes=()), labels_zyx, moved, painting.unplaced_mm
    )


def _moved(one: PaintedTumour, by: Sequence[int]) -> PaintedTumour:
    x, y, z = (middle + step for middle, step in zip(one.centre, by, strict=True))
    return replace(one, centre=(x, y, z))


def _stored_as(values: NDArray[np.float32], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return intensities in the number format of a scan: rounded, and cut to what it holds."""
    if dtype.kind == "f":
        return values.astype(dtype)
    limits = np.iinfo(dtype)
    return np.clip(np.rint(values.astype(np.float64)), limits.min, limits.max).astype(dtype)


def _kept(
    request: Request, healthy: Healthy, painted: PaintedCase, found_zyx: NDArray[np.bool_], least_found: float
) -> PaintedCase:
    """Paint the scan again with the tumours alone that a network finds."""
    labels, found = (in_patient_axes(one, healthy.scan) for one in (painted.labels_zyx, found_zyx))
    kept: list[PaintedTumour] = []
    rejected: list[PaintedTumour] = []
    for one in painted.tumours:
        box, inside = tumour_voxels(labels, healthy.value, one, healthy.spacing_mm)
        (kept if found[box][inside].mean() > least_found else rejected).append(one)
    if not rejected:
        return painted
    back = [-part.start for part in healthy.part]
    again = _whole(healthy, painted.name, repaint(_canvas(request, healthy), [_moved(one, back) for one in kept]))
    return replace(again, unplaced_mm=painted.unplaced_mm, rejected=tuple(rejected))


def file_voxel(centre: Voxel, scan: Scan) -> list[int]:
    """Return a voxel in the patient's axes as x, y, z of the file."""
    marked = np.zeros(scan.array_zyx.shape, bool)
    in_patient_axes(marked, scan)[centre] = True
    z, y, x = (int(one[0]) for one in np.nonzero(marked))
    return [x, y, z]


def write_pair(painted: PaintedCase, healthy: Healthy, request: Request, folder: Path) -> list[Path]:
    """Write a painted scan, its label map with the names of its values, and what was painted.

    Raises:
        ResourceError: the disk is full.
    """
    image, label = (folder / part / f"{painted.name}{NIFTI}" for part in (IMAGES, "labelsTr"))
    write_scan(painted.scan.array_zyx, healthy.scan, image)
    write_scan(painted.labels_zyx, healthy.scan, label)
    names = {"0": "background", **{str(value): name for value, name in sorted(healthy.names.items())}}
    record = painted_record(painted, healthy, request)
    files = {folder / "labelsTr" / f"{painted.name}.json": names, folder / f"{painted.name}.json": record}
    for path, content in files.items():
        write_atomic(path, json.dumps(content, indent=1).encode() + b"\n")
    return [image, label, *files]


def painted_record(painted: PaintedCase, healthy: Healthy, request: Request) -> dict[str, Any]:
    """Return what was painted as JSON; middles are voxels of the file."""

    def row(one: PaintedTumour) -> dict[str, Any]:
        return {
            "organ": one.organ,
            "centre_xyz_vox": file_voxel(one.centre, healthy.scan),
            "radius_mm": round(one.tumour.radius_mm, 2),
            "half_axes_xyz_mm": [round(axis, 2) for axis in one.tumour.half_axes_mm],
            "voxels": one.voxels,
            "volume_ml": round(one.volume_ml, 4),
            "drop_hu": round(one.drop_hu, 1),
        }

    return {
        "format": PAINTED_FORMAT,
        "case": painted.name,
        "patient": healthy.patient,
        "scan": healthy.scan.path.name,
        "original": str(healthy.original),
        "label": request.label.name,
        "lesion": {"name": request.lesion, "value": healthy.value},
        "seed": request.seed,
        "size_mm": list(request.radius_mm),
        "number": list(request.number),
        "tumours": [row(one) for one in painted.tumours],
        "rejected": [row(one) for one in painted.rejected],
        "without_place_mm": [round(one, 2) for one in painted.unplaced_mm],
        "rules": request.rules.model_dump(mode="json"),
    }
