"""NRRD and MetaImage: read as SimpleITK reads them; damage noticed by the header read where lengths tell."""

from __future__ import annotations

import bz2
import gzip
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from voco_cli.data.io.reader import image_files, read_header, read_scan
from voco_cli.errors import DataError, GeometryError

NAMES = ["a.mha", "a.nrrd", "a.mhd", "a.nhdr"]
NUMBERS = np.arange(24, dtype="<i2") * 7 - 50
NRRD = "NRRD0004\ntype: short\ndimension: 3\nsizes: 4 3 2\nendian: little\n"
PLACED = "space: LPS\nspace directions: (1,0,0) (0,2,0) (0,0,3)\nspace origin: (4,5,6)\n"
META = "ObjectType = Image\nNDims = 3\nDimSize = 4 3 2\nElementType = MET_SHORT\n"


def write(path: Path, *, packed: bool, dtype: str = "int16") -> NDArray[Any]:
    array = np.random.default_rng(0).integers(0, 100, (10, 20, 30)).astype(dtype)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((1.5, 2.0, 3.0))
    image.SetOrigin((4.0, 5.0, 6.0))
    image.SetDirection(
        (0.0, 0.0, 1.0, 0.6, 0.8, 0.0, -0.8, 0.6, 0.0)
    )  # oblique, and no matrix that equals its transpose
    sitk.WriteImage(image, str(path), packed)
    return array


def nrrd(path: Path, fields: str, data: bytes, encoding: str = "raw", start: str = NRRD) -> Path:
    path.write_bytes(f"{start}encoding: {encoding}\n{fields}\n".encode() + data)
    return path


def meta(path: Path, fields: str, data: bytes, start: str = META) -> Path:
    path.write_bytes(f"{start}{fields}ElementDataFile = LOCAL\n".encode() + data)
    return path


def assert_as_simpleitk(path: Path) -> None:
    scan, image = read_scan(path), sitk.ReadImage(str(path))
    expected = sitk.GetArrayFromImage(image)
    np.testing.assert_array_equal(scan.array_zyx, expected.reshape(scan.array_zyx.shape))
    assert scan.array_zyx.dtype == expected.dtype
    assert read_header(path).dtype == expected.dtype.name
    assert scan.spacing_xyz_mm == pytest.approx(image.GetSpacing()[:3])
    assert scan.origin_xyz_mm == pytest.approx(image.GetOrigin()[:3])
    n = image.GetDimension()
    np.testing.assert_allclose(scan.direction, np.reshape(image.GetDirection(), (n, n))[:3, :3], atol=1e-7)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_read_as_written(tmp_path: Path, name: str, packed: bool) -> None:
    array = write(tmp_path / name, packed=packed)
    np.testing.assert_array_equal(read_scan(tmp_path / name).array_zyx, array)
    assert_as_simpleitk(tmp_path / name)
    header = read_header(tmp_path / name)
    assert header.shape_xyz == (30, 20, 10)
    assert header.placement.spacing_xyz_mm == pytest.approx((1.5, 2, 3))
    assert header.placement.origin_xyz_mm == pytest.approx((4, 5, 6))
    np.testing.assert_allclose(header.placement.direction, [[0, 0, 1], [0.6, 0.8, 0], [-0.8, 0.6, 0]], atol=1e-12)
    assert header.orientation == "IPL"
    assert header.notes == ()


