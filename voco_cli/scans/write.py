"""Writing a volume so that it lies where the scan lies that it was made from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from voco_cli.errors import ResourceError, UsageError
from voco_cli.scans.scan import Scan
from voco_cli.whole_files import whole_file

SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha")
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
SCANNER_CODE = 1  # NIfTI: coordinates of the scanner
MM_UNIT = "mm"


def write_scan(array_zyx: NDArray[Any], like: Scan, path: Path) -> None:
    """Write voxels on the grid of ``like``; the file is there whole or not at all.

    Args:
        array_zyx: any number format that the file format holds, same shape as ``like``.
        like: gives spacing, origin and direction.
        path: ends in ``.nii.gz``, ``.nii``, ``.nrrd`` or ``.mha``; its folder is made where missing.
    Raises:
        UsageError: another shape, or a name with another ending.
        ResourceError: the disk is full or does not allow it.
    """
    if array_zyx.shape != like.array_zyx.shape:
        raise UsageError(
            f"{path} would get shape {array_zyx.shape} (z, y, x), and its scan has {like.array_zyx.shape}."
        )
    suffix = next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), None)
    if suffix is None:
        raise UsageError(f"{path} has no ending that can be written.", f"Use one of {', '.join(SUFFIXES)}.")
    array = array_zyx.astype(np.uint8) if array_zyx.dtype == np.bool_ else array_zyx
    try:
        with whole_file(path) as beside:
            _write_nifti(array, like, beside) if suffix.startswith(".nii") else _write_itk(array, like, beside)
    except RuntimeError as error:  # how SimpleITK says that it could not write
        raise ResourceError(f"{path} cannot be written: {error}.") from error


def _write_nifti(array_zyx: NDArray[Any], like: Scan, path: Path) -> None:
    affine = np.eye(4)
    affine[:3, :3] = like.direction * np.array(like.spacing_xyz_mm)
    affine[:3, 3] = like.origin_xyz_mm
    if array_zyx.dtype == np.float16:
        array_zyx = array_zyx.astype(np.float32)
    kind = nib.Nifti2Image if max(array_zyx.shape) > np.iinfo(np.int16).max else nib.Nifti1Image
    image = kind(array_zyx.T, LPS_TO_RAS @ affine, dtype=array_zyx.dtype)
    image.set_sform(LPS_TO_RAS @ affine, SCANNER_CODE)
    image.set_qform(LPS_TO_RAS @ affine, SCANNER_CODE)
    image.header.set_xyzt_units(MM_UNIT)
    nib.save(image, path)


def _write_itk(array_zyx: NDArray[Any], like: Scan, path: Path) -> None:
    import SimpleITK as sitk  # late: most people have NIfTI

    image = sitk.GetImageFromArray(array_zyx)
    image.SetSpacing(like.spacing_xyz_mm)
    image.SetOrigin(like.origin_xyz_mm)
    image.SetDirection(like.direction.flatten().tolist())
    sitk.WriteImage(image, str(path), True)
