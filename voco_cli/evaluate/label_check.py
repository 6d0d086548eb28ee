"""Check that an image and its label map belong together: headers, fit of borders, air, sides of the patient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from voco_cli.data.io.geometry import axis_codes, grid_shift_mm, storage_order
from voco_cli.data.io.image import Scan, placement, whole_labels
from voco_cli.evaluate.label_fit import (
    AXIS_WORDS,
    Fit,
    LabelFit,
    Triple,
    check_orientation,
    label_fit,
    looks_like_ct,
    shares_in_air,
)
from voco_cli.evaluate.patient_case import PatientCase, in_patient_axes, lies_on_grid_of, patient_case

MOST_OUTSIDE, MOST_NAMED = 0.5, 5
FEWEST_VOXELS = 10
"""Of a structure, for its centre to say something of sides."""


@dataclass(frozen=True)
class LabelFinding:
    """Something that seems wrong, on which ground."""

    kind: Literal["empty", "header", "fit", "outside", "sides"]
    sentence: str


@dataclass(frozen=True)
class LabelCheck:
    """Findings of one label map.

    Attributes:
        findings: nothing where image and label seem to belong together.
        fit: of the label as it is and turned over; None where nothing can be concluded.
    """

    findings: tuple[LabelFinding, ...]
    fit: LabelFit | None


def check_label(
    image: Scan,
    label: Scan,
    names: Mapping[str, Sequence[int]],
    modality: str = "unknown",
    word: str = "label map",
) -> LabelCheck:
    """Look for a label map that is flipped, transposed, displaced, or of another scan.

    Args:
        image, label: as read.
        names: structures and their label values; empty where they are not known.
        modality: if unknown, whether it is a CT follows from the intensities.
        word: what sentences call the label map.
    Raises:
        DataError, GeometryError: as `patient_case`.
    """
    case = patient_case(image, label, None)
    assert case.label_xyz is not None
    if not case.label_xyz.any():
        return LabelCheck((LabelFinding("empty", f"The {word} is empty: every voxel is 0."),), None)
    fit = label_fit(case.image_xyz, case.label_xyz, case.spacing_mm)
    by_voxel = _better_by_voxel(image, label, case, fit)
    findings = [*_header_findings(image, label, fit, by_voxel, word), *([] if by_voxel else _fit_findings(fit, word))]
    if modality == "CT" or (modality == "unknown" and looks_like_ct(case.image_xyz)):
        findings += _in_air(case, case.label_xyz, names, word)
    both = "; it fits the image, so both seem mirrored" if fit and not fit.better and not fit.astray else ""
    findings += [
        LabelFinding(
            "sides", f"By its structures' names the {word} seems mirrored {AXIS_WORDS[one.axis]}: {one}{both}."
        )
        for one in check_orientation(_centres(case.label_xyz, case.spacing_mm, names))
    ]
    return LabelCheck(tuple(findings), fit)


def label_faults(image: Scan, label: Scan, names: Mapping[str, Sequence[int]], modality: str) -> tuple[str, ...]:
    """Return the sentences of `check_label` on a label map that seems to lie wrong; an empty one lies nowhere."""
    findings = check_label(image, label, names, modality).findings
    return tuple(finding.sentence for finding in findings if finding.kind != "empty")


def _better_by_voxel(image: Scan, label: Scan, case: PatientCase, fit: LabelFit | None) -> Fit | None:
    """Return the fit of the label under the header of the image, where its own is another and fits clearly worse."""
    if fit is None or image.shape_xyz != label.shape_xyz or lies_on_grid_of(label, image):
        return None
    by_voxel = in_patient_axes(whole_labels(label.array_zyx), image)
    other = label_fit(case.image_xyz, by_voxel, case.spacing_mm)
    return None if other is None else LabelFit((fit.as_is, other.as_is)).better


def _header_findings(
    image: Scan, label: Scan, fit: LabelFit | None, by_voxel: Fit | None, word: str
) -> list[LabelFinding]:
    """Say in numbers how the grids differ, and whether the label fits better voxel by voxel than by its header."""
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
    return [LabelFinding("header", f"{sentence}.")]


def _fit_findings(fit: LabelFit | None, word: str) -> list[LabelFinding]:
    if fit is None:
        return []
    if fit.better is not None:
        turn = fit.better.turn
        seems = "transposed in the axial plane" if turn.exchanged else str(turn)
        figures = _figures(fit.as_is, fit.better, f"{'with' if turn.exchanged else 'if'} {turn}")
        return [LabelFinding("fit", f"The {word} seems {seems}: {figures}.")]
    if fit.astray:
        sentence = (
            f"The {word} seems misplaced, or of another scan: across its borders the image changes hardly more than "
            f"across those of displaced copies ({fit.as_is.above_sd:+.1f} standard deviations, where 3.5 and more are "
            "usual), and flipping it does not help."
        )
        return [LabelFinding("fit", sentence)]
    return []


def _figures(as_is: Fit, other: Fit, how: str) -> str:
    return (
        f"across its borders the image changes by {100 * as_is.jump:.0f} % of its range as it lies "
        f"({as_is.above_sd:+.1f} standard deviations from displaced copies), "
        f"and by {100 * other.jump:.0f} % ({other.above_sd:+.1f}) {how}"
    )


def _in_air(
    case: PatientCase, label_xyz: NDArray[Any], names: Mapping[str, Sequence[int]], word: str
) -> list[LabelFinding]:
    shares = shares_in_air(case.image_xyz, label_xyz, case.spacing_mm)
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
    return [LabelFinding("outside", f"The {word} seems misplaced: in the air around the patient lie {named}{more}.")]


def _centres(label_xyz: NDArray[Any], spacing_mm: Triple, names: Mapping[str, Sequence[int]]) -> dict[str, Triple]:
    """Return the centre of mass of each named structure that is there, mm."""
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
