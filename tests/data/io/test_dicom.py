"""DICOM series: which slices make one, where they lie and what their numbers are, slice by slice."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import FileDataset
from pydicom.uid import generate_uid

from tests.data.io.make_files import write_dicom
from voco_cli.data.io.dicom import group_slices
from voco_cli.data.io.dicom_slices import read_slices
from voco_cli.data.io.reader import read_header, read_scan, series_files
from voco_cli.errors import DataError

STORED = np.arange(30).reshape(5, 6) + 100 * np.arange(4)[:, None, None]
"""What `write_dicom` stores, in order of position."""


def per_slice(**fields: list[object]) -> Callable[[FileDataset, int], None]:
    """Give the k-th slice the k-th value of each field; a None takes the field away."""

    def edit(data: FileDataset, k: int) -> None:
        for name, values in fields.items():
            if values[k] is None:
                del data[name]
            else:
                setattr(data, name, values[k])

    return edit


def test_every_slice_has_its_own_scale_also_where_the_first_is_whole(tmp_path: Path) -> None:
    slopes, intercepts = [1.0, 0.0007, 0.0123, 0.5], [0, 0, -1.5, 2]
    write_dicom(tmp_path, modality="PT", edit=per_slice(RescaleSlope=slopes, RescaleIntercept=intercepts))
    scan = read_scan(tmp_path)
    assert scan.array_zyx.dtype == read_header(tmp_path).dtype == "float32"
    expected = STORED * np.array(slopes)[:, None, None] + np.array(intercepts)[:, None, None]
    np.testing.assert_array_equal(scan.array_zyx, expected.astype(np.float32))


def test_a_ct_whose_intercept_differs_stays_whole_and_right(tmp_path: Path) -> None:
    write_dicom(tmp_path, edit=per_slice(RescaleIntercept=[0, -1024, -1024, 0]))
    scan = read_scan(tmp_path)
    assert scan.array_zyx.dtype.kind == "i"
    np.testing.assert_array_equal(scan.array_zyx, STORED + np.array([0, -1024, -1024, 0])[:, None, None])


def test_an_intercept_with_a_fraction(tmp_path: Path) -> None:
    write_dicom(tmp_path, edit=per_slice(RescaleIntercept=[-1024.5] * 4))
    np.testing.assert_array_equal(read_scan(tmp_path).array_zyx, (STORED - 1024.5).astype(np.float32))


@pytest.mark.parametrize(
    ("bits", "signed", "slope", "dtype"),
    [(16, 1, 1, "int32"), (12, 0, 1, "int16"), (8, 0, 200, "int32"), (16, 0, 1 << 20, "float32"), (12, 1, 1, "int16")],
)
def test_the_number_format_holds_all_that_the_bits_can_give(
    tmp_path: Path, bits: int, signed: int, slope: int, dtype: str
) -> None:
    def edit(data: FileDataset, k: int) -> None:
        data.BitsStored, data.HighBit, data.PixelRepresentation, data.RescaleSlope = bits, bits - 1, signed, slope
        highest = (1 << bits - signed) - 1
        data.PixelData = np.full(30, highest, np.uint16).tobytes()

    write_dicom(tmp_path, edit=edit)
    scan = read_scan(tmp_path)
    assert scan.array_zyx.dtype == read_header(tmp_path).dtype == dtype
    assert scan.array_zyx[0, 0, 0] == np.float32(((1 << bits - signed) - 1) * slope - 10)


def test_bits_and_sign_may_differ_by_slice(tmp_path: Path) -> None:
    def edit(data: FileDataset, k: int) -> None:
        if k == 1:
            data.BitsStored, data.HighBit, data.PixelRepresentation = 12, 11, 0
        if k == 2:
            data.BitsAllocated = data.BitsStored = 8
            data.HighBit, data.PixelRepresentation = 7, 0
            data.PixelData = STORED[2].astype(np.uint8).tobytes()

    write_dicom(tmp_path, edit=edit)
    np.testing.assert_array_equal(read_scan(tmp_path).array_zyx, STORED - 10)


def test_a_picture_shown_white_on_black_or_black_on_white_has_the_same_numbers(tmp_path: Path) -> None:
    write_dicom(tmp_path, edit=per_slice(PhotometricInterpretation=["MONOCHROME1"] * 3 + ["MONOCHROME2"]))
    np.testing.assert_array_equal(read_scan(tmp_path).array_zyx, STORED - 10)


def test_one_uid_on_slices_at_other_places_drops_none(tmp_path: Path) -> None:
    write_dicom(tmp_path, edit=per_slice(SOPInstanceUID=["1.2.3", "1.2.3", "1.2.4", "1.2.5"]))
    scan = read_scan(tmp_path)
    np.testing.assert_array_equal(scan.array_zyx, STORED - 10)
    assert scan.notes == ("1 slices at places of their own have the SOPInstanceUID of another, and were kept",)


def test_copies_of_an_object_are_read_once_unless_they_show_another_picture(tmp_path: Path) -> None:
    paths = write_dicom(tmp_path)
    copy = tmp_path / "copy"
    copy.write_bytes(paths[2].read_bytes())
    np.testing.assert_array_equal(read_scan(tmp_path).array_zyx, STORED - 10)
    copy.write_bytes(copy.read_bytes()[:-2] + b"\x07\0")
    with pytest.raises(DataError, match=r"one SOPInstanceUID on two pictures of the same place: copy, slice002"):
        read_scan(tmp_path)


def test_a_slice_that_cannot_be_decoded_is_named(tmp_path: Path) -> None:
    def edit(data: FileDataset, k: int) -> None:
        data.BitsStored, data.HighBit, data.PixelRepresentation = 12, 11, 0
        if k == 2:
            data.PixelData = np.full(30, 5000, np.uint16).tobytes()

    write_dicom(tmp_path, edit=edit)
    with pytest.raises(DataError, match=r"slice002 holds numbers from 5000 to 5000, .* more than its 12 BitsStored"):
        read_scan(tmp_path)


@pytest.mark.parametrize("blank", ["", "0"])
def test_blanked_uids_make_one_series_of_what_agrees(tmp_path: Path, blank: str) -> None:
    fields = {"SeriesInstanceUID": [blank] * 4, "SOPInstanceUID": [blank] * 4, "SOPClassUID": [None] * 4}
    write_dicom(tmp_path, edit=per_slice(**fields))
    scan = read_scan(tmp_path)
    np.testing.assert_array_equal(scan.array_zyx, STORED - 10)
    assert scan.notes[0].startswith("its slices name no series (SeriesInstanceUID)")


def test_blanked_series_are_told_apart_by_size_spacing_frame_and_folder(tmp_path: Path) -> None:
    def blank(**fields: object) -> Callable[[FileDataset, int], None]:
        def edit(data: FileDataset, k: int) -> None:
            del data.SeriesInstanceUID, data.SOPClassUID, data.SOPInstanceUID, data.StudyInstanceUID
            for name, value in fields.items():
                setattr(data, name, value)

        return edit

    frame = generate_uid()
    changes: list[dict[str, object]] = [{}, {"PixelSpacing": [2.0, 1.6]}, {"FrameOfReferenceUID": frame}]
    changes.append({"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]})
    for k, fields in enumerate(changes):
        write_dicom(tmp_path / "one", name=f"s{k}_", edit=blank(**fields))
    write_dicom(tmp_path / "one", name="small", shape=(4, 6), edit=blank())
    write_dicom(tmp_path / "other", name="s0_", edit=blank())
    files = [file for file in tmp_path.rglob("s*") if file.is_file()]
    groups = group_slices(one for file in files for one in read_slices(file))
    assert sorted(len(group.slices) for group in groups) == [4] * 6
    assert {file.name[:3] for file in series_files(tmp_path / "one" / "s1_001")} == {"s1_"}


def test_one_series_uid_on_two_patients_makes_two_series(tmp_path: Path) -> None:
    write_dicom(tmp_path, (0, 3, 6), series="1.2.3", patient="A", name="a")
    write_dicom(tmp_path, (9, 12, 15), series="1.2.3", patient="B", name="b")
    assert read_scan(tmp_path / "a001").shape_xyz == (6, 5, 3)


def test_a_colour_picture_or_scout_of_the_series_does_not_spoil_it(tmp_path: Path) -> None:
    write_dicom(tmp_path, series="1.2.3")
    write_dicom(tmp_path, (99,), series="1.2.3", name="colour", edit=per_slice(PhotometricInterpretation=["RGB"]))
    scout = per_slice(ImageType=[["ORIGINAL", "PRIMARY", "LOCALIZER"]] * 2)
    write_dicom(tmp_path, (12, 15), series="1.2.3", name="scout", edit=scout)
    np.testing.assert_array_equal(read_scan(tmp_path / "slice001").array_zyx, STORED - 10)
    with pytest.raises(DataError, match="is a colour picture"):
        read_scan(tmp_path / "colour001")
    with pytest.raises(DataError, match="is a scout"):
        read_scan(tmp_path / "scout001")


def test_a_ct_in_other_units_and_pixels_compressed_with_loss_are_said(tmp_path: Path) -> None:
    edit = per_slice(RescaleType=["MGML"] * 4, LossyImageCompression=["01", "01", "00", "00"])
    write_dicom(tmp_path, edit=edit)
    assert read_header(tmp_path).notes == (
        "its numbers are MGML (RescaleType), not Hounsfield units",
        "2 of 4 slices were compressed with loss at some time (LossyImageCompression)",
    )
