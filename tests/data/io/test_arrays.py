"""Arrays and folders of slices: voxels where they belong, no geometry claimed, and every refusal in one sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from tests.data.io.make_files import write_dicom
from voco_cli.data.index.patients import case_of, stem_of
from voco_cli.data.io.arrays import NO_PLACE, slice_pictures
from voco_cli.data.io.reader import file_format, read_header, read_scan
from voco_cli.errors import DataError, GeometryError


def numbers(shape: tuple[int, ...] = (4, 5, 6)) -> np.ndarray:
    """Slices, rows, columns; every voxel another number."""
    return np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)


def write_picture(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(exist_ok=True, parents=True)
    sitk.WriteImage(sitk.GetImageFromArray(array, isVector=array.ndim == 3), str(path))


def write_slices(folder: Path, array: np.ndarray, names: list[str]) -> None:
    for name, plane in zip(names, array, strict=True):
        write_picture(folder / name, plane)


def test_an_array_is_slice_row_column(tmp_path: Path) -> None:
    np.save(tmp_path / "p12-s345.npy", numbers())
    scan, header = read_scan(tmp_path / "p12-s345.npy"), read_header(tmp_path / "p12-s345.npy")
    assert scan.shape_xyz == header.shape_xyz == (6, 5, 4)
    np.testing.assert_array_equal(scan.array_zyx, numbers())
    assert (scan.spacing_xyz_mm, header.orientation, header.dtype) == ((1, 1, 1), "LPS", "uint8")
    assert scan.notes == header.notes == (NO_PLACE,)
    assert header.format == "numpy"
    assert stem_of(tmp_path / "p12-s345.npy") == case_of(tmp_path / "p12-s345.npy") == "p12-s345"


@pytest.mark.parametrize(
    ("stored", "dtype"),
    [
        (np.asfortranarray(numbers()), "uint8"),
        (numbers().astype(">i2"), "int16"),
        (numbers().astype(np.float16), "float32"),
        (numbers() > 3, "uint8"),
        (numbers()[..., None].transpose(3, 0, 1, 2), "uint8"),  # a leading axis of length 1
    ],
    ids=["fortran", "big-endian", "half", "bool", "4-D of one"],
)
def test_ways_to_store_the_same(tmp_path: Path, stored: np.ndarray, dtype: str) -> None:
    np.save(tmp_path / "a.npy", stored)
    scan = read_scan(tmp_path / "a.npy")
    assert scan.array_zyx.dtype == dtype == read_header(tmp_path / "a.npy").dtype
    assert scan.array_zyx.flags.c_contiguous
    np.testing.assert_array_equal(scan.array_zyx, np.asarray(stored, dtype).reshape(4, 5, 6))


class Explosive:
    """A pickle that would run code."""

    def __reduce__(self) -> tuple[object, ...]:
        return (pytest.fail, ("the pickle was run",))


def test_pickled_objects_are_refused_by_name_and_not_run(tmp_path: Path) -> None:
    np.save(tmp_path / "evil.npy", np.array([[[Explosive()]]], dtype=object), allow_pickle=True)
    for read in (read_scan, read_header):
        with pytest.raises(DataError, match=r"evil\.npy holds pickled Python objects"):
            read(tmp_path / "evil.npy")


def test_other_arrays_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    for array, error, words in (
        (numbers((2, 2, 3, 4)), GeometryError, r"a\.npy is 4-D \(4x3x2x2\), and a scan is 3-D"),
        (numbers((3, 4)), GeometryError, r"a\.npy is 2-D \(4x3\)"),
        (numbers().astype(complex), DataError, r"a\.npy holds complex128 voxels"),
    ):
        np.save(path, array)
        with pytest.raises(error, match=words):
            read_header(path)
    np.save(path, numbers())
    whole = path.read_bytes()
    for content, words in (
        (whole[:-1], "is truncated"),
        (b"", "is empty"),
        (b"PK\x03\x04 a zip", r"is no \.npy array"),
    ):
        path.write_bytes(content)
        for read in (read_scan, read_header):
            with pytest.raises(DataError, match=words):
                read(path)
    with pytest.raises(DataError, match="cannot be opened"):
        read_scan(tmp_path / "missing.npy")


def test_slices_are_stacked_by_number(tmp_path: Path) -> None:
    folder = tmp_path / "NCP" / "1107"
    array = numbers((4, 5, 6)) + np.arange(4, dtype=np.uint8)[:, None, None] * 10
    write_slices(folder, array[[2, 0, 3, 1]], ["10.png", "1.png", "0011.PNG", "2.png"])
    (folder / "notes.txt").write_text("no slice")
    (folder / ".hidden.png").write_bytes(b"no picture")
    assert [path.name for path in slice_pictures(folder)] == ["1.png", "2.png", "10.png", "0011.PNG"]
    scan, header = read_scan(folder), read_header(folder)
    np.testing.assert_array_equal(scan.array_zyx, array)
    assert scan.array_zyx.dtype == header.dtype == "uint8"
    assert scan.shape_xyz == header.shape_xyz == (6, 5, 4)
    assert (scan.notes, header.format, header.orientation) == ((NO_PLACE,), "pictures", "LPS")
    assert case_of(folder) == "1107"


def test_jpeg_slices(tmp_path: Path) -> None:
    flat = np.full((3, 16, 16), 77, np.uint8)
    write_slices(tmp_path / "scan", flat, ["IM1.jpg", "IM2.jpeg", "IM3.JPG"])
    np.testing.assert_array_equal(read_scan(tmp_path / "scan").array_zyx, flat)


def test_folders_that_are_no_scan(tmp_path: Path) -> None:
    for name, array in (("small.png", numbers((5, 6))), ("large.png", numbers((7, 6)))):
        write_picture(tmp_path / "sizes" / name, array)
    with pytest.raises(GeometryError, match=r"sizes holds slices of 2 sizes: 6x7 \(large.png\), 6x5 \(small.png\)"):
        read_header(tmp_path / "sizes")

    write_picture(tmp_path / "one" / "1.png", numbers((5, 6)))
    with pytest.raises(GeometryError, match="one is 2-D"):
        read_scan(tmp_path / "one")

    write_picture(tmp_path / "colour" / "1.png", numbers((5, 6, 3)))
    with pytest.raises(DataError, match=r"1\.png is in colour"):
        read_scan(tmp_path / "colour")

    write_slices(tmp_path / "formats", numbers((2, 5, 6)), ["1.png", "2.png"])
    write_picture(tmp_path / "formats" / "2.png", numbers((5, 6)).astype(np.uint16))
    with pytest.raises(DataError, match=r"different number formats: uint8 \(1\.png\), uint16 \(2\.png\)"):
        read_scan(tmp_path / "formats")

    write_slices(tmp_path / "cut", numbers((2, 5, 6)), ["1.png", "2.png"])
    (tmp_path / "cut" / "2.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"2\.png cannot be read as a picture"):
        read_scan(tmp_path / "cut")

    (tmp_path / "nothing").mkdir()
    with pytest.raises(DataError, match="nothing holds no DICOM images"):
        read_scan(tmp_path / "nothing")


def test_a_dicom_folder_with_a_picture_in_it_stays_dicom(tmp_path: Path) -> None:
    write_dicom(tmp_path)
    before = read_scan(tmp_path)
    write_picture(tmp_path / "preview.png", numbers((5, 6)))
    after = read_scan(tmp_path)
    np.testing.assert_array_equal(after.array_zyx, before.array_zyx)
    assert after.spacing_xyz_mm == before.spacing_xyz_mm


def test_an_index_takes_no_array_for_a_scan(tmp_path: Path) -> None:
    """Arrays are read where a task names them; in a folder they may be anything."""
    np.save(tmp_path / "features.npy", numbers())
    assert file_format(tmp_path / "features.npy") is None


def test_an_array_in_the_order_of_fortran_is_read_as_numpy_reads_it(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.asfortranarray(numbers()))
    np.testing.assert_array_equal(read_scan(tmp_path / "a.npy").array_zyx, numbers())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"'descr': '|u1'", b"'descr': (((((('"),
        (b"(4, 5, 6)", b"(4, 5, 6 "),
        (b"(4, 5, 6)", b"(-4,5,-6)"),
        (b"(4, 5, 6)", b"(4, 5, x)"),
        (b"False", b"Fa\0se"),
        (b"(4, 5, 6)", b"(4, 5, 3)"),
        (b"(4, 5, 6)", b"(4, 5, 9)"),
    ],
)
def test_a_damaged_array_header_is_one_short_sentence(tmp_path: Path, old: bytes, new: bytes) -> None:
    np.save(tmp_path / "a.npy", numbers())
    raw = (tmp_path / "a.npy").read_bytes()
    assert old in raw
    (tmp_path / "a.npy").write_bytes(raw.replace(old, new))
    with pytest.raises(DataError, match=r"a\.npy (has a damaged|is truncated|holds )") as refused:
        read_scan(tmp_path / "a.npy")
    assert len(refused.value.message) < len(str(tmp_path)) + 200
    assert "\n" not in refused.value.message


def test_a_jpeg_that_was_cut_is_truncated(tmp_path: Path) -> None:
    for name in ("1.jpg", "2.jpg"):
        sitk.WriteImage(sitk.GetImageFromArray(numbers((64, 64))), str(tmp_path / name))
    assert read_scan(tmp_path).shape_xyz == (64, 64, 2)
    whole = (tmp_path / "2.jpg").read_bytes()
    (tmp_path / "2.jpg").write_bytes(whole[:-40])
    with pytest.raises(DataError, match=r"2\.jpg is truncated"):
        read_header(tmp_path)
    (tmp_path / "2.jpg").write_bytes(whole + b"\0" * 100)
    assert read_scan(tmp_path).shape_xyz == (64, 64, 2)
