"""Stored numbers come out as they were put in, however they were written; what is not decoded is named."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGExtended12Bit,
    JPEGLSLossless,
    RLELossless,
)

from tests.data.io.make_files import write_dicom, write_enhanced
from tests.data.io.test_dicom import STORED
from voco_cli.data.io.dicom_pixels import decoding_fault, lossy_note, stored_frames, stored_range
from voco_cli.data.io.dicom_slices import read_slices
from voco_cli.data.io.reader import read_header, read_scan
from voco_cli.errors import DataError

TEST_FILES = Path(pydicom.__file__).parent / "data" / "test_files"
HTJ2K = "1.2.840.10008.1.2.4.201"


def save_as(data: FileDataset, path: Path, syntax: UID) -> None:
    """Write a data set anew in another transfer syntax, with pixels that are in it already."""
    anew = Dataset()
    anew.update(data)
    anew.file_meta = data.file_meta
    anew.file_meta.TransferSyntaxUID = syntax
    anew.save_as(path, enforce_file_format=True)


def rewritten(folder: Path, syntax: UID) -> Path:
    """The files of `write_dicom` in another transfer syntax."""
    for path in write_dicom(folder):
        data = pydicom.dcmread(path)
        if syntax == RLELossless:
            data.compress(RLELossless)
        if syntax == ExplicitVRBigEndian:
            data.PixelData = np.frombuffer(data.PixelData, "<i2").astype(">i2").tobytes()
        save_as(data, path, syntax)
    return folder


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, RLELossless]
)
def test_every_way_to_write_gives_the_same_scan(tmp_path: Path, syntax: UID) -> None:
    np.testing.assert_array_equal(read_scan(rewritten(tmp_path, syntax)).array_zyx, STORED - 10)


def test_compressed_frames_are_scaled_by_their_own_groups(tmp_path: Path) -> None:
    path = write_enhanced(tmp_path / "ct.dcm", slopes=[1, 2, 3, 4])
    data = pydicom.dcmread(path)
    data.compress(RLELossless)
    data.PhotometricInterpretation = "MONOCHROME1"
    data.save_as(path)
    expected = STORED * np.arange(1, 5)[:, None, None] - 10
    np.testing.assert_array_equal(read_scan(path).array_zyx, expected)


@pytest.mark.parametrize(
    ("name", "syntax"),
    [("MR_small_jp2klossless.dcm", JPEG2000Lossless), ("MR_small_jpeg_ls_lossless.dcm", JPEGLSLossless)],
)
def test_compressed_without_loss_equals_uncompressed(name: str, syntax: UID) -> None:
    assert pydicom.dcmread(TEST_FILES / name).file_meta.TransferSyntaxUID == syntax
    np.testing.assert_array_equal(stored_frames(TEST_FILES / name), stored_frames(TEST_FILES / "MR_small.dcm"))


def test_eight_bits_in_big_endian_words(tmp_path: Path) -> None:
    pixels = np.arange(30, dtype=np.uint8)

    def edit(data: FileDataset, k: int) -> None:
        data.BitsAllocated = data.BitsStored = 8
        data.HighBit, data.PixelRepresentation = 7, 0
        data.PixelData = pixels.tobytes()

    for path in write_dicom(tmp_path, (0, 1), edit=edit):
        data = pydicom.dcmread(path)
        data["PixelData"].VR = "OW"  # words of two pixels, the first in the lower byte
        data.PixelData = pixels.view("<u2").astype(">u2").tobytes()
        save_as(data, path, ExplicitVRBigEndian)
    np.testing.assert_array_equal(read_scan(tmp_path).array_zyx, np.stack([pixels.reshape(5, 6)] * 2) - 10.0)


def with_bits(bits: int, signed: bool, pixels: NDArray[np.generic]) -> Callable[[FileDataset, int], None]:
    def edit(data: FileDataset, k: int) -> None:
        data.BitsStored, data.HighBit, data.PixelRepresentation = bits, bits - 1, int(signed)
        data.PixelData = pixels.astype("<u2").tobytes()

    return edit


def test_a_sign_in_the_highest_stored_bit(tmp_path: Path) -> None:
    path = write_dicom(tmp_path, edit=with_bits(12, True, (np.arange(30) - 16) & 0x0FFF))[0]
    np.testing.assert_array_equal(stored_frames(path).ravel(), np.arange(30) - 16)


def test_an_overlay_in_the_upper_bits_is_no_part_of_the_numbers(tmp_path: Path) -> None:
    put_in = with_bits(12, False, np.arange(30) | 0x8000)

    def edit(data: FileDataset, k: int) -> None:
        put_in(data, k)
        data.add_new((0x6000, 0x0100), "US", 16)
        data.add_new((0x6000, 0x0102), "US", 15)

    path = write_dicom(tmp_path, edit=edit)[0]
    np.testing.assert_array_equal(stored_frames(path).ravel(), np.arange(30))


def compressed_as(syntax: str) -> Callable[[FileDataset, int], None]:
    def edit(data: FileDataset, k: int) -> None:
        data.PixelData = encapsulate([b"no such picture "])
        data["PixelData"].is_undefined_length = True
        data.file_meta.TransferSyntaxUID = syntax

    return edit


def test_a_compression_that_nothing_here_decodes_is_refused_from_the_header(tmp_path: Path) -> None:
    write_dicom(tmp_path, edit=compressed_as("1.2.840.10008.1.2.4.94"))
    with pytest.raises(DataError, match=r"slice\d+ is compressed as JPIP Referenced, which is not decoded"):
        read_header(tmp_path)
    assert decoding_fault(JPEG2000Lossless) is None


def test_a_compression_that_needs_a_decoder_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voco_cli.data.io.dicom_pixels.has_decoder", lambda syntax: False)
    fault = decoding_fault(HTJ2K)
    assert fault is not None
    assert fault[0].endswith("which needs a decoder: pip install 'voco-cli[dicom]'.")
    monkeypatch.setattr("voco_cli.data.io.dicom_pixels.has_decoder", lambda syntax: True)
    assert decoding_fault(HTJ2K) is None


def test_damaged_compressed_pixels_name_their_slice(tmp_path: Path) -> None:
    damage = compressed_as(JPEG2000Lossless)
    write_dicom(tmp_path, edit=lambda data, k: damage(data, k) if k == 1 else None)
    assert read_header(tmp_path).shape_xyz == (6, 5, 4)
    with pytest.raises(
        DataError,
        match=r"slice003 cannot be decoded: its pixels are no JPEG 2000 Image Compression \(Lossless Only\)\.",
    ):
        read_scan(tmp_path)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda data, k: delattr(data, "PixelData"), "holds no pixels"),
        (
            lambda data, k: setattr(data, "PixelData", data.PixelData[:40]),
            "is truncated: its pixels are 20 bytes too short",
        ),
        (lambda data, k: setattr(data, "BitsAllocated", 12), "has 12 BitsAllocated"),
    ],
)
def test_pixels_that_cannot_be_there_are_seen_in_the_header(
    tmp_path: Path, edit: Callable[[FileDataset, int], None], message: str
) -> None:
    paths = write_dicom(tmp_path)
    data = pydicom.dcmread(paths[2])
    edit(data, 2)
    data.save_as(paths[2])
    fault = read_slices(paths[2])[0].fault
    assert fault is not None
    assert message in fault[0]
    with pytest.raises(DataError, match="slice002"):
        read_header(tmp_path)


def test_pixels_that_are_not_compressed_as_they_say(tmp_path: Path) -> None:
    path = write_dicom(tmp_path)[0]
    raw, rle = path.read_bytes(), str(RLELossless).encode()
    meta = 132 + raw[132:].index(b"1.2.840.10008.1.2.1\0")
    length = (len(rle) + 1) // 2 * 2
    grown = raw[: meta - 2] + length.to_bytes(2, "little") + rle.ljust(length, b"\0") + raw[meta + 20 :]
    group = raw[140:144]  # the length of the file's meta group
    grown = grown.replace(group, (int.from_bytes(group, "little") + length - 20).to_bytes(4, "little"), 1)
    path.write_bytes(grown)
    with pytest.raises(DataError, match="slice004 says that its pixels are compressed, and they are not"):
        read_header(tmp_path)


def test_a_file_cut_by_one_byte_is_seen_in_the_header(tmp_path: Path) -> None:
    path = write_dicom(tmp_path)[0]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"slice004 is truncated: its pixels are 1 bytes too short"):
        read_header(tmp_path)


def test_loss_is_told_by_the_format_or_the_file() -> None:
    assert lossy_note(JPEGExtended12Bit, "") == "compressed with loss (JPEG Extended (Process 2 and 4))"
    assert lossy_note(JPEG2000Lossless, "01") is not None
    assert lossy_note(JPEG2000Lossless, "00") is lossy_note(HTJ2K, "") is None


def test_ranges() -> None:
    assert stored_range(12, True) == (-2048, 2047)
    assert stored_range(12, False) == (0, 4095)
