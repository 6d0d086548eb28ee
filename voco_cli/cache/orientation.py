"""Which voxel axis of a scan runs along which patient axis, and its affine in RAS world coordinates."""

from __future__ import annotations

import numpy as np
from nibabel.orientations import io_orientation
from numpy.typing import NDArray

from voco_cli.scans.scan import Scan

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def ras_affine(scan: Scan) -> NDArray[np.float64]:
    """Affine of a scan's own grid: voxel (x, y, z) to world coordinates in RAS, mm.

    Returns:
        4x4 float64, as nibabel and MONAI have it; ITK's world is LPS, so that two rows change their sign.
    """
    affine_lps = np.eye(4)
    affine_lps[:3, :3] = scan.direction * np.asarray(scan.spacing_xyz_mm)
    affine_lps[:3, 3] = scan.origin_xyz_mm
    return LPS_TO_RAS @ affine_lps


def axes_to_ras(affine: NDArray[np.float64]) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
    """The permutation and flips that bring voxel axes as near as possible to right, anterior, superior.

    Args:
        affine: 4x4, voxel (x, y, z) to RAS world.
    Returns:
        (axes, flipped): voxel axis ``axes[r]`` runs along patient axis r, against it where ``flipped[r]``.
    """
    nearest = io_orientation(affine)
    axes = [0, 0, 0]
    flipped = [False, False, False]
    for voxel_axis, (patient_axis, sign) in enumerate(nearest):
        axes[int(patient_axis)] = voxel_axis
        flipped[int(patient_axis)] = bool(sign < 0)
    return (axes[0], axes[1], axes[2]), (flipped[0], flipped[1], flipped[2])
