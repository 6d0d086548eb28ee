"""The metrics of a segmentation: all structures of one case, from two label maps on one grid."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from voco_cli.errors import UsageError
from voco_cli.evaluate.metric import MeanOverCases
from voco_cli.evaluate.segmentation.surface_distance import (
    SpacingZYX,
    SurfaceDistances,
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
    """Return ``2 |A and B| / (|A| + |B|)``; NaN where both are empty, 0 where one is."""
    total = counts.reference + counts.prediction
    return 2 * counts.both / total if total else math.nan


def intersection_over_union(counts: Counts) -> float:
    """Return ``|A and B| / |A or B|``; NaN where both are empty, 0 where one is."""
    union = counts.reference + counts.prediction - counts.both
    return counts.both / union if union else math.nan


def volume_ml(voxels: int, spacing_mm: tuple[float, float, float]) -> float:
    """Return the volume of that many voxels, ml; spacing in any order of axes."""
    return voxels * math.prod(spacing_mm) / MM3_PER_ML


State = Literal["both", "missed", "false_positive", "absent", "unlabelled"]
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
class StructurePair:
    """One structure as both maps have it, cut to the box of both; what a metric is computed from.

    Attributes:
        prediction_zyx, reference_zyx: masks of one shape, neither of them empty.
        counts: their voxels.
        spacing_zyx_mm: distance of voxel centres along z, y, x, mm.
        tolerance_mm: of the normalised surface Dice, mm.
    """

    prediction_zyx: NDArray[np.bool_]
    reference_zyx: NDArray[np.bool_]
    counts: Counts
    spacing_zyx_mm: SpacingZYX
    tolerance_mm: float

    @cached_property
    def distances(self) -> SurfaceDistances:
        """Return the distances between both surfaces, which are searched once for all metrics."""
        return distances_in_box(self.prediction_zyx, self.reference_zyx, self.spacing_zyx_mm)


@dataclass(frozen=True)
class SegmentationMetric(MeanOverCases):
    """A metric of one structure in one case.

    Attributes:
        compute: its value where both maps have the structure.
        unit: ``mm`` is a distance, where lower is better, and which is not known where one map lacks the structure.
            Without a unit it is a share in [0, 1], which is then 0.
    """

    compute: Callable[[StructurePair], float]
    unit: str = ""

    @property
    def lower_is_better(self) -> bool:
        """Return True for a distance."""
        return self.unit == "mm"

    @property
    def digits(self) -> int:
        """Return how many digits tables show behind the point."""
        return 2 if self.unit else 3


METRICS = {
    metric.key: metric
    for metric in (
        SegmentationMetric("dice", "Dice", lambda pair: dice(pair.counts)),
        SegmentationMetric("iou", "IoU", lambda pair: intersection_over_union(pair.counts)),
        SegmentationMetric(
            "nsd", "NSD {tolerance_mm:g} mm", lambda pair: surface_dice(pair.distances, pair.tolerance_mm)
        ),
        SegmentationMetric("hd95_mm", "HD95 (mm)", lambda pair: hausdorff_mm(pair.distances, HD_PERCENT), "mm"),
        SegmentationMetric("asd_mm", "ASD (mm)", lambda pair: average_distance_mm(pair.distances), "mm"),
    )
}
"""By their names in files. One that is added here is measured, written, shown and compared like the others."""


def metric_title(metric: str, tolerance_mm: float) -> str:
    """Return what a table calls a metric."""
    return METRICS[metric].title.format(tolerance_mm=tolerance_mm)


@dataclass(frozen=True)
class Measurement:
    """One structure in one case, before any rule for empty ones.

    Attributes:
        state: in both maps, only in the reference (missed), only in the prediction (false positive), in neither
            (absent).
        reference_ml, prediction_ml: volumes, ml.
        diagonal_mm: of the whole grid: no distance in it is larger.
        values: of `METRICS`, each of which is an attribute, too. Shares are 0 where only one map has the structure,
            distances inf; both are NaN where neither has.
    """

    state: State
    reference_ml: float
    prediction_ml: float
    diagonal_mm: float
    values: Mapping[str, float]

    def __getattr__(self, name: str) -> float:
        """Return the value of a metric, as in ``found.dice``."""
        values: Mapping[str, float] = self.__dict__.get("values", {})
        if name not in values:
            raise AttributeError(name)
        return values[name]


def labels_in(array_zyx: NDArray[Any]) -> set[int]:
    """Return the label values of a map as `data.io.image.whole_labels` gives it, without 0."""
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
        prediction_zyx, reference_zyx: label maps of one shape, as `data.io.image.whole_labels` gives them.
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
        counts = count_voxels(prediction, reference)
        pair = StructurePair(prediction, reference, counts, spacing_zyx_mm, tolerance_mm)
        measured.append(_measure(pair, diagonal_mm))
    return measured


def _measure(pair: StructurePair, diagonal_mm: float) -> Measurement:
    """Measure a structure that one map has at least."""
    counts = pair.counts
    both = bool(counts.reference and counts.prediction)
    state: State = "both" if both else "missed" if counts.reference else "false_positive"
    # Where one map lacks it all is known without a search.
    lacking = {name: math.inf if metric.lower_is_better else 0.0 for name, metric in METRICS.items()}
    return Measurement(
        state=state,
        reference_ml=volume_ml(counts.reference, pair.spacing_zyx_mm),
        prediction_ml=volume_ml(counts.prediction, pair.spacing_zyx_mm),
        diagonal_mm=diagonal_mm,
        values={name: metric.compute(pair) for name, metric in METRICS.items()} if both else lacking,
    )


def absent_structure(diagonal_mm: float) -> Measurement:
    """Return what is measured of a structure that neither map has."""
    return Measurement("absent", 0.0, 0.0, diagonal_mm, dict.fromkeys(METRICS, math.nan))


def unlabelled_structure(diagonal_mm: float) -> Measurement:
    """Return what is measured of a structure that the label map is not complete for."""
    return Measurement("unlabelled", math.nan, math.nan, diagonal_mm, dict.fromkeys(METRICS, math.nan))


def _label_boxes(array_zyx: NDArray[Any]) -> dict[int, Box]:
    """Return the box of every label that is there; cutting off the empty rim first makes this ten times as fast."""
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
    """How empty structures enter the means; missed ones and false positives are counted under every rule.

    Attributes:
        name: as on the command line.
        absent: in neither map: left out, or perfect (1 and 0 mm).
        false_positive: only in the prediction: shares are 0, or left out. A missed structure is always 0.
        distance: of missed structures, and of false positives that count: left out, or the diagonal of the scan, mm.
    """

    name: str
    absent: Literal["left out", "perfect"]
    false_positive: Literal["zero", "left out"]
    distance: Literal["left out", "diagonal"]

    def sentence(self) -> str:
        """Return the rule in words, for tables."""
        absent = "left out" if self.absent == "left out" else "1, and 0 mm"
        distance = "distances left out" if self.distance == "left out" else "distances are the scan's diagonal"
        if self.false_positive == "left out":
            return f"absent in both: {absent}; missed: 0, {distance}; false positives left out (they are free)"
        return f"absent in both: {absent}; missed or false positive: 0, {distance}"


RULES = {
    rule.name: rule
    for rule in (
        EmptyRule("count", absent="left out", false_positive="zero", distance="left out"),
        EmptyRule("perfect", absent="perfect", false_positive="zero", distance="left out"),
        EmptyRule("penalty", absent="left out", false_positive="zero", distance="diagonal"),
        EmptyRule("brats", absent="perfect", false_positive="zero", distance="diagonal"),
        EmptyRule("released", absent="left out", false_positive="left out", distance="left out"),
    )
}
"""``released`` is what VoCo's released code does; ``brats`` is that challenge's rule with each scan's own diagonal."""


def empty_rule(name: str) -> EmptyRule:
    """Return the rule of that name.

    Raises:
        UsageError: there is none.
    """
    if name not in RULES:
        raise UsageError(f"--empty {name} is no rule for empty classes.", f"Use one of {', '.join(RULES)}.")
    return RULES[name]


def apply_rule(one: Measurement, rule: EmptyRule) -> dict[str, float]:
    """Return the value of each metric that enters the means; NaN is left out."""
    if one.state in ("both", "unlabelled"):
        return dict(one.values)
    if one.state == "absent":
        share, distance = (1.0, 0.0) if rule.absent == "perfect" else (math.nan, math.nan)
    elif one.state == "false_positive" and rule.false_positive == "left out":
        share, distance = math.nan, math.nan
    else:
        share, distance = 0.0, one.diagonal_mm if rule.distance == "diagonal" else math.nan
    return {name: distance if metric.lower_is_better else share for name, metric in METRICS.items()}
