"""Choose what to show of a case: slices through its structures, the body without the air, volumes and Dice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from voco_cli.evaluate.label_fit import looks_like_ct
from voco_cli.evaluate.patient_case import PatientCase, value_counts
from voco_cli.evaluate.segmentation.metrics import Counts, dice, volume_ml
from voco_cli.figures.slices import ShownStructure, choose_slices

BODY_ABOVE_HU = -500.0
COARSE = 96
"""Edge, voxels, of the grid on which the body and the slices to show are looked for."""
MARGIN_SHARE = 0.03

IntTriple = tuple[int, int, int]


@dataclass(frozen=True)
class StructureVolume(ShownStructure):
    """A structure, how much of it there is, and how well the two maps agree; None where a map is not there."""

    label_voxels: int | None
    label_ml: float | None
    prediction_voxels: int | None
    prediction_ml: float | None
    dice: float | None


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
    def shown_mm(self) -> tuple[float, float, float]:
        """Return the size of the part that is shown."""
        x, y, z = np.subtract(self.high, self.low) * self.case.spacing_mm
        return (float(x), float(y), float(z))


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
    volumes = structure_volumes(case, structures)
    there = tuple(one for one in volumes if one.label_voxels or one.prediction_voxels)
    return CaseScene(
        name,
        tuple(facts),
        case,
        window,
        there,
        unlisted_values(case, structures),
        _planes(case, there),
        tuple(choose_slices(case, there, num_slices)),
        *_shown_box(case),
        tuple(warnings),
    )


def structure_volumes(case: PatientCase, structures: Sequence[ShownStructure]) -> tuple[StructureVolume, ...]:
    """Return voxels and millilitres of each structure in label and prediction, and the Dice between them."""
    counts = [None if one is None else value_counts(one).sum(axis=1) for one in (case.label_xyz, case.prediction_xyz)]
    pairs = _value_pairs(case)
    found = []
    for one in structures:
        label, prediction = (
            None if count_V is None else sum(int(count_V[value]) for value in one.values if value < count_V.size)
            for count_V in counts
        )
        label_ml, prediction_ml = (None if n is None else volume_ml(n, case.spacing_mm) for n in (label, prediction))
        overlap = None
        if label is not None and prediction is not None:
            both = sum(count for pair, count in pairs.items() if set(pair) <= set(one.values))
            overlap = dice(Counts(label, prediction, both))
        looks = (one.name, one.values, one.colour)
        found.append(StructureVolume(*looks, label, label_ml, prediction, prediction_ml, overlap))
    return tuple(found)


def _value_pairs(case: PatientCase) -> dict[tuple[int, int], int]:
    """Return the voxels of each pair of a label's and a prediction's value, where neither is 0."""
    label, prediction = case.label_xyz, case.prediction_xyz
    if label is None or prediction is None:
        return {}
    both = (label > 0) & (prediction > 0)
    pairs, counts = np.unique(label[both].astype(np.int64) << 16 | prediction[both], return_counts=True)
    return {(pair >> 16, pair & 0xFFFF): count for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True)}


def unlisted_values(case: PatientCase, structures: Sequence[ShownStructure]) -> dict[int, int]:
    """Return the values of no structure, 0 left out, with their voxels in label and prediction."""
    listed = {0, *(value for one in structures for value in one.values)}
    found: dict[int, int] = {}
    for values in (case.label_xyz, case.prediction_xyz):
        for value, count in () if values is None else enumerate(value_counts(values).sum(axis=1).tolist()):
            if count and value not in listed:
                found[value] = found.get(value, 0) + count
    return dict(sorted(found.items()))


def _planes(case: PatientCase, structures: Sequence[ShownStructure]) -> IntTriple:
    """Choose for each axis the slice that shows most of all structures, each weighed by its largest section."""
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
    """Return the box of the patient's body in a CT, with all that is labelled; the whole volume of other images."""
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
    """Return the largest connected part that is not air; everything where there is none."""
    parts, count = ndimage.label(image_hu > BODY_ABOVE_HU)
    if not count:
        return np.ones(image_hu.shape, bool)
    return np.asarray(parts == 1 + int(np.bincount(parts.ravel())[1:].argmax()))


def _box(mask: NDArray[np.bool_], steps: Sequence[int]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return lower and upper corner of what is true, in voxels of the grid from which every ``steps`` one was taken."""
    held = [np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    low, high = (np.array([places[end] for places in held], np.intp) for end in (0, -1))
    return low * steps, (high + 1) * steps
