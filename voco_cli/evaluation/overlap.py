"""Overlap and volume of two masks, from three counts of voxels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
