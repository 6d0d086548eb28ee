"""Slices that do not make one volume are refused, from their headers alone, by what is wrong with them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import FileDataset

from tests.data.io.make_files import write_dicom
from tests.data.io.test_dicom import per_slice
from voco_cli.data.io.reader import read_header
from voco_cli.errors import DataError, GeometryError

EVEN = tuple(range(0, 24, 3))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"RescaleType": ["HU", "HU", "US", "HU"]}, r"has 2 units in one series \(HU on 3, US on 1 slices\)"),
        ({"Units": ["BQML", "BQML", "CNTS", "BQML"]}, "has 2 units in one series"),
        ({"FrameOfReferenceUID": ["1.2", "1.2", "1.3", "1.3"]}, "has 2 frames of reference in one series"),
        (
            {"RescaleSlope": [1, None, 1, 1], "RescaleIntercept": [0, None, 0, 0]},
            "has no RescaleSlope and RescaleIntercept on 1 of 4 slices",
        ),
        ({"RescaleSlope": [1, 1, 0, 1]}, "slice002 has RescaleSlope 0.0 and RescaleIntercept -10"),
        ({"HighBit": [15, 15, 15, 11]}, "slice001 has 16 BitsStored of 16 with HighBit 11"),
        ({"PixelSpacing": [[2, 1.5]] * 2 + [[2.2, 1.5]] * 2}, r"has 2 pixel spacings in one series \(.*2x1.5 mm in 2"),
        ({"PixelSpacing": [[-2, 1.5]] * 4}, "has PixelSpacing -2 mm"),
        (
            {"ImageOrientationPatient": [[1, 0, 0, 0, 1, 0]] * 3 + [[0.99996, 0.009, 0, -0.009, 0.99996, 0]]},
            "has slices of 2 orientations, which moves a corner by up to 0.10 mm",
        ),
        ({"ImageOrientationPatient": [[0.5, 0, 0, 0, 0.5, 0]] * 4}, "has direction cosines of length 0.50"),
        ({"ImagePositionPatient": [[0, 0, 0], None, [0, 0, 6], [0, 0, 9]]}, "has no geometry: 1 of 4 slices"),
    ],
)
def test_what_must_be_equal_or_there_is_named(tmp_path: Path, fields: dict[str, list[object]], message: str) -> None:
    # The corner of the small slice of two orientations moves by less than a quarter of a pixel; a large one is seen.
    shape = (60, 80) if "orientations" in message else (5, 6)
    turned = message.replace("0.10 mm", r"1\.\d\d mm")
    write_dicom(tmp_path, shape=shape, edit=per_slice(**fields))
    with pytest.raises(DataError, match=turned):
        read_header(tmp_path)


def test_spacing_written_with_fewer_decimals_is_the_same(tmp_path: Path) -> None:
    write_dicom(tmp_path, edit=per_slice(PixelSpacing=[[2.0, 1.5], [2.0004, 1.5], [2.0, 1.5003], [2.0, 1.5]]))
    assert read_header(tmp_path).placement.spacing_xyz_mm == pytest.approx((1.5, 2, 3))


def test_cosines_with_two_decimals_do_not_change_the_spacing(tmp_path: Path) -> None:
    write_dicom(tmp_path, edit=per_slice(ImageOrientationPatient=[[0.87, 0.49, 0, -0.49, 0.87, 0]] * 4))
    assert read_header(tmp_path).placement.spacing_xyz_mm == pytest.approx((1.5, 2, 3))


@pytest.mark.parametrize("tables", [True, False])
def test_a_table_or_a_mapping_by_slice_in_place_of_a_slope(tmp_path: Path, tables: bool) -> None:
    def edit(data: FileDataset, k: int) -> None:
        item = FileDataset(None, {})
        if tables:
            item.LUTDescriptor, item.ModalityLUTType, item.LUTData = [3, 0, 16], "HU", b"\0\0\1\0\2\0"
            data.ModalityLUTSequence = [item]
        else:
            del data.RescaleSlope, data.RescaleIntercept
            item.RealWorldValueSlope, item.RealWorldValueIntercept = 1.0 + k, 0.0
            data.RealWorldValueMappingSequence = [item]

    write_dicom(tmp_path, edit=edit)
    with pytest.raises(DataError, match="ModalityLUTSequence" if tables else "RealWorldValueMapping differs by slice"):
        read_header(tmp_path)


def test_philips_slices_scaled_each_in_its_own_way(tmp_path: Path) -> None:
    def edit_with(scales: list[float]) -> Callable[[FileDataset, int], None]:
        def edit(data: FileDataset, k: int) -> None:
            data.RescaleSlope = [2.0, 4.0, 2.0, 4.0][k]
            data.private_block(0x2005, "Philips MR Imaging DD 001", create=True).add_new(0x0E, "FL", scales[k])

        return edit

    write_dicom(tmp_path / "alike", modality="MR", edit=edit_with([2.0, 1.0, 2.0, 1.0]))
    assert read_header(tmp_path / "alike").shape_xyz == (6, 5, 4)
    write_dicom(tmp_path / "apart", modality="MR", edit=edit_with([1.0, 1.0, 1.0, 1.0]))
    with pytest.raises(DataError, match="Philips' private scale slope"):
        read_header(tmp_path / "apart")


def interleaved(**fields: tuple[object, object]) -> Callable[[FileDataset, int], None]:
    """Even slices get the first value of each field, odd ones the second; a callable is asked with the slice."""

    def edit(data: FileDataset, k: int) -> None:
        for name, values in fields.items():
            value = values[k % 2]
            setattr(data, name, value(k // 2) if callable(value) else value)

    return edit


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("InstanceNumber", (lambda k: k + 1, lambda k: k + 101)),
        ("InstanceNumber", (lambda k: k + 1, lambda k: k + 1)),
        ("InstanceNumber", (lambda k: k + 1, lambda k: 200 - k)),
        ("AcquisitionNumber", (1, 2)),
        ("EchoNumbers", (1, 2)),
        ("TemporalPositionIdentifier", (1, 2)),
        ("AcquisitionTime", ("101500.25", "101730.75")),
    ],
)
def test_two_acquisitions_at_half_steps_are_no_scan(tmp_path: Path, field: str, values: tuple[object, object]) -> None:
    write_dicom(tmp_path, EVEN, edit=interleaved(**{field: values}))
    with pytest.raises(DataError, match=rf"several acquisitions whose slices interleave \({field} runs"):
        read_header(tmp_path)


@pytest.mark.parametrize(
    "fields",
    [
        {"InstanceNumber": list(range(8, 0, -1))},
        {"InstanceNumber": [5, 3, 8, 1, 7, 2, 6, 4]},  # drawn anew
        {"InstanceNumber": [1] * 8},
        {"AcquisitionNumber": [1, 1, 2, 2, 3, 3, 4, 4]},  # two slices a rotation
        {"AcquisitionNumber": [1, 1, 1, 1, 2, 2, 2, 2], "InstanceNumber": [1, 2, 3, 4, 1, 2, 3, 4]},  # chest, abdomen
        {"AcquisitionNumber": [8, 7, 6, 5, 4, 3, 2, 1]},
    ],
)
def test_one_acquisition_however_numbered_is_a_scan(tmp_path: Path, fields: dict[str, list[object]]) -> None:
    write_dicom(tmp_path, EVEN, edit=per_slice(**fields))
    assert read_header(tmp_path).shape_xyz == (6, 5, 8)


def test_a_number_that_is_none_damages_no_scan(tmp_path: Path) -> None:
    for path in write_dicom(tmp_path, EVEN, edit=per_slice(InstanceNumber=[778899] * 8)):
        path.write_bytes(path.read_bytes().replace(b"778899", b"77x899"))
    assert read_header(tmp_path).shape_xyz == (6, 5, 8)


def test_mr_slices_that_were_excited_in_turns_are_one_scan(tmp_path: Path) -> None:
    def edit_with(thickness: float) -> Callable[[FileDataset, int], None]:
        turns = interleaved(AcquisitionNumber=(1, 2))

        def edit(data: FileDataset, k: int) -> None:
            data.SliceThickness = thickness
            turns(data, k)

        return edit

    write_dicom(tmp_path / "one", EVEN, modality="MR", edit=edit_with(2.5))
    assert read_header(tmp_path / "one").shape_xyz == (6, 5, 8)
    write_dicom(tmp_path / "two", EVEN, modality="MR", edit=edit_with(6.0))
    with pytest.raises(DataError, match="AcquisitionNumber"):
        read_header(tmp_path / "two")


def test_phases_at_the_same_places_are_refused(tmp_path: Path) -> None:
    write_dicom(tmp_path, (0, 3, 6), series="1.2.3", name="a")
    write_dicom(tmp_path, (0, 3, 6), series="1.2.3", name="b")
    with pytest.raises(GeometryError, match="3 slices at the same position"):
        read_header(tmp_path)


def test_a_slice_of_a_series_of_hundreds_that_turns_is_none(tmp_path: Path) -> None:
    numbers = np.arange(40)
    numbers[[20, 21]] = numbers[[21, 20]]
    write_dicom(tmp_path, tuple(range(40)), edit=per_slice(InstanceNumber=numbers.tolist()))
    assert read_header(tmp_path).shape_xyz == (6, 5, 40)
