"""A folder of generated scans in the layout of nnU-Net: imagesTr/NAME_0000.nii.gz, labelsTr/NAME.nii.gz."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray

from voco_cli.errors import ResourceError
from voco_cli.phantom.generate import generate_phantom

RAS_IN_LPS = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0)
"""Direction of a volume whose axes run to R, A, S, in the LPS world of SimpleITK."""


def patient_seed(seed: int, index: int) -> int:
    """The seed of patient ``index`` of the group ``seed``; groups with different seeds share no patient."""
    return int(np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)[0])


def write_phantoms(
    folder: Path,
    count: int,
    seed: int,
    shape_xyz: tuple[int, int, int] = (96, 96, 24),
    spacing_mm: tuple[float, float, float] | None = None,
    labelled: bool = False,
) -> list[Path]:
    """Write ``count`` generated patients as compressed NIfTI; patient i is the same however many are asked for.

    Args:
        folder: made where it does not exist; files of the same names are replaced.
        count: patients.
        seed: of the group.
        shape_xyz: voxels.
        spacing_mm: spacing in the header; none is the field of view divided by the shape.
        labelled: write the label maps too.
    Returns:
        The image files, in order.
    Raises:
        UsageError: a shape too small to hold all organs.
        ResourceError: the folder cannot be written.
    """
    images = []
    for index in range(count):
        phantom = generate_phantom(patient_seed(seed, index), shape_xyz)
        spacing = spacing_mm or phantom.spacing_mm
        name = f"phantom_{seed:03d}_{index:04d}"
        images.append(folder / "imagesTr" / f"{name}_0000.nii.gz")
        _write_ras(images[-1], phantom.image_hu_xyz, spacing)
        if labelled:
            _write_ras(folder / "labelsTr" / f"{name}.nii.gz", phantom.labels_xyz, spacing)
    return images


def _write_ras(path: Path, array_xyz: NDArray[Any], spacing_mm: tuple[float, float, float]) -> None:
    """Write an array in RAS voxel order with its centre at the world's origin, whole or not at all."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(array_xyz.transpose(2, 1, 0)))
    image.SetSpacing(spacing_mm)
    image.SetDirection(RAS_IN_LPS)
    half_mm = [(n - 1) / 2 * step for n, step in zip(array_xyz.shape, spacing_mm, strict=True)]
    image.SetOrigin((half_mm[0], half_mm[1], -half_mm[2]))
    partial = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResourceError(f"{path.parent} could not be made: {error.strerror}.") from error
    try:
        sitk.WriteImage(image, str(partial), useCompression=True, compressionLevel=1)
        with partial.open("rb") as written:
            os.fsync(written.fileno())
        partial.replace(path)
    except (OSError, RuntimeError) as error:
        raise ResourceError(f"{path} could not be written: {str(error).splitlines()[-1]}.") from error
    finally:
        partial.unlink(missing_ok=True)
