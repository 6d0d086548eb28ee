"""DICOM series through the one reader: order, place, values, and every refusal."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from tests.data.io.make_files import write_dicom, write_nifti, write_rtstruct
from voco_cli.data.io.image import Scan
from voco_cli.data.io.reader import file_format, read_header, read_scan, write_scan
from voco_cli.errors import DataError, GeometryError, ResourceError, UsageError


def test_series_is_sorted_by_position_and_placed(tmp_path: Path) -> None:
    write_dicom(tmp_path)
    scan = read_scan(tmp_path)
    assert scan.shape_xyz == (6, 5, 4)
    assert scan.spacing_xyz_mm == pytest.approx((1.5, 2.0, 3.0))
    assert scan.origin_xyz_mm == pytest.approx((10, 20, 0))
    np.testing.assert_array_equal(scan.direction, np.eye(3))
    # Slice k holds 100 * k and up, minus 10 by the intercept.
    np.testing.assert_array_equal(scan.array_zyx[:, 0, 0], [-10, 90, 190, 290])
    np.testing.assert_array_equal(scan.array_zyx[1, 0], 90 + np.arange(6))
    assert scan.array_zyx.dtype.kind == "i"


def test_fractions_become_float32(tmp_path: Path) -> None:
    write_dicom(tmp_path, slope=0.25)
    scan = read_scan(tmp_path)
    assert scan.array_zyx.dtype == np.float32
    np.testing.assert_allclose(scan.array_zyx[2, 0, :3], [40, 40.25, 40.5])
    assert read_header(tmp_path).dtype == "float32"


def test_a_file_names_its_series_and_a_folder_of_two_is_ambiguous(tmp_path: Path) -> None:
    ct = write_dicom(tmp_path, name="ct")
    pet = write_dicom(tmp_path, (0, 5, 10), modality="PT", name="pt")
    write_rtstruct(tmp_path / "contours")
    assert read_scan(ct[2]).shape_xyz == (6, 5, 4)
    assert read_scan(pet[0]).shape_xyz == (6, 5, 3)
    with pytest.raises(DataError, match=r"holds 2 DICOM series: CT of 4 .*, PT of 3"):
        read_scan(tmp_path)


def test_series_over_two_folders(tmp_path: Path) -> None:
    write_dicom(tmp_path / "one", (0, 3), series="1.2.3")
    write_dicom(tmp_path / "two", (6, 9), series="1.2.3")
    whole = read_scan(tmp_path)
    assert whole.shape_xyz == (6, 5, 4)
    listed = read_scan(tmp_path / "one" / "slice001", sorted(tmp_path.rglob("slice*")))
    np.testing.assert_array_equal(listed.array_zyx, whole.array_zyx)


def test_uneven_gaps_are_refused_with_the_gaps(tmp_path: Path) -> None:
    write_dicom(tmp_path, (0, 3, 6, 12))
    with pytest.raises(GeometryError, match=r"uneven slice gaps \(2 x 3 mm, 1 x 6 mm\)"):
        read_header(tmp_path)


def test_jitter_of_written_decimals_is_no_gap(tmp_path: Path) -> None:
    write_dicom(tmp_path, (0, 1.25, 2.49, 3.76))
    assert read_header(tmp_path).placement.spacing_xyz_mm[2] == pytest.approx(3.76 / 3)


def test_gantry_tilt_is_refused_with_its_angle(tmp_path: Path) -> None:
    write_dicom(tmp_path, tilt_mm=float(np.tan(np.radians(12))))
    with pytest.raises(GeometryError, match=r"gantry tilt of 12\.0 degrees"):
        read_header(tmp_path)


def test_without_geometry_single_and_double_slices_are_refused(tmp_path: Path) -> None:
    write_dicom(tmp_path / "placeless", place=False)
    with pytest.raises(GeometryError, match="no geometry: 4 of 4 slices lack ImagePositionPatient"):
        read_header(tmp_path / "placeless")
    write_dicom(tmp_path / "single", (0,))
    with pytest.raises(GeometryError, match="single slice"):
        read_header(tmp_path / "single")
    write_dicom(tmp_path / "double", (0, 3, 3, 6))
    with pytest.raises(GeometryError, match="1 slices at the same position"):
        read_header(tmp_path / "double")


def test_truncated_slice_is_named(tmp_path: Path) -> None:
    path = write_dicom(tmp_path, shape=(64, 64))[1]
    path.write_bytes(path.read_bytes()[:-4000])
    with pytest.raises(DataError, match=rf"{path.name} is truncated"):
        read_header(tmp_path)


def test_format_is_told_by_content_for_dicom_and_by_name_else(tmp_path: Path) -> None:
    assert file_format(write_dicom(tmp_path / "d")[0]) == "dicom"
    assert file_format(write_nifti(tmp_path / "a.nii.gz")) == "nifti"
    (tmp_path / "notes.txt").write_text("hello")
    assert file_format(tmp_path / "notes.txt") is None
    with pytest.raises(DataError, match="not an image"):
        read_scan(tmp_path / "notes.txt")


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
