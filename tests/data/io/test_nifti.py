"""NIfTI: voxels and place as written, and damage noticed."""

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from tests.data.io.make_files import numbers, write_nifti
from voco_cli.data.io import voxel_bytes
from voco_cli.data.io.image import Header
from voco_cli.data.io.nifti import nifti_layout
from voco_cli.data.io.reader import file_format, image_files, read_scan
from voco_cli.data.io.voxel_bytes import read_voxels
from voco_cli.errors import DataError, GeometryError


def read_nifti_header(path: Path) -> Header:
    return nifti_layout(path)[0]


def read_nifti(path: Path) -> tuple[Header, NDArray[Any]]:
    header, voxels = nifti_layout(path)
    return header, read_voxels(voxels)


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
    with pytest.raises(DataError, match="damaged: incorrect checksum"):
        read_nifti(path)


def test_a_long_name_inside_a_gzip_file_is_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "scan.nii.gz"
    write_nifti(path)
    body = gzip.compress(gzip.decompress(path.read_bytes()), mtime=0)
    path.write_bytes(body[:3] + bytes([8]) + body[4:10] + b"n" * 1_000_000 + b"\0" + body[10:])
    np.testing.assert_array_equal(read_nifti(path)[1], numbers().T)


@pytest.mark.parametrize(
    ("behind", "notes"),
    [
        (b"\n", ()),  # no part of the compressed stream
        (b"\0" * 40, ()),
        (gzip.compress(b"\0" * 40, mtime=0), ("40 bytes behind the voxels were not read",)),
        (gzip.compress(b"", mtime=0), ()),
    ],
)
def test_padding_behind_the_voxels_is_no_damage(tmp_path: Path, behind: bytes, notes: tuple[str, ...]) -> None:
    path = write_nifti(tmp_path / "a.nii.gz")
    path.write_bytes(path.read_bytes() + behind)
    assert read_nifti_header(path).notes == notes
    np.testing.assert_array_equal(read_nifti(path)[1], numbers().T)


def test_decompression_stops_where_the_announced_voxels_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = write_nifti(tmp_path / "a.nii").read_bytes()
    path = tmp_path / "b.nii.gz"
    path.write_bytes(gzip.compress(plain + b"\0" * 50_000_000, mtime=0))  # 772 bytes of it are announced
    pieces: list[int] = []
    decompressed = voxel_bytes._decompressed

    def counted(*given: Any) -> Iterator[bytes]:
        for piece in decompressed(*given):
            pieces.append(len(piece))
            yield piece

    monkeypatch.setattr(voxel_bytes, "_decompressed", counted)
    for read in (read_nifti_header, read_nifti):
        with pytest.raises(DataError, match=r"b\.nii\.gz holds more than the 772 bytes that its header announces"):
            read(path)
    assert sum(pieces) <= 4 * voxel_bytes.PIECE_BYTES


