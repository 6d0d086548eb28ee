"""A scan in memory: the array and where it lies in the patient."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Scan:
    """One 3-D scan as SimpleITK sees it.

    Attributes:
        array_zyx: voxel values; axis 0 is z (slices), axis 2 is x (fastest in the file).
        spacing_xyz_mm: distance of voxel centres along x, y, z, mm.
        origin_xyz_mm: centre of voxel (0, 0, 0) in world coordinates (LPS), mm.
        direction: 3x3, orthonormal; column i is the world direction (LPS) of voxel axis i in order x, y, z.
        path: file or, for a DICOM series, the folder it came from.
        notes: what was repaired or chosen on reading, one sentence each.
    """

    array_zyx: NDArray[Any]
    spacing_xyz_mm: tuple[float, float, float]
    origin_xyz_mm: tuple[float, float, float]
    direction: NDArray[np.float64]
    path: Path
    notes: tuple[str, ...] = ()

    @property
    def shape_xyz(self) -> tuple[int, int, int]:
        """Voxels along x, y, z."""
        z, y, x = self.array_zyx.shape
        return (x, y, z)
