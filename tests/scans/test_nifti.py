"""NIfTI: voxels and place as written, and damage noticed."""

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from tests.scans.make_files import numbers, write_nifti
from voco_cli.errors import DataError, GeometryError
from voco_cli.scans.nifti import read_nifti, read_nifti_header


def test_voxels_type_and_place_are_those_that_simpleitk_reads(tmp_path: Path) -> None:
    turn = np.radians(20)
    affine = np.array(
        [
            [np.cos(turn) * 2, -np.sin(turn) * 2, 0, 5],
            [np.sin(turn) * 2, np.cos(turn) * 2, 0, -7],
            [0, 0, 3, 1],
            [0, 0, 0, 1],
        ]
    )
    path = write_nifti(tmp_path / "a.nii.gz", affine=affine)
    header, array = read_nifti(path)
    image = sitk.ReadImage(str(path))
    assert array.dtype == np.int16
    np.testing.assert_array_equal(array, sitk.GetArrayFromImage(image))
    np.testing.assert_allclose(header.placement.spacing_xyz_mm, image.GetSpacing(), rtol=1e-6)
    np.testing.assert_allclose(header.placement.origin_xyz_mm, image.GetOrigin(), atol=1e-5)
    np.testing.assert_allclose(header.placement.direction.ravel(), image.GetDirection(), atol=1e-6)
    assert header.notes == ()


def test_array_is_writable_and_uncompressed_reads_the_same(tmp_path: Path) -> None:
    _, packed = read_nifti(write_nifti(tmp_path / "a.nii.gz"))
    _, plain = read_nifti(write_nifti(tmp_path / "a.nii"))
    np.testing.assert_array_equal(packed, plain)
    assert packed.flags.writeable


def test_big_endian_and_slope_are_resolved(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii")
    swapped = nib.Nifti1Image(numbers(), np.eye(4), nib.Nifti1Header(endianness=">"))
    swapped.header.set_data_dtype(">i2")
    nib.save(swapped, path)
    raw = bytearray(path.read_bytes())
    raw[112:120] = np.array([0.5, 3.0], dtype=">f4").tobytes()  # scl_slope, scl_inter
    path.write_bytes(raw)
    header, array = read_nifti(path)
    assert header.dtype == "float32"
    np.testing.assert_array_equal(array, numbers().T * 0.5 + 3)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.99])
def test_truncated_gzip_is_refused_by_the_header_read(tmp_path: Path, share: float) -> None:
    noise = np.random.default_rng(0).integers(-1000, 1000, (40, 40, 30)).astype(np.int16)
    path = write_nifti(tmp_path / "a.nii.gz", noise)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    for read in (read_nifti_header, read_nifti):
        with pytest.raises(DataError, match=r"a\.nii\.gz is truncated"):
            read(path)