def test_what_no_stream_can_expand_to_is_truncated_whatever_its_trailer_says(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii")
    raw = bytearray(path.read_bytes())
    raw[42:48] = np.array([32000, 32000, 32000], dtype="<i2").tobytes()
    packed = bytearray(gzip.compress(bytes(raw), mtime=0))
    packed[-4:] = ((352 + 2 * 32000**3) % 2**32).to_bytes(4, "little")
    path = tmp_path / "b.nii.gz"
    path.write_bytes(packed)
    for read in (read_nifti_header, read_nifti):
        with pytest.raises(DataError, match="truncated: its header announces 65536000000352 bytes"):
            read(path)


def test_a_scan_that_does_not_fit_into_memory_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_nifti(tmp_path / "a.nii.gz", np.zeros((100, 100, 100), np.int16))
    monkeypatch.setattr(voxel_bytes, "ALWAYS_THERE_BYTES", 0)
    monkeypatch.setattr(voxel_bytes, "free_host_bytes", lambda: 1_000_000)
    with pytest.raises(DataError, match=r"a\.nii\.gz needs 0\.0 GB of memory \(100x100x100 voxels of int16\)"):
        read_nifti(path)
    assert read_nifti_header(path).shape_xyz == (100, 100, 100)


def test_several_gzip_members_are_one_file(tmp_path: Path) -> None:
    plain = write_nifti(tmp_path / "a.nii").read_bytes()
    path = tmp_path / "b.nii.gz"
    path.write_bytes(gzip.compress(plain[:500], mtime=0) + gzip.compress(plain[500:], mtime=0))
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


QFAC, PIXDIM, QUATERNION = 76, 80, 256  # bytes of the header


def poked(path: Path, *edits: tuple[int, float], codes: tuple[int, int] = (1, 1)) -> Path:
    """An image of 2 x 2 x 3 mm whose header says other numbers at these bytes."""
    raw = bytearray(write_nifti(path, codes=codes).read_bytes())
    for offset, value in edits:
        raw[offset : offset + 4] = np.float32(value).tobytes()
    path.write_bytes(raw)
    return path


@pytest.mark.parametrize(
    ("edit", "note"),
    [
        ((QFAC, 0.0), "qfac is 0"),
        ((PIXDIM + 4, -2.0), "negative voxel sizes"),
        ((QUATERNION, 0.2), "the qform cannot be used: its quaternion"),
        ((QUATERNION, np.nan), "the qform cannot be used: it holds what is no number"),
        ((PIXDIM + 4, 0.0), "the qform cannot be used: its voxel sizes are 2, 0, 3 mm"),
    ],
)
def test_a_bad_qform_beside_a_good_sform_is_noted(tmp_path: Path, edit: tuple[int, float], note: str) -> None:
    # The quaternion of diag(-2, -2, 3) is (0, 0, 0, 1): any other number in it makes it longer than 1.
    header, array = read_nifti(poked(tmp_path / "a.nii", edit))
    np.testing.assert_array_equal(array, numbers().T)
    assert header.placement.spacing_xyz_mm == (2, 2, 3)
    np.testing.assert_array_equal(header.placement.direction, np.eye(3))
    assert note in " ".join(header.notes)


@pytest.mark.parametrize(("edit", "note"), [((QFAC, 0.0), "qfac is 0"), ((PIXDIM, -2.0), "negative voxel sizes")])
def test_a_qform_alone_is_read_as_nibabel_reads_it(tmp_path: Path, edit: tuple[int, float], note: str) -> None:
    header = read_nifti_header(poked(tmp_path / "a.nii", edit, codes=(0, 1)))
    expected = nib.load(tmp_path / "a.nii").affine
    np.testing.assert_allclose(
        header.placement.direction * header.placement.spacing_xyz_mm, [-1, -1, 1] * expected[:3, :3].T
    )
    assert note in " ".join(header.notes)


def test_a_rounded_quaternion_is_read_and_a_wrong_one_is_not(tmp_path: Path) -> None:
    edits = [(QUATERNION + 4 * i, value) for i, value in enumerate((0.578, 0.578, 0.577))]  # of 1 / sqrt(3)
    header = read_nifti_header(poked(tmp_path / "a.nii", *edits, codes=(0, 1)))
    assert "length of 1.000548" in header.notes[0]
    # Half a turn about (1, 1, 1): x goes to (-1, 2, 2) / 3, in L, P, S to (1, -2, 2) / 3.
    np.testing.assert_allclose(header.placement.direction[:, 0], np.array([1, -2, 2]) / 3, atol=2e-3)
    for path in (
        poked(tmp_path / "b.nii", (QUATERNION, 0.5), codes=(0, 1)),
        poked(tmp_path / "c.nii", (QUATERNION, np.inf), codes=(0, 1)),
    ):
        with pytest.raises(GeometryError, match="has a qform that cannot be used"):
            read_nifti_header(path)


def write_pair(folder: Path, header: str = "a.hdr", data: str = "a.img", *, version: int = 1) -> Path:
    image = (nib.Nifti1Pair if version == 1 else nib.Nifti2Pair)(numbers(), np.diag([-2.0, -2.0, 3.0, 1.0]))
    nib.save(image, folder / "saved.img")
    raw = (folder / "saved.img").read_bytes()
    (folder / data).write_bytes(gzip.compress(raw, mtime=0) if data.endswith(".gz") else raw)
    raw = (folder / "saved.hdr").read_bytes()
    (folder / header).write_bytes(gzip.compress(raw, mtime=0) if header.endswith(".gz") else raw)
    return folder / header


@pytest.mark.parametrize(
    ("header", "data"), [("a.hdr", "a.img"), ("a.hdr", "a.img.gz"), ("a.hdr.gz", "a.img.gz"), ("A.HDR", "A.IMG")]
)
@pytest.mark.parametrize("version", [1, 2])
def test_a_pair_is_one_scan_under_either_name(tmp_path: Path, header: str, data: str, version: int) -> None:
    write_pair(tmp_path, header, data, version=version)
    for name in (header, data):
        assert file_format(tmp_path / name) == "nifti"
        scan = read_scan(tmp_path / name)
        np.testing.assert_array_equal(scan.array_zyx, numbers().T)
        assert scan.spacing_xyz_mm == (2, 2, 3)
        assert image_files(tmp_path / name) == (tmp_path / header, tmp_path / data)


def test_a_pair_that_is_not_whole_and_an_analyze_image_are_named(tmp_path: Path) -> None:
    header = write_pair(tmp_path)
    (tmp_path / "a.img").write_bytes((tmp_path / "a.img").read_bytes()[:-1])
    with pytest.raises(
        DataError, match=r"a\.hdr is truncated: its header announces 420 bytes and 419 are there in a\.img"
    ):
        read_nifti_header(header)
    (tmp_path / "a.img").unlink()
    with pytest.raises(DataError, match=r"a\.hdr has its voxels in a file called \.img, which is not beside it"):
        read_nifti_header(header)
    raw = bytearray(write_pair(tmp_path).read_bytes())
    raw[344:348] = b"\0\0\0\0"
    header.write_bytes(raw)
    for name in ("a.hdr", "a.img"):
        with pytest.raises(DataError, match=r"ANALYZE 7\.5 image, which does not state its orientation"):
            read_scan(tmp_path / name)
    (tmp_path / "disk.img").write_bytes(b"\0" * 1000)
    (tmp_path / "b.nii").write_bytes((tmp_path / "saved.hdr").read_bytes() + bytes(900))
    with pytest.raises(DataError, match="not an image"):
        read_scan(tmp_path / "disk.img")
    with pytest.raises(DataError, match=r"b\.nii has its voxels in a file called \.img"):
        read_scan(tmp_path / "b.nii")


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
    ("content", "what"),
    [(b"", "empty"), (b"plain text", "not a gzip"), (gzip.compress(b"x" * 999, mtime=0), "not a NIfTI")],
)
def test_what_is_no_image_is_named(tmp_path: Path, content: bytes, what: str) -> None:
    path = tmp_path / "a.nii.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=what):
        read_nifti_header(path)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nope\.nii\.gz cannot be opened: No such file"):
        read_nifti(tmp_path / "nope.nii.gz")
