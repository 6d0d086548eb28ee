"""Structures of a CT that lie in the air around the patient."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

AIR_BELOW_HU = -900.0
"""Between air at -1000 HU and lungs at about -850 HU."""
CT_PERCENTILES = (1.0, 99.9)
CT_RANGE = (-800.0, 50.0)
STEP_MM = 4.0


def looks_like_ct(image_xyz: NDArray[Any]) -> bool:
    """Whether intensities reach from air to more than water, as those of a CT with some air around or in it do."""
    steps = tuple(slice(None, None, max(1, n // 64)) for n in image_xyz.shape)
    low, high = np.nanpercentile(image_xyz[steps].astype(np.float32), CT_PERCENTILES)
    return bool(low <= CT_RANGE[0] and high >= CT_RANGE[1])


def outside_shares(
    image_hu_xyz: NDArray[Any], label_xyz: NDArray[Any], spacing_mm: tuple[float, float, float]
) -> dict[int, float]:
    """Share of each label value that lies in the air around the patient, on a grid of about ``STEP_MM``.

    Air is what is below ``AIR_BELOW_HU`` after a mean over 3x3x3 and connected to a lateral, front or back face of the
    volume; lungs that a small field of view cuts may count to it only where they are emphysematous.
    """
    coarse = tuple(slice(None, None, max(1, round(STEP_MM / step))) for step in spacing_mm)
    image = np.nan_to_num(image_hu_xyz[coarse].astype(np.float32), nan=-1000.0)
    label = label_xyz[coarse]
    air = ndimage.uniform_filter(image, 3, mode="nearest") < AIR_BELOW_HU
    parts, _ = ndimage.label(air)
    faces = [parts[0], parts[-1], parts[:, 0], parts[:, -1]]
    around = np.isin(parts, np.setdiff1d(np.concatenate([face.ravel() for face in faces]), [0]))
    whole = np.bincount(label.ravel())
    inside = np.bincount(label[around].ravel(), minlength=whole.size)
    return {int(value): float(inside[value] / whole[value]) for value in np.flatnonzero(whole) if value}
