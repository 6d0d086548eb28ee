"""From voxel values to [0, 1]: a fixed window, or one taken from the scan itself."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voco_cli.errors import DataError
from voco_cli.scans.scan import Scan
from voco_cli.settings.sections import Preprocess

Plane = NDArray[np.float32]


@dataclass(frozen=True)
class Window:
    """``x = clip((v - low) / (high - low), 0, 1)``, in two halves, so that interpolation may come between.

    Subtracting ``low`` first keeps a region at exactly ``low`` at exactly 0 through any interpolation; otherwise
    rounding would lift it above 0 and the foreground box would grow.
    """

    low: float
    high: float

    def shift(self, plane: NDArray[Any]) -> Plane:
        """``v - low`` as float32; exact for integers."""
        return np.asarray(np.subtract(plane, np.float32(self.low), dtype=np.float32))

    def finish(self, plane: Plane) -> None:
        """Divide by the width and clip, in place."""
        plane *= np.float32(1.0 / (self.high - self.low))
        np.clip(plane, 0.0, 1.0, out=plane)

    def apply(self, plane: NDArray[Any]) -> Plane:
        """The whole map on one plane of raw values."""
        shifted = self.shift(plane)
        self.finish(shifted)
        return shifted

    def raw_threshold(self, above: float, dtype: np.dtype[Any]) -> float:
        """The raw value v such that a voxel is foreground (x > ``above``) exactly where it is greater than v.

        For integers the comparison is the one that float32 arithmetic makes, so that the foreground box is the one
        of ``x > above`` to the voxel.
        """
        if above >= 1.0:
            return math.inf
        threshold = self.low + above * (self.high - self.low)
        if not np.issubdtype(dtype, np.integer):
            return threshold
        candidates = math.floor(threshold) + np.arange(-2, 4)
        scaled = (candidates.astype(np.float32) - np.float32(self.low)) / np.float32(self.high - self.low)
        return float(candidates[scaled > np.float32(above)][0] - 1)


def intensity_window(scan: Scan, settings: Preprocess) -> Window:
    """The window of a scan: ``window_hu``, or the percentiles of all its voxels.

    Raises:
        DataError: the percentiles coincide, or a voxel is not a finite number.
    """
    if np.issubdtype(scan.array_zyx.dtype, np.inexact) and not np.isfinite(scan.array_zyx).all():
        raise DataError(f"{scan.path} holds voxels that are not finite numbers.")
    if settings.intensity == "window":
        return Window(*settings.window_hu)
    low, high = (float(value) for value in np.percentile(scan.array_zyx, settings.percentiles))
    if not low < high:
        ends = " and ".join(f"{end:g}" for end in settings.percentiles)
        raise DataError(
            f"{scan.path} has the value {low:g} at both percentiles {ends}, so that nothing maps to [0, 1].",
            hint="set preprocess.percentiles further apart, or leave the scan out",
        )
    return Window(low, high)
