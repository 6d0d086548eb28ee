"""Where a NIfTI image lies, from two forms of which either may be missing, rounded or wrong.

Rule here: the sform where its code is above 0 and it is invertible, else the qform, else voxel sizes alone; a
disagreement, a repair or a fallback is noted.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from nibabel.quaternions import quat2mat
from numpy.typing import NDArray

from voco_cli.data.io.geometry import MOST_MM, Placement, grid_shift_mm, place, same_grid, unit_notes
from voco_cli.errors import GeometryError

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0])
MM_PER_UNIT = {1: 1000.0, 3: 0.001}  # NIfTI-1 xyzt_units: 1 metre, 2 millimetre, 3 micrometre
FLOAT_ROUNDING = 1e-6
ROUNDED_QUATERNION = 2e-3
"""By this much three numbers of three digits may exceed the squared length of 1."""


def nifti_placement(raw: Any, shape: tuple[int, int, int], path: Path) -> tuple[Placement, list[str]]:
    """Return where the voxels lie, and what is to be noted of it.

    Args:
        raw: the header as nibabel parsed it, unchecked; negative voxel sizes in it are made positive.
        shape: voxels along x, y, z.
    Raises:
        GeometryError: sheared, or neither form can be used and one is set.
    """
    unit = MM_PER_UNIT.get(int(raw["xyzt_units"]) & 7, 1.0)
    notes = unit_notes(unit)
    pixdim = np.array(raw["pixdim"][1:4], dtype=np.float64)
    if (pixdim < 0).any():
        notes.append("negative voxel sizes were taken as positive")
        raw["pixdim"][1:4] = np.abs(pixdim)
    qform, faults, repairs = _qform(raw)
    sform = raw.get_sform() if int(raw["sform_code"]) > 0 else None
    if sform is not None and (fault := _sform_fault(sform)) and (qform is not None or "invertible" in fault):
        notes.append(f"the sform {fault} and was ignored")
        sform = None
    if sform is not None:
        chosen = _from_ras(sform, unit, path)
        if faults:
            notes.append(f"the sform was taken; the qform cannot be used: {faults[0]}")
        elif qform is not None:
            notes += repairs + _disagreement(chosen, qform, unit, shape, path)
        return chosen, notes
    if faults:
        raise GeometryError(f"{path} has a qform that cannot be used: {faults[0]}.", "Correct the header.")
    if qform is not None:
        return _from_ras(qform, unit, path), notes + repairs
    notes.append("neither sform nor qform is set; voxel axes are taken as L, A, S with the middle voxel at 0")
    return _from_ras(raw.get_base_affine(), unit, path), notes


def _sform_fault(sform: NDArray[np.float64]) -> str | None:
    if not (np.abs(sform) < MOST_MM * 1e3).all():
        return "holds what is no length"
    return "is not invertible" if abs(np.linalg.det(sform[:3, :3])) < 1e-12 else None


def _qform(raw: Any) -> tuple[NDArray[np.float64] | None, list[str], list[str]]:
    """Return the affine of the qform (none where it is not set or of no use), its faults, and its repairs.

    As the NIfTI-1 standard and its C library have it, where nibabel raises: a qfac of 0 means 1, and a quaternion that
    rounding made longer than 1 is one of half a turn.
    """
    if int(raw["qform_code"]) <= 0:
        return None, [], []
    repairs = []
    vector = np.array([raw[f"quatern_{axis}"] for axis in "bcd"], dtype=np.float64)
    shift = np.array([raw[f"qoffset_{axis}"] for axis in "xyz"], dtype=np.float64)
    sizes, qfac = np.array(raw["pixdim"][1:4], dtype=np.float64), float(raw["pixdim"][0])
    length = float(vector @ vector)
    if not (np.isfinite(vector).all() and np.isfinite(shift).all() and np.isfinite(sizes).all()):
        return None, ["it holds what is no number"], []
    if not (sizes > 0).all():
        return None, [f"its voxel sizes are {', '.join(f'{size:g}' for size in sizes)} mm"], []
    if length > 1 + ROUNDED_QUATERNION:
        return None, [f"its quaternion has a length of {length**0.5:.4f}, and none is longer than 1"], []
    if length > 1 + FLOAT_ROUNDING:
        repairs.append(f"the qform's quaternion had a length of {length**0.5:.6f} and was taken as of length 1")
    if qfac not in (-1.0, 1.0):
        repairs.append(f"the qform's qfac is {qfac:g} and was taken as {-1 if qfac < 0 else 1}")
    vector = vector / max(1.0, length**0.5)
    rotation = quat2mat([max(0.0, 1.0 - float(vector @ vector)) ** 0.5, *vector])
    affine = np.eye(4)
    affine[:3, :3] = rotation * sizes * (1, 1, -1 if qfac < 0 else 1)
    affine[:3, 3] = shift
    return affine, [], repairs


def _disagreement(
    chosen: Placement, qform: NDArray[np.float64], unit: float, shape: tuple[int, int, int], path: Path
) -> list[str]:
    try:
        other = _from_ras(qform, unit, path)
    except GeometryError:
        return ["the sform was taken; the qform cannot be used"]
    if same_grid(chosen, other, shape):
        return []
    shift_mm = grid_shift_mm(chosen, other, shape)
    return [f"sform and qform disagree by up to {shift_mm:.2f} mm; the sform was taken"]


def _from_ras(affine: NDArray[np.float64], unit: float, path: Path) -> Placement:
    axes = RAS_TO_LPS @ np.asarray(affine[:3, :3], dtype=np.float64) * unit
    return place(axes, RAS_TO_LPS @ np.asarray(affine[:3, 3], dtype=np.float64) * unit, path)
