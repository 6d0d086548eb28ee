"""NRRD and MetaImage: read as written, damage noticed by the header read where lengths tell."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from voco_cli.errors import DataError, GeometryError
from voco_cli.scans.itk_files import read_itk, read_itk_header

NAMES = ["a.mha", "a.nrrd", "a.mhd", "a.nhdr"]


def write(path: Path, *, packed: bool) -> np.ndarray:
    array = np.random.default_rng(0).integers(-1000, 1000, (10, 20, 30)).astype(np.int16)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((1.5, 2.0, 3.0))
    image.SetOrigin((4.0, 5.0, 6.0))
    image.SetDirection((0, 1, 0, -1, 0, 0, 0, 0, 1))
    sitk.WriteImage(image, str(path), packed)
    return array


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_read_as_written(tmp_path: Path, name: str, packed: bool) -> None:
    array = write(tmp_path / name, packed=packed)
    header, read = read_itk(tmp_path / name)
    np.testing.assert_array_equal(read, array)
    assert header.shape_xyz == (30, 20, 10)
    assert header.dtype == "int16"
    assert header.placement.spacing_xyz_mm == pytest.approx((1.5, 2, 3))
    assert header.placement.origin_xyz_mm == pytest.approx((4, 5, 6))
    np.testing.assert_allclose(header.placement.direction, [[0, 1, 0], [-1, 0, 0], [0, 0, 1]])
    assert header.orientation == "ALS"


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("name", ["a.mha", "a.nrrd"])
def test_truncated_is_noticed_by_the_header_read(tmp_path: Path, name: str, packed: bool) -> None:
    path = tmp_path / name
    write(path, packed=packed)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match="truncated"):
        read_itk_header(path)


def test_missing_data_file_is_named(tmp_path: Path) -> None:
    write(tmp_path / "a.mhd", packed=False)
    (tmp_path / "a.raw").unlink()
    with pytest.raises(DataError, match=r"a\.raw.*missing"):
        read_itk_header(tmp_path / "a.mhd")


def test_sheared_directions_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.nrrd"
    write(path, packed=False)
    start, data = path.read_bytes().split(b"\n\n", 1)
    lines = start.split(b"\n")
    row = next(i for i, line in enumerate(lines) if line.startswith(b"space directions"))
    lines[row] = b"space directions: (1.5,0,0) (0,2,0) (0,1,3)"
    path.write_bytes(b"\n".join(lines) + b"\n\n" + data)
    with pytest.raises(GeometryError, match="right angles"):
        read_itk_header(path)


def test_colour_and_nonsense_are_refused(tmp_path: Path) -> None:
    sitk.WriteImage(sitk.Image((4, 4, 4), sitk.sitkVectorUInt8, 3), str(tmp_path / "a.mha"))
    with pytest.raises(DataError, match="3 numbers a voxel"):
        read_itk_header(tmp_path / "a.mha")
    (tmp_path / "b.nrrd").write_text("hello")
    with pytest.raises(DataError, match=r"b\.nrrd cannot be read"):
        read_itk_header(tmp_path / "b.nrrd")
