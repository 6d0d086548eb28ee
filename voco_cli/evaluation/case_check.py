"""Whether an image and its label map belong together: headers, fit of borders, air, sides of the patient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from voco_cli.cache.orientation import axes_to_ras, ras_affine
from voco_cli.evaluation.label_fit import AXIS_WORDS, Fit, LabelFit, label_fit
from voco_cli.evaluation.outside import looks_like_ct, outside_shares
from voco_cli.evaluation.patient_case import PatientCase, in_patient_axes, lies_on_grid_of, patient_case
from voco_cli.evaluation.sides import Centre, wrong_sides
from voco_cli.scans.geometry import axis_codes, grid_shift_mm, storage_order
from voco_cli.scans.label_map import whole_labels
from voco_cli.scans.scan import Scan
from voco_cli.scans.stored_like import placement

MOST_OUTSIDE, MOST_NAMED = 0.5, 5
FEWEST_VOXELS = 10
"""Of a structure, for its centre to say something of sides."""


@dataclass(frozen=True)
class Finding:
    """Something that seems wrong, on which ground."""

    kind: Literal["empty", "header", "fit", "outside", "sides"]
    sentence: str


@dataclass(frozen=True)
class CaseCheck:
    """What was found.

    Attributes:
        findings: nothing where image and label seem to belong together.
        fit: of the label as it is and turned over; none where nothing can be concluded.
    """

    findings: tuple[Finding, ...]
    fit: LabelFit | None


def check_case(
    image: Scan,
    label: Scan,
    names: Mapping[str, Sequence[int]],
    modality: str = "unknown",
    word: str = "label map",
) -> CaseCheck:
    """Look for a label map that is flipped, transposed, displaced, or of another scan.

    Args:
        image, label: as read.
        names: structures and their label values; empty where they are not known.
        modality: CT, or what the intensities look like if unknown.
        word: what sentences call the label map.
    Raises:
        DataError, GeometryError: as `patient_case`.
    """
    case = patient_case(image, label, None)
    assert case.label_xyz is not None
    if not case.label_xyz.any():
        return CaseCheck((Finding("empty", f"The {word} is empty: every voxel is 0."),), None)
    fit = label_fit(case.image_xyz, case.label_xyz, case.spacing_mm)
    by_voxel = _better_by_voxel(image, label, case, fit)
    findings = [*_header(image, label, fit, by_voxel, word), *([] if by_voxel else _fit(fit, word))]
    if modality == "CT" or (modality == "unknown" and looks_like_ct(case.image_xyz)):
        findings += _outside(case, case.label_xyz, names, word)
    both = "; it fits the image, so both seem mirrored" if fit and not fit.better and not fit.astray else ""
    findings += [
        Finding("sides", f"By its structures' names the {word} seems mirrored {AXIS_WORDS[one.axis]}: {one}{both}.")
        for one in wrong_sides(_centres(case.label_xyz, case.spacing_mm, names))
    ]
    return CaseCheck(tuple(findings), fit)


def _better_by_voxel(image: Scan, label: Scan, case: PatientCase, fit: LabelFit | None) -> Fit | None:
    """The fit of the label as if it had the header of the image, where its own is another and fits clearly worse."""
    if fit is None or image.shape_xyz != label.shape_xyz or lies_on_grid_of(label, image):
        return None
    by_voxel = in_patient_axes(whole_labels(label.array_zyx), *axes_to_ras(ras_affine(image)))
    other = label_fit(case.image_xyz, by_voxel, case.spacing_mm)
    return None if other is None else LabelFit((fit.as_is, other.as_is)).better


def _header(image: Scan, label: Scan, fit: LabelFit | None, by_voxel: Fit | None, word: str) -> list[Finding]:
    """How the grids differ, in numbers; and whether the label fits better voxel by voxel than by its header."""
    order = storage_order(placement(label), label.shape_xyz, placement(image), image.shape_xyz)
    if order is not None and (order.is_same or by_voxel is None):
        return []
    said = [
        f"{what} {theirs} against {ours}"
        for what, ours, theirs in (
            ("shape", *("x".join(map(str, one.shape_xyz)) for one in (image, label))),
            ("spacing", *(_numbers(one.spacing_xyz_mm) for one in (image, label))),
            ("origin", *(_numbers(one.origin_xyz_mm) for one in (image, label))),
            ("axes", *(axis_codes(one.direction) for one in (image, label))),
        )
        if ours != theirs
    ]
    sentence = f"The {word} lies on another grid than the image ({'; '.join(said) or 'directions differ'})"
    if image.shape_xyz == label.shape_xyz:
        apart_mm = grid_shift_mm(placement(label), placement(image), image.shape_xyz)
        sentence += f": the same voxels are up to {apart_mm:.1f} mm apart"
    sentence += "; it is shown where its header puts it"
    if fit is not None and by_voxel is not None:
        figures = _figures(fit.as_is, by_voxel, "if laid on the image voxel by voxel")
        sentence += f", but its header seems wrong: {figures}"
    return [Finding("header", f"{sentence}.")]


def _fit(fit: LabelFit | None, word: str) -> list[Finding]:
    if fit is None:
        return []
    if fit.better is not None:
        turn = fit.better.turn
        seems = "transposed in the axial plane" if turn.exchanged else str(turn)
        figures = _figures(fit.as_is, fit.better, f"{'with' if turn.exchanged else 'if'} {turn}")
        return [Finding("fit", f"The {word} seems {seems}: {figures}.")]
    if fit.astray:
        sentence = (
            f"The {word} seems misplaced, or of another scan: across its borders the image changes hardly more than "
            f"across those of displaced copies ({fit.as_is.above_sd:+.1f} standard deviations, where 3.5 and more are "
            "usual), and flipping it does not help."
        )
        return [Finding("fit", sentence)]
    return []


def _figures(as_is: Fit, other: Fit, how: str) -> str:
    return (
        f"across its borders the image changes by {100 * as_is.jump:.0f} % of its range as it lies "
        f"({as_is.above_sd:+.1f} standard deviations from displaced copies), "
        f"and by {100 * other.jump:.0f} % ({other.above_sd:+.1f}) {how}"
    )


def _outside(
    case: PatientCase, label_xyz: NDArray[Any], names: Mapping[str, Sequence[int]], word: str
) -> list[Finding]:
    shares = outside_shares(case.image_xyz, label_xyz, case.spacing_mm)
    name_of = {value: name for name, values in names.items() for value in values}
    away = [
        f"{name_of.get(value, f'value {value}')} ({100 * share:.0f} %)"
        for value, share in sorted(shares.items(), key=lambda item: -item[1])
        if share > MOST_OUTSIDE
    ]
    if not away:
        return []
    more = f" and {len(away) - MOST_NAMED} more" if len(away) > MOST_NAMED else ""
    named = ", ".join(away[:MOST_NAMED])
    return [Finding("outside", f"The {word} seems misplaced: in the air around the patient lie {named}{more}.")]


def _centres(label_xyz: NDArray[Any], spacing_mm: Centre, names: Mapping[str, Sequence[int]]) -> dict[str, Centre]:
    """Centre of mass of each named structure that is there, mm."""
    boxes = ndimage.find_objects(label_xyz)
    found = {}
    for name, values in names.items():
        count, moments = 0, np.zeros(3)
        for value in values:
            box = boxes[value - 1] if value <= len(boxes) else None
            if box is not None:
                places = np.argwhere(label_xyz[box] == value) + [one.start for one in box]
                count, moments = count + len(places), moments + places.sum(axis=0)
        if count >= FEWEST_VOXELS:
            x, y, z = moments / count * spacing_mm
            found[name] = (float(x), float(y), float(z))
    return found


def _numbers(values: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:.4g}" for value in values) + ") mm"
