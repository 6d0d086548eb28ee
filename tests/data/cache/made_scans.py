"""Small scans made in memory or on disk for the tests of the cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from voco_cli.data.index.datalist import Entry
from voco_cli.data.io.image import Scan


def body_hu(shape: tuple[int, int, int], seed: int = 0) -> NDArray[np.int16]:
    """An ellipsoid of tissue with smooth noise in air, int16 HU, off the middle so that no flip goes unnoticed."""
    rng = np.random.default_rng(seed)
    grids = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    inside = sum(((g - 0.1 * i) / (0.7 - 0.1 * i)) ** 2 for i, g in enumerate(grids)) < 1
    tissue = 60 + 150 * np.sin(3 * grids[0] + 2 * grids[1]) + 80 * grids[2] + rng.normal(0, 40, shape)
    return np.asarray(np.where(inside, tissue, -1000).astype(np.int16))


def write_nifti(path: Path, array_xyz: NDArray[Any], affine: NDArray[np.float64]) -> Path:
    """A NIfTI file with the sform set."""
    nib.save(nib.Nifti1Image(array_xyz, affine), path)
    return path


def scan_of(array_xyz: NDArray[Any], affine_ras: NDArray[np.float64], name: str = "made") -> Scan:
    """The scan that reading such a file gives."""
    lps = np.diag([-1.0, -1.0, 1.0]) @ affine_ras[:3]
    spacing = np.linalg.norm(lps[:, :3], axis=0)
    return Scan(
        array_zyx=np.ascontiguousarray(array_xyz.transpose(2, 1, 0)),
        spacing_xyz_mm=(float(spacing[0]), float(spacing[1]), float(spacing[2])),
        origin_xyz_mm=(float(lps[0, 3]), float(lps[1, 3]), float(lps[2, 3])),
        direction=lps[:, :3] / spacing,
        path=Path(name),
    )


def oriented_affine(codes: str, spacing_mm: tuple[float, float, float]) -> NDArray[np.float64]:
    """RAS affine of voxel axes that grow to ``codes`` (such as "IPL"), with an origin that is not 0."""
    affine = np.zeros((4, 4))
    for own_axis, letter in enumerate(codes):
        patient_axis = next(i for i, pair in enumerate(("RL", "AP", "SI")) if letter in pair)
        affine[patient_axis, own_axis] = spacing_mm[own_axis] * (1 if letter in "RAS" else -1)
    affine[:, 3] = (12.5, -40.0, 310.0, 1.0)
    return affine


def make_entries(
    folder: Path, count: int = 3, shape: tuple[int, int, int] = (40, 36, 20), label: bool = False
) -> list[Entry]:
    """Scans of different patients on disk, and a label map for each where asked."""
    spacing_mm = (1.0, 1.2, 3.0)
    affine = oriented_affine("LPS", spacing_mm)
    entries = []
    for number in range(count):
        hu = body_hu(shape, seed=number)
        image = write_nifti(folder / f"case_{number}.nii.gz", hu, affine)
        seg = write_nifti(folder / f"seg_{number}.nii.gz", (hu > 100).astype(np.uint8), affine) if label else None
        place = {"shape": shape, "spacing_mm": spacing_mm, "orientation": "LPS"}
        entries.append(Entry.model_validate({"image": image, "label": seg, "patient": f"p{number}", **place}))
    return entries
