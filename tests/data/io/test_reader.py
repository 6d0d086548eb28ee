"""DICOM series through the one reader: order, place, values, and every refusal."""

from pathlib import Path

import numpy as np
import pytest

from tests.data.io.make_files import write_dicom, write_nifti, write_rtstruct
from voco_cli.data.io.reader import file_format, read_header, read_scan
from voco_cli.errors import DataError, GeometryError


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
