"""Which intensities of a case become black and white, where nobody says."""

from __future__ import annotations

import math

import numpy as np

from voco_cli.evaluation.outside import looks_like_ct
from voco_cli.evaluation.patient_case import PatientCase
from voco_cli.settings.sections import Preprocess

LUNG_WINDOW_HU = (-1000.0, 400.0)
LUNG_BELOW_HU = -400.0


def window_words(low: float, high: float) -> str:
    """Return both ends with no more digits than a hundredth of the window is worth."""
    digits = max(0, 2 - math.floor(math.log10(high - low))) if high > low else 3
    ends = (f"{round(end, digits) + 0.0:.{digits}f}" for end in (low, high))
    return " to ".join(end.rstrip("0").rstrip(".") if "." in end else end for end in ends)


def default_window(case: PatientCase, modality: str = "unknown") -> tuple[tuple[float, float], str]:
    """The window of preprocessing for CT, a wider one where most of what is labelled is lung, percentiles for others.

    Returns:
        the window, and the same in words.
    """
    if modality == "CT" or (modality == "unknown" and looks_like_ct(case.image_xyz)):
        window = LUNG_WINDOW_HU if _is_lung(case) else Preprocess().window_hu
        return window, f"{window_words(*window)} HU"
    ends = Preprocess().percentiles
    finite = case.image_xyz[np.isfinite(case.image_xyz)]
    low, high = (float(value) for value in np.percentile(finite, ends)) if finite.size else (0.0, 0.0)
    if not low < high:  # a constant image is grey
        low, high = low - 1, low + 1
    return (low, high), f"{window_words(low, high)} (percentiles {ends[0]:g} and {ends[1]:g})"


def _is_lung(case: PatientCase) -> bool:
    values = case.label_xyz if case.label_xyz is not None else case.prediction_xyz
    return values is not None and bool(values.any()) and float(np.median(case.image_xyz[values > 0])) < LUNG_BELOW_HU
