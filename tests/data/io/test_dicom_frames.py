"""Enhanced (multi-frame) files are volumes: every frame has its own place and scale, in whatever order."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileDataset

from tests.data.io.make_files import write_dicom, write_enhanced
from tests.data.io.test_dicom import STORED
from voco_cli.data.io.reader import read_header, read_scan
from voco_cli.errors import DataError, GeometryError


def per_frame(name: str, **fields: list[object]) -> Callable[[FileDataset], None]:
    """Give the k-th frame a functional group with the k-th value of each field."""

    def edit(data: FileDataset) -> None:
        for k, frame in enumerate(data.PerFrameFunctionalGroupsSequence):
            item = Dataset()
            for field, values in fields.items():
                setattr(item, field, values[k])
            setattr(frame, name, [item])

    return edit


def test_frames_in_any_order_are_placed_and_scaled_by_their_own_groups(tmp_path: Path) -> None:
    slopes = [1.0, 0.5, 2.0, 0.25]
    scan = read_scan(write_enhanced(tmp_path / "ct.dcm", (3, 9, 0, 6), slopes=slopes))
    order = [2, 0, 3, 1]
    expected = (STORED * np.array(slopes)[:, None, None] - 10)[order]
    np.testing.assert_array_equal(scan.array_zyx, expected.astype(np.float32))
    assert scan.spacing_xyz_mm == pytest.approx((1.5, 2, 3))
    assert scan.origin_xyz_mm == pytest.approx((10, 20, 0))
    np.testing.assert_array_equal(scan.direction, np.eye(3))


def test_an_enhanced_file_equals_the_same_scan_as_files_of_one_slice(tmp_path: Path) -> None:
    write_dicom(tmp_path / "single")
    path = write_enhanced(tmp_path / "enhanced" / "ct.dcm")
    single, enhanced, of_folder = read_scan(tmp_path / "single"), read_scan(path), read_scan(path.parent)
    for scan in (enhanced, of_folder):
        np.testing.assert_array_equal(scan.array_zyx, single.array_zyx)
        assert scan.array_zyx.dtype == single.array_zyx.dtype == read_header(path).dtype
        assert scan.spacing_xyz_mm == single.spacing_xyz_mm
        assert scan.origin_xyz_mm == single.origin_xyz_mm


def test_several_enhanced_files_of_one_series_are_volumes_of_their_own(tmp_path: Path) -> None:
    for k in range(2):
        write_enhanced(tmp_path / f"{k}.dcm", (0, 3, 6)[: 2 + k], series="1.2.3")
    assert read_scan(tmp_path / "0.dcm").shape_xyz == (6, 5, 2)
    with pytest.raises(DataError, match="holds 2 DICOM series"):
        read_scan(tmp_path)


def test_parts_of_a_concatenation_are_one_volume(tmp_path: Path) -> None:
    def edit(data: FileDataset) -> None:
        data.ConcatenationUID = "1.2.9"

    write_enhanced(tmp_path / "a.dcm", (0, 3), series="1.2.3", edit=edit)
    write_enhanced(tmp_path / "b.dcm", (6, 9, 12), series="1.2.3", edit=edit)
    scan = read_scan(tmp_path / "a.dcm")
    np.testing.assert_array_equal(scan.array_zyx[:, 0, 0], [-10, 90, -10, 90, 190])
    assert read_scan(tmp_path).shape_xyz == (6, 5, 5)


def test_enhanced_files_of_one_frame_each_are_a_series(tmp_path: Path) -> None:
    for k, depth in enumerate((0, 3, 6)):
        write_enhanced(tmp_path / f"{k}.dcm", (depth,), series="1.2.3", slopes=[k + 1.0])
    np.testing.assert_array_equal(read_scan(tmp_path).array_zyx[:, 0, 1], [-9, -8, -7])


def test_a_damaged_frame_is_a_short_sentence(tmp_path: Path) -> None:
    path = write_enhanced(tmp_path / "ct.dcm")
    raw = bytearray(path.read_bytes())
    rows = raw.index(b"\x28\0\x10\0US") + 6
    raw[rows] = 115  # the length of Rows, which swallows what follows
    path.write_bytes(raw)
    with pytest.raises(DataError, match=r"ct.dcm has a damaged DICOM header") as caught:
        read_scan(path)
    assert len(caught.value.message) < 200 + len(str(path))


ORIENTATIONS = [[1, 0, 0, 0, 1, 0], [1, 0, 0, 0, 0, -1]] * 2


@pytest.mark.parametrize(
    ("depths", "edit", "kind", "message"),
    [
        ((0, 0, 3, 3), lambda data: None, GeometryError, "2 slices at the same position"),
        ((0, 3, 6, 12), lambda data: None, GeometryError, r"uneven slice gaps \(2 x 3 mm, 1 x 6 mm\)"),
        (
            (0, 3, 6, 9),
            per_frame("PlaneOrientationSequence", ImageOrientationPatient=ORIENTATIONS),
            GeometryError,
            "slices of 2 orientations",
        ),
        ((0, 3, 6, 9), per_frame("FrameContentSequence", StackID=list("1122")), GeometryError, "2 stacks of slices"),
        (
            tuple(range(0, 24, 3)),
            per_frame("FrameContentSequence", TemporalPositionIndex=[1, 2] * 4),
            DataError,
            r"interleave \(TemporalPositionIndex",
        ),
        (
            (0, 3, 6, 9),
            lambda data: data.PerFrameFunctionalGroupsSequence.pop(),
            DataError,
            "ct.dcm holds 4 frames and says of 3 where they lie",
        ),
        (
            (0, 3, 6, 9),
            lambda data: delattr(data, "PerFrameFunctionalGroupsSequence"),
            DataError,
            "ct.dcm holds 4 frames that do not say where they lie",
        ),
        ((0, 3, 6, 9), lambda data: setattr(data, "Modality", "SEG"), DataError, "holds no DICOM images|no image"),
    ],
)
def test_frames_that_are_no_volume_are_refused_by_name(
    tmp_path: Path, depths: tuple[float, ...], edit: Callable[[FileDataset], None], kind: type[DataError], message: str
) -> None:
    path = write_enhanced(tmp_path / "ct.dcm", depths, edit=edit)
    with pytest.raises(kind, match=message):
        read_header(path)