def test_truncated_plain_file_says_both_lengths(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii")  # 352 + 2 * 7 * 6 * 5 = 772 bytes
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(DataError, match="announces 772 bytes and 700"):
        read_nifti_header(path)


def test_a_flipped_bit_fails_the_checksum(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(-1000, 1000, (40, 40, 30)).astype(np.int16)
    path = write_nifti(tmp_path / "a.nii.gz", noise)
    raw = bytearray(path.read_bytes())
    raw[-8] ^= 1  # the checksum itself: all voxels decode, and are not to be trusted
    path.write_bytes(raw)
    with pytest.raises(DataError, match="damaged: CRC"):
        read_nifti(path)


def test_an_endless_name_inside_a_gzip_file_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "scan.nii.gz"
    write_nifti(path)
    raw = path.read_bytes()
    body = gzip.compress(gzip.decompress(raw), mtime=0)
    path.write_bytes(body[:3] + bytes([8]) + body[4:10] + b"n" * 1_000_000 + b"\0" + body[10:])
    with pytest.raises(DataError, match="is damaged"):
        read_nifti(path)


def test_several_gzip_members_are_one_file(tmp_path: Path) -> None:
    plain = write_nifti(tmp_path / "a.nii").read_bytes()
    path = tmp_path / "b.nii.gz"
    path.write_bytes(gzip.compress(plain[:500]) + gzip.compress(plain[500:]))
    np.testing.assert_array_equal(read_nifti(path)[1], numbers().T)


def test_header_extensions_do_not_disturb(tmp_path: Path) -> None:
    image = nib.Nifti1Image(numbers(), np.eye(4))
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"x" * 3000))
    nib.save(image, tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(read_nifti(tmp_path / "a.nii.gz")[1], numbers().T)


def test_sform_is_taken_where_qform_disagrees_and_this_is_noted(tmp_path: Path) -> None:
    moved = np.diag([-2.0, -2.0, 3.0, 1.0])
    moved[2, 3] = 4.0
    header = read_nifti_header(write_nifti(tmp_path / "a.nii.gz", qform=moved))
    assert header.placement.origin_xyz_mm == pytest.approx((0, 0, 0))
    assert header.notes == ("sform and qform disagree by up to 4.00 mm; the sform was taken",)


def test_qform_is_taken_without_sform_and_neither_is_noted(tmp_path: Path) -> None:
    moved = np.diag([-2.0, -2.0, 3.0, 1.0])
    moved[2, 3] = 4.0
    only_q = read_nifti_header(write_nifti(tmp_path / "q.nii.gz", codes=(0, 1), qform=moved))
    assert only_q.placement.origin_xyz_mm[2] == pytest.approx(4.0)
    neither = read_nifti_header(write_nifti(tmp_path / "n.nii.gz", codes=(0, 0)))
    assert neither.placement.spacing_xyz_mm == pytest.approx((2, 2, 3))
    assert "neither sform nor qform" in neither.notes[0]


def test_metres_become_millimetres(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii", affine=np.diag([-0.002, -0.002, 0.003, 1.0]))
    raw = bytearray(path.read_bytes())
    raw[123] = 1  # xyzt_units: metre
    path.write_bytes(raw)
    header = read_nifti_header(path)
    assert header.placement.spacing_xyz_mm == pytest.approx((2, 2, 3))
    assert "factor 1000" in header.notes[0]


def test_sheared_sform_is_refused_by_name(tmp_path: Path) -> None:
    affine = np.diag([-2.0, -2.0, 3.0, 1.0])
    affine[1, 2] = 3 * np.tan(np.radians(15))
    with pytest.raises(GeometryError, match=r"gantry tilt or a shear.*7\.50 degrees"):
        read_nifti_header(write_nifti(tmp_path / "a.nii.gz", affine=affine, codes=(1, 0)))


@pytest.mark.parametrize(("shape", "what"), [((4, 5), "2-D"), ((4, 5, 1), "2-D"), ((4, 5, 6, 2), "4-D")])
def test_pictures_and_series_of_volumes_are_refused(tmp_path: Path, shape: tuple[int, ...], what: str) -> None:
    with pytest.raises(GeometryError, match=what):
        read_nifti_header(write_nifti(tmp_path / "a.nii.gz", np.zeros(shape, np.int16)))


def test_trailing_axis_of_one_is_dropped(tmp_path: Path) -> None:
    header, array = read_nifti(write_nifti(tmp_path / "a.nii.gz", numbers()[..., None]))
    assert header.shape_xyz == (7, 6, 5)
    np.testing.assert_array_equal(array, numbers().T)


@pytest.mark.parametrize(
    ("content", "what"), [(b"", "empty"), (b"plain text", "not a gzip"), (gzip.compress(b"x" * 999), "not a NIfTI")]
)
def test_what_is_no_image_is_named(tmp_path: Path, content: bytes, what: str) -> None:
    path = tmp_path / "a.nii.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=what):
        read_nifti_header(path)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nope\.nii\.gz cannot be opened: No such file"):
        read_nifti(tmp_path / "nope.nii.gz")