@pytest.mark.parametrize(
    "dtype", ["int8", "uint8", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64"]
)
def test_every_number_format(tmp_path: Path, dtype: str) -> None:
    for name in ("a.mha", "a.nrrd"):
        write(tmp_path / name, packed=dtype != "int8", dtype=dtype)
        assert_as_simpleitk(tmp_path / name)


@pytest.mark.parametrize(
    "fields",
    [
        PLACED,
        PLACED.replace("LPS", "right-anterior-superior"),
        PLACED.replace("LPS", "LAS"),
        PLACED.replace("LPS", "scanner-xyz"),
        PLACED.replace("space: LPS", "space dimension: 3"),
        PLACED.replace("space origin: (4,5,6)\n", ""),
        PLACED + 'kinds: domain domain domain\nspace units: "mm" "mm" "mm"\n# a comment\nkey:=value: 3\n',
        "spacings: 1 2 3\n",
        "spacings: 1 -2 3\n",
        "spacings: 1 nan 3\n",
        "spacings: 1 2 3\naxis mins: 4 5 6\n",
        "spacings: 1 2 3\naxis mins: 4 5 6\ncenters: node node node\n",
        "",
    ],
)
def test_nrrd_lies_where_simpleitk_puts_it(tmp_path: Path, fields: str) -> None:
    assert_as_simpleitk(nrrd(tmp_path / "a.nrrd", fields, NUMBERS.tobytes()))


@pytest.mark.parametrize(
    "fields",
    [
        "TransformMatrix = 0 1 0 0 0 1 1 0 0\nOffset = 4 5 6\nElementSpacing = 1 2 3\n",
        "Rotation = 0 1 0 0 0 1 1 0 0\nPosition = 4 5 6\nElementSize = 1 2 3\n",
        "Orientation = 0 1 0 0 0 1 1 0 0\nOrigin = 4 5 6\nElementSize = 9 9 9\nElementSpacing = 1 2 3\n",
        "ElementSpacing = 1 -2 3\nAnatomicalOrientation = RAI\n",
        "BinaryDataByteOrderMSB = True\nModality = MET_MOD_CT\n",
        "ElementByteOrderMSB = true\nCenterOfRotation = 1 2 3\n",
        "HeaderSize = -1\n",
        "ElementNumberOfChannels = 1\n",
        "",
    ],
)
def test_metaimage_lies_where_simpleitk_puts_it(tmp_path: Path, fields: str) -> None:
    assert_as_simpleitk(meta(tmp_path / "a.mha", fields, NUMBERS.tobytes()))


def test_a_fourth_axis_of_one_voxel_is_dropped(tmp_path: Path) -> None:
    start = META.replace("NDims = 3", "NDims = 4").replace("4 3 2", "4 3 2 1")
    fields = "TransformMatrix = 0 1 0 0 0 0 1 0 1 0 0 0 0 0 0 1\nOffset = 4 5 6 7\nElementSpacing = 1 2 3 9\n"
    assert_as_simpleitk(meta(tmp_path / "a.mha", fields, NUMBERS.tobytes(), start))
    four = NRRD.replace("dimension: 3", "dimension: 4")
    first = "space: LPS\nspace directions: none (1,0,0) (0,2,0) (0,0,3)\nkinds: list domain domain domain\n"
    for fields, sizes in ((first, "1 4 3 2"), (PLACED.replace("(0,0,3)", "(0,0,3) none"), "4 3 2 1")):
        path = nrrd(tmp_path / "a.nrrd", fields, NUMBERS.tobytes(), start=four.replace("4 3 2", sizes))
        scan = read_scan(path)
        np.testing.assert_array_equal(scan.array_zyx.ravel(), NUMBERS)
        assert scan.spacing_xyz_mm == (1, 2, 3)
        assert "an axis of length 1 was dropped" in scan.notes[-1]


def test_what_a_header_leaves_out_is_noted(tmp_path: Path) -> None:
    path = nrrd(tmp_path / "a.nrrd", "", NUMBERS.tobytes())
    assert read_header(path).notes == (
        "the header does not state anatomical axes (L, P, S), spacing (1 mm), position (0); "
        "what stands in brackets was taken",
    )
    assert (
        "spacing (1 mm), direction (L, P, S), position (0), order of bytes (the lowest first)"
        in read_header(meta(tmp_path / "a.mha", "", NUMBERS.tobytes())).notes[0]
    )


def test_other_units_become_millimetres(tmp_path: Path) -> None:
    header = read_header(nrrd(tmp_path / "a.nrrd", PLACED + 'space units: "cm" "cm" "cm"\n', NUMBERS.tobytes()))
    assert header.placement.spacing_xyz_mm == (10, 20, 30)
    assert header.placement.origin_xyz_mm == (40, 50, 60)
    assert "factor 10" in header.notes[0]
    header = read_header(meta(tmp_path / "a.mha", "ElementSpacing = 1 2 3\nDistanceUnits = um\n", NUMBERS.tobytes()))
    assert header.placement.spacing_xyz_mm == pytest.approx((0.001, 0.002, 0.003))


PACKED = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "gz": lambda raw: gzip.compress(raw[:9], mtime=0) + gzip.compress(raw[9:], mtime=0),
}


