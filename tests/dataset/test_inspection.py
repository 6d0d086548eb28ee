"""A damaged file is a sentence, whatever its damage."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from tests.scans.make_files import numbers, write_dicom, write_enhanced, write_nifti
from voco_cli.dataset.inspection import VoxelJob, check_voxels, inspect_file, is_label_like
from voco_cli.dataset.reasons import count_kinds, kind_of

FLIPS = 150


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.mha", "a.nrrd", "slice", "frames"])
def test_random_damage_never_raises(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "slice":
        path = write_dicom(tmp_path)[0]
    elif name == "frames":
        write_enhanced(path, slopes=[1, 2, 3, 4])
    elif name.startswith("a.nii"):
        write_nifti(path)
    else:
        sitk.WriteImage(sitk.GetImageFromArray(numbers().T.copy()), str(path))
    good, random = path.read_bytes(), np.random.default_rng(0)
    for _ in range(FLIPS):
        raw = bytearray(good)
        for place in random.integers(0, min(len(good), 2000 if name == "frames" else 400), 4):
            raw[place] = random.integers(256)
        path.write_bytes(raw)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            seen = inspect_file(path)
            assert sum(part is not None for part in (seen.header, seen.slices, seen.fault)) == 1
            if seen.header is not None and np.prod(seen.header.shape_xyz) < 10**6:
                check_voxels(VoxelJob(path))


def test_label_like(tmp_path: Path) -> None:
    assert is_label_like(write_nifti(tmp_path / "l.nii.gz", (numbers() % 4).astype(np.float32) ** 2))
    assert not is_label_like(write_nifti(tmp_path / "c.nii.gz", numbers()))  # from -100
    assert not is_label_like(write_nifti(tmp_path / "f.nii.gz", np.full((4, 4, 4), 0.5, np.float32)))


def test_labels_are_checked_with_their_scan(tmp_path: Path) -> None:
    scan = write_nifti(tmp_path / "s.nii.gz")
    empty = write_nifti(tmp_path / "e.nii.gz", np.zeros((7, 6, 5), np.uint8))
    half = write_nifti(tmp_path / "h.nii.gz", np.full((7, 6, 5), 0.5, np.float32))
    assert check_voxels(VoxelJob(scan, label=empty)).notes == ("the label map is empty",)
    assert check_voxels(VoxelJob(scan, label=half)).label_fault == "label map with values that are not whole numbers."
    assert check_voxels(VoxelJob(scan, label=tmp_path / "no.nii")).label_fault == (
        "cannot be opened: No such file or directory."
    )


def test_kinds() -> None:
    assert kind_of("a gantry tilt of 18.5 degrees and uneven slice gaps (1 x 2 mm).") == "gantry tilt"
    assert kind_of("axes that are not at right angles (..), as a gantry tilt or a shear makes them") == "sheared axes"
    assert kind_of("cannot be read: KeyError: 3.") == "damaged or not readable"
    assert kind_of("/a/b is compressed as JPIP, which is not decoded.") == "compression that is not decoded"
    assert kind_of("/a/b is truncated: its pixels are 2 bytes too short.") == "truncated"
    assert count_kinds([]) == {}
