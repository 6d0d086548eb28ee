"""All metrics of all structures of one case, from two label maps on one grid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from voco_cli.errors import UsageError
from voco_cli.evaluate.segmentation.surface_distance import (
    SpacingZYX,
    average_distance_mm,
    distances_in_box,
    hausdorff_mm,
    surface_dice,
)

MM3_PER_ML = 1000.0


@dataclass(frozen=True)
class Counts:
    """Voxels of the reference, of the prediction, and of both."""

    reference: int
    prediction: int
    both: int


def count_voxels(prediction_zyx: NDArray[np.bool_], reference_zyx: NDArray[np.bool_]) -> Counts:
    """Count two boolean masks of one shape."""
    return Counts(
        reference=int(np.count_nonzero(reference_zyx)),
        prediction=int(np.count_nonzero(prediction_zyx)),
        both=int(np.count_nonzero(prediction_zyx & reference_zyx)),
    )


def dice(counts: Counts) -> float:
    """``2 |A and B| / (|A| + |B|)``; NaN where both are empty, 0 where one is."""
    total = counts.reference + counts.prediction
    return 2 * counts.both / total if total else math.nan


def intersection_over_union(counts: Counts) -> float:
    """``|A and B| / |A or B|``; NaN where both are empty, 0 where one is."""
    union = counts.reference + counts.prediction - counts.both
    return counts.both / union if union else math.nan


def volume_ml(voxels: int, spacing_mm: tuple[float, float, float]) -> float:
    """Volume of that many voxels, ml; spacing in any order of axes."""
    return voxels * math.prod(spacing_mm) / MM3_PER_ML


State = Literal["both", "missed", "phantom", "absent"]
METRICS = ("dice", "iou", "nsd", "hd95_mm", "asd_mm")
SHARES = ("dice", "iou", "nsd")
DISTANCES = ("hd95_mm", "asd_mm")
HD_PERCENT = 95.0

Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Structure:
    """A class, or a region: the union of several labels.

    Attributes:
        name: what tables call it.
        labels: label values that belong to it, none of them 0.
        is_region: a union that may overlap others, and does not enter the mean over classes.
    """

    name: str
    labels: tuple[int, ...]
    is_region: bool = False


@dataclass(frozen=True)
class Measurement:
    """One structure in one case, before any rule for empty ones.

    Attributes:
        state: in both maps, only in the reference (missed), only in the prediction (phantom), in neither (absent).
        reference_ml, prediction_ml: volumes, ml.
        dice, iou, nsd: shares; 0 where only one map has the structure, NaN where neither has.
        hd95_mm, asd_mm: 95 % Hausdorff and average surface distance, mm; inf where only one has, NaN where neither.
        diagonal_mm: of the whole grid: no distance in it is larger.
    """

    state: State
    reference_ml: float
    prediction_ml: float
    dice: float
    iou: float
    nsd: float
    hd95_mm: float
    asd_mm: float
    diagonal_mm: float


def labels_in(array_zyx: NDArray[Any]) -> set[int]:
    """The label values of a map as `scans.label_map.whole_labels` gives it, without 0."""
    return set(_label_boxes(array_zyx))


def measure_case(
    prediction_zyx: NDArray[Any],
    reference_zyx: NDArray[Any],
    structures: Sequence[Structure],
    spacing_zyx_mm: SpacingZYX,
    tolerance_mm: float,
) -> list[Measurement]:
    """Measure every structure on the grid that the two maps share.

    Args:
        prediction_zyx, reference_zyx: label maps of one shape, as `scans.label_map.whole_labels` gives them.
        spacing_zyx_mm: distance of voxel centres along z, y, x, mm.
        tolerance_mm: of the normalised surface Dice, mm.
    Returns:
        One measurement a structure, in their order.
    Raises:
        ValueError: shapes differ.
    """
    if prediction_zyx.shape != reference_zyx.shape:
        raise ValueError(f"label maps differ in shape: {prediction_zyx.shape} and {reference_zyx.shape}")
    boxes = [_label_boxes(array) for array in (prediction_zyx, reference_zyx)]
    diagonal_mm = math.hypot(*(n * mm for n, mm in zip(reference_zyx.shape, spacing_zyx_mm, strict=True)))
    measured = []
    for structure in structures:
        box = _joint_box([found[label] for found in boxes for label in structure.labels if label in found])
        if box is None:
            measured.append(absent_structure(diagonal_mm))
            continue
        prediction = _mask(prediction_zyx[box], structure.labels)
        reference = _mask(reference_zyx[box], structure.labels)
        measured.append(_measure(prediction, reference, spacing_zyx_mm, tolerance_mm, diagonal_mm))
    return measured


def _measure(
    prediction_zyx: NDArray[np.bool_],
    reference_zyx: NDArray[np.bool_],
    spacing_zyx_mm: SpacingZYX,
    tolerance_mm: float,
    diagonal_mm: float,
) -> Measurement:
    counts = count_voxels(prediction_zyx, reference_zyx)
    state: State = "both" if counts.reference and counts.prediction else "missed" if counts.reference else "phantom"
    nsd, hd95_mm, asd_mm = 0.0, math.inf, math.inf
    if state == "both":  # otherwise all is known without a search
        distances = distances_in_box(prediction_zyx, reference_zyx, spacing_zyx_mm)
        nsd = surface_dice(distances, tolerance_mm)
        hd95_mm, asd_mm = hausdorff_mm(distances, HD_PERCENT), average_distance_mm(distances)
    return Measurement(
        state=state,
        reference_ml=volume_ml(counts.reference, spacing_zyx_mm),
        prediction_ml=volume_ml(counts.prediction, spacing_zyx_mm),
        dice=dice(counts),
        iou=intersection_over_union(counts),
        nsd=nsd,
        hd95_mm=hd95_mm,
        asd_mm=asd_mm,
        diagonal_mm=diagonal_mm,
    )


def absent_structure(diagonal_mm: float) -> Measurement:
    """What is measured of a structure that neither map has."""
    nan = math.nan
    return Measurement("absent", 0.0, 0.0, nan, nan, nan, nan, nan, diagonal_mm)


def _label_boxes(array_zyx: NDArray[Any]) -> dict[int, Box]:
    """The box of every label that is there; the empty rim is cut off first, which takes a tenth of the time."""
    there = array_zyx != 0
    z = np.flatnonzero(there.any(axis=(1, 2)))
    if not z.size:
        return {}
    shadow_yx = there[z[0] : z[-1] + 1].any(axis=0)
    y, x = np.flatnonzero(shadow_yx.any(axis=1)), np.flatnonzero(shadow_yx.any(axis=0))
    corner = (int(z[0]), int(y[0]), int(x[0]))
    inner = array_zyx[z[0] : z[-1] + 1, y[0] : y[-1] + 1, x[0] : x[-1] + 1]
    boxes: dict[int, Box] = {}
    for label, found in enumerate(ndimage.find_objects(inner), start=1):
        if found is not None:
            z_slice, y_slice, x_slice = (
                slice(one.start + first, one.stop + first) for one, first in zip(found, corner, strict=True)
            )
            boxes[label] = (z_slice, y_slice, x_slice)
    return boxes


def _joint_box(boxes: Sequence[Box]) -> Box | None:
    if not boxes:
        return None
    z, y, x = (slice(min(box[axis].start for box in boxes), max(box[axis].stop for box in boxes)) for axis in range(3))
    return (z, y, x)


def _mask(array_zyx: NDArray[Any], labels: tuple[int, ...]) -> NDArray[np.bool_]:
    mask = np.asarray(array_zyx == labels[0])
    for label in labels[1:]:
        mask |= array_zyx == label
    return mask


@dataclass(frozen=True)
class EmptyRule:
    """How empty structures enter the means; missed and phantom ones are counted under every rule.

    Attributes:
        name: as on the command line.
        absent: in neither map: left out, or perfect (1 and 0 mm).
        phantom: only in the prediction: Dice, IoU and NSD 0, or left out. A missed structure is always 0.
        distance: of missed structures, and of phantoms that count: left out, or the diagonal of the scan, mm.
    """

    name: str
    absent: Literal["left out", "perfect"]
    phantom: Literal["zero", "left out"]
    distance: Literal["left out", "diagonal"]

    def sentence(self) -> str:
        """The rule in words, for tables."""
        absent = "left out" if self.absent == "left out" else "1, and 0 mm"
        distance = "distances left out" if self.distance == "left out" else "distances are the scan's diagonal"
        if self.phantom == "left out":
            return f"absent in both: {absent}; missed: 0, {distance}; phantoms left out (false positives are free)"
        return f"absent in both: {absent}; missed or phantom: 0, {distance}"


RULES = {
    rule.name: rule
    for rule in (
        EmptyRule("count", absent="left out", phantom="zero", distance="left out"),
        EmptyRule("perfect", absent="perfect", phantom="zero", distance="left out"),
        EmptyRule("penalty", absent="left out", phantom="zero", distance="diagonal"),
        EmptyRule("brats", absent="perfect", phantom="zero", distance="diagonal"),
        EmptyRule("released", absent="left out", phantom="left out", distance="left out"),
    )
}
"""``released`` is what VoCo's released code does; ``brats`` is that challenge's rule with each scan's own diagonal."""


def empty_rule(name: str) -> EmptyRule:
    """The rule of that name.

    Raises:
        UsageError: there is none.
    """
    if name not in RULES:
        raise UsageError(f"--empty {name} is no rule for empty classes.", f"Use one of {', '.join(RULES)}.")
    return RULES[name]


def apply_rule(one: Measurement, rule: EmptyRule) -> dict[str, float]:
    """Value of each metric that enters the means; NaN is left out."""
    values = {name: float(getattr(one, name)) for name in (*SHARES, *DISTANCES)}
    if one.state == "both":
        return values
    if one.state == "absent":
        share, distance = (1.0, 0.0) if rule.absent == "perfect" else (math.nan, math.nan)
    elif one.state == "phantom" and rule.phantom == "left out":
        share, distance = math.nan, math.nan
    else:
        share, distance = 0.0, one.diagonal_mm if rule.distance == "diagonal" else math.nan
    return {**dict.fromkeys(SHARES, share), **dict.fromkeys(DISTANCES, distance)}
