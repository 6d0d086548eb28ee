"""A folder of generated scans in the layout of nnU-Net: imagesTr/NAME_0000.nii.gz, labelsTr/NAME.nii.gz."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from voco_cli.phantom.generate import generate_phantom
from voco_cli.scans.write import write_scan


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
        if spacing_mm is not None:
            phantom = replace(phantom, spacing_mm=spacing_mm)
        name = f"phantom_{seed:03d}_{index:04d}"
        images.append(folder / "imagesTr" / f"{name}_0000.nii.gz")
        scan = phantom.scan(images[-1])
        write_scan(scan.array_zyx, scan, images[-1])
        if labelled:
            write_scan(phantom.labels_xyz.transpose(2, 1, 0), scan, folder / "labelsTr" / f"{name}.nii.gz")
    return images
