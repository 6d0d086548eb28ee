"""What is written lies where its scan lies, and is there whole or not at all."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from tests.data.io.make_files import write_nifti
from voco_cli.data.io.image import Scan
from voco_cli.data.io.reader import read_scan, write_scan
from voco_cli.errors import ResourceError, UsageError


@pytest.fixture
def scan() -> Scan:
    """An oblique scan: turned by 25 degrees about z, then 10 about x."""
    a, b = np.radians([25, 10])
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    array = np.random.default_rng(0).integers(-1000, 1000, (4, 5, 6)).astype(np.int16)
    return Scan(array, (0.7, 0.8, 2.5), (-123.4, 56.7, 890.1), about_x @ about_z, Path("scan.nii.gz"))


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii", "a.nrrd", "a.mha"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.float32])
def test_geometry_and_voxels_come_back(tmp_path: Path, scan: Scan, name: str, dtype: type) -> None:
    array = np.abs(scan.array_zyx // 8).astype(dtype)
    write_scan(array, scan, tmp_path / "new" / name)
    back = read_scan(tmp_path / "new" / name)
    np.testing.assert_array_equal(back.array_zyx, array)
    assert back.array_zyx.dtype == dtype
    assert back.notes == ()
    # NIfTI keeps matrices in single precision.
    np.testing.assert_allclose(back.direction, scan.direction, atol=1e-6)
    np.testing.assert_allclose(back.spacing_xyz_mm, scan.spacing_xyz_mm, rtol=1e-6)
    np.testing.assert_allclose(back.origin_xyz_mm, scan.origin_xyz_mm, rtol=1e-6)
    assert [path.name for path in (tmp_path / "new").iterdir()] == [name]


def test_simpleitk_reads_the_same_place(tmp_path: Path, scan: Scan) -> None:
    write_scan(scan.array_zyx, scan, tmp_path / "a.nii.gz")
    image = sitk.ReadImage(str(tmp_path / "a.nii.gz"))
    np.testing.assert_allclose(image.GetDirection(), scan.direction.ravel(), atol=1e-5)
    np.testing.assert_allclose(image.GetOrigin(), scan.origin_xyz_mm, rtol=1e-6)


def test_another_shape_or_ending_is_refused(tmp_path: Path, scan: Scan) -> None:
    with pytest.raises(UsageError, match=r"shape \(4, 5, 5\)"):
        write_scan(scan.array_zyx[..., 1:], scan, tmp_path / "a.nii.gz")
    with pytest.raises(UsageError, match="ending"):
        write_scan(scan.array_zyx, scan, tmp_path / "a.png")


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, scan: Scan, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_nifti(tmp_path / "a.nii.gz")
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("voco_cli.data.io.reader.nib.save", full)
    with pytest.raises(ResourceError, match=r"disk is full: .*a\.nii\.gz could not be written"):
        write_scan(scan.array_zyx, scan, path)
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["a.nii.gz"]


def test_mirrored_scan_comes_back(tmp_path: Path, scan: Scan) -> None:
    mirrored = replace(scan, direction=np.diag([-1.0, 1.0, 1.0]))
    write_scan(scan.array_zyx, mirrored, tmp_path / "a.nii.gz")
    np.testing.assert_allclose(read_scan(tmp_path / "a.nii.gz").direction, mirrored.direction, atol=1e-7)
