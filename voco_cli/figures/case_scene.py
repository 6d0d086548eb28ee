"""What the preview of a case shows, before it is drawn: which slices, which part of them, volumes of structures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from voco_cli.evaluation.outside import looks_like_ct
from voco_cli.evaluation.overlap import volume_ml
from voco_cli.evaluation.patient_case import PatientCase, value_counts
from voco_cli.figures.case_slices import ShownStructure, choose_slices

BODY_ABOVE_HU = -500.0
COARSE = 96
"""Edge, voxels, of the grid on which the body and the slices to show are looked for."""
MARGIN_SHARE = 0.03

IntTriple = tuple[int, int, int]


@dataclass(frozen=True)
class StructureVolume:
    """A structure and how much of it there is; none where there is no such map."""

    structure: ShownStructure
    label_voxels: int | None
    label_ml: float | None
    prediction_voxels: int | None
    prediction_ml: float | None


@dataclass(frozen=True)
class CaseScene:
    """One case and what is said of it.

    Attributes:
        name: as it is to be shown.
        facts: lines under the title: files, grid, window.
        case: image, label map and prediction.
        window: intensities that are black and white.
        volumes: of the structures that are shown.
        unlisted: label values of no structure, with their voxels.
        planes: slices across x, y, z of the three views.
        strip: slices across z of the strip.
        low, high: the part of the volume that is shown, voxels.
        warnings: sentences.
    """

    name: str
    facts: tuple[str, ...]
    case: PatientCase
    window: tuple[float, float]
    volumes: tuple[StructureVolume, ...]
    unlisted: Mapping[int, int]
    planes: IntTriple
    strip: tuple[int, ...]
    low: IntTriple
    high: IntTriple
    warnings: tuple[str, ...] = ()

    @property
    def structures(self) -> tuple[ShownStructure, ...]:
        """What is coloured."""
        return tuple(one.structure for one in self.volumes)

    @property
    def shown_mm(self) -> tuple[float, float, float]:
        """Size of the part that is shown."""
        x, y, z = (
            (high - low) * step for low, high, step in zip(self.low, self.high, self.case.spacing_mm, strict=True)
        )
        return (x, y, z)


def case_scene(
    name: str,
    facts: Sequence[str],
    case: PatientCase,
    structures: Sequence[ShownStructure],
    window: tuple[float, float],
    num_slices: int,
    warnings: Sequence[str] = (),
) -> CaseScene:
    """Choose what to show of a case: slices through most of its structures, without the air around the patient.

    Args:
        structures: those that are not there are left out of the picture.
        num_slices: axial slices of the strip, at most.
    """
    low, high = _shown_box(case)
    volumes = structure_volumes(case, structures)
    there = tuple(one for one in volumes if one.label_voxels or one.prediction_voxels)
    return CaseScene(
        name=name,
        facts=tuple(facts),
        case=case,
        window=window,
        volumes=there,
        unlisted=unlisted_values(case, structures),
        planes=_planes(case, [one.structure for one in there]),
        strip=tuple(choose_slices(case, [one.structure for one in there], num_slices)),
        low=low,
        high=high,
        warnings=tuple(warnings),
    )


def structure_volumes(case: PatientCase, structures: Sequence[ShownStructure]) -> tuple[StructureVolume, ...]:
    """Voxels and millilitres of each structure in label and prediction."""
    counts = [None if one is None else value_counts(one).sum(axis=1) for one in (case.label_xyz, case.prediction_xyz)]
    found = []
    for structure in structures:
        label, prediction = (
            None if one is None else sum(int(one[value]) for value in structure.values if value < one.size)
            for one in counts
        )
        label_ml, prediction_ml = (
            None if one is None else volume_ml(one, case.spacing_mm) for one in (label, prediction)
        )
        found.append(StructureVolume(structure, label, label_ml, prediction, prediction_ml))
    return tuple(found)


def unlisted_values(case: PatientCase, structures: Sequence[ShownStructure]) -> dict[int, int]:
    """Values of no structure, 0 left out, with their voxels in label and prediction."""
    listed = {value for one in structures for value in one.values}
    found: dict[int, int] = {}
    for values in (case.label_xyz, case.prediction_xyz):
        if values is not None:
            for value, count in enumerate(value_counts(values).sum(axis=1).tolist()):
                if value and count and value not in listed:
                    found[value] = found.get(value, 0) + count
    return dict(sorted(found.items()))


def _planes(case: PatientCase, structures: Sequence[ShownStructure]) -> IntTriple:
    """For each axis the slice that shows most of all structures, each counted by the share of its largest section."""
    shape = case.image_xyz.shape
    middle = (shape[0] // 2, shape[1] // 2, shape[2] // 2)
    values = case.label_xyz if case.label_xyz is not None and case.label_xyz.any() else case.prediction_xyz
    if values is None:
        return middle
    steps = [max(1, n // (2 * COARSE)) for n in shape]
    coarse = values[tuple(slice(step // 2, None, step) for step in steps)]
    scores = [np.zeros(n) for n in coarse.shape]
    for one in structures:
        mask = np.isin(coarse, one.values)
        for axis in range(3):
            sections = np.count_nonzero(mask, axis=tuple({0, 1, 2} - {axis}))
            scores[axis] += sections / max(1, int(sections.max()))
    if not scores[0].any():
        return middle
    x, y, z = (int(score.argmax()) * step + step // 2 for score, step in zip(scores, steps, strict=True))
    return (x, y, z)


def _shown_box(case: PatientCase) -> tuple[IntTriple, IntTriple]:
    """The patient's body in a CT, with all that is labelled; the whole volume of other images."""
    shape = case.image_xyz.shape
    low, high = np.zeros(3, int), np.array(shape)
    if looks_like_ct(case.image_xyz):
        steps = [max(1, n // COARSE) for n in shape]
        boxes = [_box(_body(case.image_xyz[tuple(slice(None, None, step) for step in steps)]), steps)]
        maps = [values for values in (case.label_xyz, case.prediction_xyz) if values is not None]
        boxes += [_box(values != 0, (1, 1, 1)) for values in maps if values.any()]
        margin = np.ceil(MARGIN_SHARE * high).astype(int)
        low = np.maximum(np.min([box[0] for box in boxes], axis=0) - margin, 0)
        high = np.minimum(np.max([box[1] for box in boxes], axis=0) + margin, shape)
    (x, y, z), (to_x, to_y, to_z) = low.tolist(), high.tolist()
    return (x, y, z), (to_x, to_y, to_z)


def _body(image_hu: NDArray[Any]) -> NDArray[np.bool_]:
    """The largest connected part that is not air; everything where there is none."""
    parts, count = ndimage.label(image_hu > BODY_ABOVE_HU)
    if not count:
        return np.ones(image_hu.shape, bool)
    return np.asarray(parts == 1 + int(np.bincount(parts.ravel())[1:].argmax()))


def _box(mask: NDArray[np.bool_], steps: Sequence[int]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Lower and upper corner of what is true, in voxels of the grid from which every ``steps`` one was taken."""
    held = [np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    low, high = (np.array([places[end] for places in held], np.intp) for end in (0, -1))
    every = np.array(steps, np.intp)
    return low * every, (high + 1) * every