@pytest.mark.parametrize("encoding", PACKED)
@pytest.mark.parametrize("behind", [b"", b"\n", b"\0" * 700, b"\x1f"])
def test_bytes_behind_a_compressed_nrrd_are_no_part_of_it(tmp_path: Path, encoding: str, behind: bytes) -> None:
    path = nrrd(tmp_path / "a.nrrd", PLACED, PACKED[encoding](NUMBERS.tobytes()) + behind, encoding)
    np.testing.assert_array_equal(read_scan(path).array_zyx.ravel(), NUMBERS)


@pytest.mark.parametrize("encoding", PACKED)
def test_a_compressed_nrrd_that_is_cut_is_truncated(tmp_path: Path, encoding: str) -> None:
    packed = PACKED[encoding](NUMBERS.tobytes())
    for end in (5, len(packed) // 2, len(packed) - 3):
        with pytest.raises(DataError, match="truncated"):
            read_scan(nrrd(tmp_path / "a.nrrd", PLACED, packed[:end], encoding))


def test_detached_data_of_every_kind(tmp_path: Path) -> None:
    raw = NUMBERS.tobytes()
    files = {
        "a.raw": raw,
        "b.raw.gz": gzip.compress(raw, mtime=0),
        "c.zraw": zlib.compress(raw),
        "d.raw": b"title\n" + raw,
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    made = [
        nrrd(tmp_path / "a.nhdr", PLACED + "data file: a.raw", b""),
        nrrd(tmp_path / "b.nhdr", PLACED + "data file: ./b.raw.gz\n", b"", "gzip"),
        nrrd(tmp_path / "d.nhdr", PLACED + "line skip: 1\ndatafile: d.raw\n", b""),
        nrrd(tmp_path / "e.nhdr", PLACED + "byte skip: -1\ndatafile: d.raw\n", b""),
        nrrd(tmp_path / "f.nhdr", PLACED + "byte skip: 6\ndatafile: d.raw\n", b""),
        tmp_path / "a.mhd",
        tmp_path / "c.mhd",
        tmp_path / "d.mhd",
    ]
    (tmp_path / "a.mhd").write_text(META + "ElementDataFile = a.raw")
    packed = f"CompressedData = True\nCompressedDataSize = {len(files['c.zraw'])}\n"
    (tmp_path / "c.mhd").write_text(META + packed + "ElementDataFile = c.zraw\n")
    (tmp_path / "d.mhd").write_text(META + "HeaderSize = -1\nElementDataFile = d.raw\n")
    for path in made:
        np.testing.assert_array_equal(read_scan(path).array_zyx.ravel(), NUMBERS)
        assert image_files(path)[0] == path
        assert image_files(path)[1].name in files


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("name", ["a.mha", "a.nrrd"])
def test_truncated_is_noticed_by_the_header_read(tmp_path: Path, name: str, packed: bool) -> None:
    path = tmp_path / name
    write(path, packed=packed)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match="truncated"):
        read_header(path)


@pytest.mark.parametrize("name", ["a.mha", "a.nrrd", "a.nii.gz"])
def test_a_flipped_bit_or_a_zeroed_part_is_damage(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    write(path, packed=True)
    whole = path.read_bytes()
    for change in range(20):
        raw = bytearray(whole)
        at = len(raw) // 2 + 97 * change
        raw[at : at + 100] = bytes(100) if change % 2 else bytes([raw[at] ^ 1 << change % 8]) + raw[at + 1 : at + 100]
        path.write_bytes(raw)
        with pytest.raises(DataError, match=r"a\.\S+ is (damaged|truncated)"):
            read_scan(path)


@pytest.mark.parametrize("name", ["a.mha", "a.nrrd"])
@pytest.mark.parametrize("size", ["30 20 11", "30 20 9", "29 20 10", "30 21 10", "32000 32000 32000"])
def test_extents_that_are_not_those_of_the_voxels_are_refused(tmp_path: Path, name: str, size: str) -> None:
    for packed in (False, True):
        path = tmp_path / name
        write(path, packed=packed)
        path.write_bytes(path.read_bytes().replace(b"30 20 10", size.encode()))
        with pytest.raises(DataError, match=r"truncated|more than the"):
            read_scan(path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.mha", META + "ElementDataFile = LOCAL"),
        ("a.mha", META),
        ("a.mha", META + "Comment = " + "x" * 5_000_000),
        ("a.mha", META.replace("4 3 2", "4 3") + "ElementDataFile = LOCAL\n" + "x" * 48),
        ("a.mha", META.replace("4 3 2", "4 0 2") + "ElementDataFile = LOCAL\n" + "x" * 48),
        ("a.mha", META.replace("4 3 2", "4 3 " + "9" * 5000) + "ElementDataFile = LOCAL\n" + "x" * 48),
        ("a.mha", META + "Offset = 1 2\nElementDataFile = LOCAL\n" + "x" * 48),
        ("a.mha", META + "Offset = 1 2 3\nOrigin = 1 2 4\nElementDataFile = LOCAL\n" + "x" * 48),
        ("a.mha", META.replace("SHORT", "SHIRT") + "ElementDataFile = LOCAL\n" + "x" * 48),
        ("a.mha", META.replace("Image", "Mesh") + "ElementDataFile = LOCAL\n" + "x" * 48),
        ("a.mhd", META + "ElementDataFile = LIST\na.raw\n"),
        ("a.mhd", META + "ElementDataFile = a%03d.raw 1 2 1\n"),
        ("a.mhd", META + "ElementDataFile = a\0b\n"),
        ("a.nrrd", NRRD + "encoding: raw\nkinds: " + "x" * 5_000 + "\n\n" + "x" * 48),
        ("a.nrrd", NRRD + "encoding: raw\n" + "x" * 5_000_000),
        ("a.nrrd", NRRD + "encoding: raw\n" + "y" * 5_000 + "\n\n" + "x" * 48),
        ("a.nrrd", NRRD + "encoding: raw\n"),
        ("a.nrrd", NRRD + "\n" + "x" * 48),
        ("a.nrrd", NRRD.replace("endian: little\n", "encoding: raw\n") + "\n" + "x" * 48),
        ("a.nrrd", NRRD + "encoding: raw\nspace: LPS\nspace directions: (1,0) (0,1) (0,0)\n\n" + "x" * 48),
        ("a.nrrd", NRRD + "encoding: raw\nspace: LPX\n\n" + "x" * 48),
        ("a.nrrd", NRRD + "encoding: raw\nsizes: 4 3 2\n\n" + "x" * 48),
        ("a.nhdr", NRRD + "encoding: raw\ndata file: LIST\na.raw\n"),
        ("a.nrrd", "hello"),
        ("a.mha", "hello"),
        ("a.mha", "\0" * 4000),
    ],
)
def test_nonsense_is_refused_in_one_short_sentence(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(DataError) as refused:
        read_header(path)
    assert refused.value.message.startswith(f"{path} ")
    assert len(refused.value.message) < len(str(path)) + 200
    assert "\n" not in refused.value.message


def test_missing_data_file_is_named(tmp_path: Path) -> None:
    write(tmp_path / "a.mhd", packed=False)
    (tmp_path / "a.raw").unlink()
    with pytest.raises(DataError, match=r"a\.raw.*missing"):
        read_header(tmp_path / "a.mhd")


def test_sheared_directions_are_refused(tmp_path: Path) -> None:
    path = nrrd(tmp_path / "a.nrrd", PLACED.replace("(0,0,3)", "(0,1,3)"), NUMBERS.tobytes())
    with pytest.raises(GeometryError, match="right angles"):
        read_header(path)


def test_colour_and_series_of_volumes_are_refused(tmp_path: Path) -> None:
    sitk.WriteImage(sitk.Image((4, 4, 4), sitk.sitkVectorUInt8, 3), str(tmp_path / "a.mha"))
    sitk.WriteImage(sitk.Image((4, 4, 4), sitk.sitkVectorUInt8, 3), str(tmp_path / "a.nrrd"))
    for name in ("a.mha", "a.nrrd"):
        with pytest.raises(DataError, match="3 numbers a voxel"):
            read_header(tmp_path / name)
    start = NRRD.replace("dimension: 3", "dimension: 4").replace("4 3 2", "2 3 2 2")
    with pytest.raises(GeometryError, match="4-D"):
        read_header(nrrd(tmp_path / "b.nrrd", "", NUMBERS.tobytes(), start=start))
