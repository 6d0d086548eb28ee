"""Lesions one by one: which are found, by their size, and what is found where none is.

A lesion is a connected part of a structure in the label map (voxels that share a corner are connected); its radius is
that of the ball of its volume. It is found where the prediction has a voxel of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from voco_cli.csv_text import csv_text
from voco_cli.evaluate.segmentation.metrics import Structure
from voco_cli.evaluate.segmentation.surface_distance import SpacingZYX
from voco_cli.evaluate.statistics import mean_interval, patient_indices, resample_patients
from voco_cli.evaluate.tables import figure, with_interval

CORNERS = np.ones((3, 3, 3), bool)
ALL_SIZES = "all"


@dataclass(frozen=True)
class FoundLesion:
    """A lesion of the label map, or a false positive: a part of the prediction that touches none.

    Attributes:
        radius_mm: of the ball of its volume.
        dice: of a lesion with all parts of the prediction that touch it, 0 where none does; NaN for a false positive.
    """

    structure: str
    radius_mm: float
    dice: float

    @property
    def is_false_positive(self) -> bool:
        """Return whether it is no lesion."""
        return math.isnan(self.dice)

    @property
    def is_found(self) -> bool:
        """Return whether the prediction has a voxel of it."""
        return self.dice > 0


def find_lesions(
    prediction_zyx: NDArray[Any], reference_zyx: NDArray[Any], structures: Sequence[Structure], spacing_mm: SpacingZYX
) -> list[FoundLesion]:
    """Take apart every structure of a case into lesions and false positives.

    Args:
        prediction_zyx, reference_zyx: label maps of one shape.
    """
    voxel_mm3 = math.prod(spacing_mm)
    found: list[FoundLesion] = []
    for structure in structures:
        masks = [np.isin(array, structure.labels) for array in (reference_zyx, prediction_zyx)]
        box = ndimage.find_objects((masks[0] | masks[1]).astype(np.uint8))
        if not box:
            continue
        (lesions, count), (parts, num_parts) = (ndimage.label(mask[box[0]], CORNERS) for mask in masks)
        # Voxels of each lesion (row) in each part of the prediction (column); 0 is neither.
        pairs = lesions.ravel().astype(np.int64) * (num_parts + 1) + parts.ravel()
        table = np.bincount(pairs, minlength=(count + 1) * (num_parts + 1)).reshape(count + 1, num_parts + 1)
        sizes, part_sizes = table.sum(axis=1), table.sum(axis=0)
        for lesion in range(1, count + 1):
            touching = np.flatnonzero(table[lesion, 1:]) + 1
            both = int(table[lesion, touching].sum())
            dice = 2 * both / int(sizes[lesion] + part_sizes[touching].sum())
            found.append(FoundLesion(structure.name, radius_mm(int(sizes[lesion]) * voxel_mm3), dice))
        for part in range(1, num_parts + 1):
            if not table[1:, part].any():
                found.append(FoundLesion(structure.name, radius_mm(int(part_sizes[part]) * voxel_mm3), math.nan))
    return found


def radius_mm(volume_mm3: float) -> float:
    """Return the radius of the ball of a volume, mm."""
    return float((volume_mm3 * 3 / 4 / math.pi) ** (1 / 3))


def size_names(edges_mm: Sequence[float]) -> list[str]:
    """Return the classes of sizes between radii, mm; an edge belongs to the class below it."""
    inner = [f"{low:g}-{high:g}" for low, high in pairwise(edges_mm)]
    return [f"<= {edges_mm[0]:g}", *inner, f"> {edges_mm[-1]:g}"]


def size_of(one: FoundLesion, edges_mm: Sequence[float]) -> str:
    """Return the class of sizes of a lesion."""
    return size_names(edges_mm)[int(np.searchsorted(edges_mm, one.radius_mm, side="left"))]


@dataclass(frozen=True)
class SizeSummary:
    """One structure and class of sizes over all cases.

    Attributes:
        size: radii in mm, or all.
        lesions, found: their numbers.
        sensitivity, low, high: share of lesions that are found, with its bootstrap 95 % interval by patient.
        dice: mean over lesions, missed ones 0.
        cases, cases_found: cases that have such a lesion, and in which one of them is found.
        false_positives, false_positives_per_case: of that size themselves, and a case that is labelled for it.
        labelled_cases: cases that are labelled for the structure; 0 where an earlier version did not say.
    """

    structure: str
    size: str
    lesions: int
    found: int
    sensitivity: float
    low: float
    high: float
    dice: float
    cases: int
    cases_found: int
    false_positives: int
    false_positives_per_case: float
    labelled_cases: int = 0


@dataclass(frozen=True)
class CaseLesions:
    """The lesions of a case, and whose they are."""

    case: str
    patient: str
    lesions: tuple[FoundLesion, ...]


def summarise_sizes(
    cases: Sequence[CaseLesions], labelled: Mapping[str, int], edges_mm: Sequence[float], resamples: int, seed: int
) -> tuple[SizeSummary, ...]:
    """Summarise each structure and class of sizes that has a lesion or a false positive, then all sizes together.

    Args:
        labelled: structure to the number of cases that are labelled for it: others can have no false positive.
    """
    patient_of = dict(zip((one.case for one in cases), patient_indices([one.patient for one in cases]), strict=True))
    draws_BG = resample_patients(len(set(patient_of.values())), resamples, seed)
    rows = []
    for structure, labelled_cases in labelled.items():
        for size in (*size_names(edges_mm), ALL_SIZES):
            picked = [
                (case.case, one)
                for case in cases
                for one in case.lesions
                if one.structure == structure and size in (ALL_SIZES, size_of(one, edges_mm))
            ]
            if not picked:
                continue
            real = [(case, one) for case, one in picked if not one.is_false_positive]
            hit_N = np.array([float(one.is_found) for _, one in real])
            patient_N = np.array([patient_of[case] for case, _ in real], np.intp)
            low, high = mean_interval(hit_N, patient_N, draws_BG) if real else (math.nan, math.nan)
            false_positives = len(picked) - len(real)
            rows.append(
                SizeSummary(
                    structure=structure,
                    size=size,
                    lesions=len(real),
                    found=int(hit_N.sum()),
                    sensitivity=float(hit_N.mean()) if real else math.nan,
                    low=low,
                    high=high,
                    dice=float(np.mean([one.dice for _, one in real])) if real else math.nan,
                    cases=len({case for case, _ in real}),
                    cases_found=len({case for case, one in real if one.is_found}),
                    false_positives=false_positives,
                    false_positives_per_case=false_positives / labelled_cases,
                    labelled_cases=labelled_cases,
                )
            )
    return tuple(rows)


SIZE_HEADINGS = (
    "structure",
    "radius (mm)",
    "lesions",
    "sensitivity",
    "Dice",
    "cases found",
    "false positives a labelled scan (scans)",
)


def size_rows(summaries: Sequence[SizeSummary]) -> list[list[str]]:
    """Return the cells of a table of sizes."""
    return [
        [
            one.structure,
            one.size,
            str(one.lesions),
            with_interval(one.sensitivity, one.low, one.high),
            figure(one.dice),
            f"{one.cases_found} of {one.cases}",
            figure(one.false_positives_per_case, 2) + (f" ({one.labelled_cases})" if one.labelled_cases else ""),
        ]
        for one in summaries
    ]


def lesions_csv(cases: Sequence[CaseLesions], edges_mm: Sequence[float]) -> str:
    """Return one line a lesion and false positive."""
    rows: list[Sequence[str]] = [("case", "structure", "kind", "radius_mm", "size", "found", "dice")]
    for case in sorted(cases, key=lambda one: one.case):
        for one in case.lesions:
            ends = ("", "") if one.is_false_positive else (str(int(one.is_found)), f"{one.dice:.6g}")
            kind = "false_positive" if one.is_false_positive else "lesion"
            rows.append((case.case, one.structure, kind, f"{one.radius_mm:.4g}", size_of(one, edges_mm), *ends))
    return csv_text(rows)
