"""A scan in memory: its hash, whether it is CT in HU, whole labels, and its voxels in the order of another grid."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations, product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from voco_cli.data.io.geometry import Placement, storage_order
from voco_cli.data.io.image import (
    Scan,
    hounsfield_doubt,
    looks_like_ct,
    placement,
    rounding_note,
    stored_like,
    voxel_hash,
    whole_labels,
)
from voco_cli.data.io.reader import read_scan

ARRAY = np.random.default_rng(0).integers(-1000, 1000, (4, 5, 6)).astype(np.int16)
SCAN = Scan(ARRAY, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), np.eye(3), Path("a"))


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.float32, np.float64])
def test_number_format_does_not_count(dtype: type) -> None:
    assert voxel_hash(replace(SCAN, array_zyx=ARRAY.astype(dtype))) == voxel_hash(SCAN)


def test_order_of_axes_does_not_count() -> None:
    ras = replace(SCAN, array_zyx=ARRAY[:, ::-1, ::-1], direction=np.diag([-1.0, -1.0, 1.0]))
    assert voxel_hash(ras) == voxel_hash(SCAN)
    # Voxel axes x, y, z of this copy run along the world's y, z, x.
    turned = replace(SCAN, array_zyx=ARRAY.transpose(2, 0, 1), direction=np.eye(3)[:, [1, 2, 0]])
    assert voxel_hash(turned) == voxel_hash(SCAN)


def test_one_voxel_counts() -> None:
    other = ARRAY.copy()
    other[3, 2, 1] += 1
    assert voxel_hash(replace(SCAN, array_zyx=other)) != voxel_hash(SCAN)
    assert voxel_hash(replace(SCAN, array_zyx=ARRAY[:, ::-1])) != voxel_hash(SCAN)


BODY = np.array([-1000, -990, -1010, -80, 0, 40, 60, 900] * 1000, np.int16).reshape(20, 20, 20)


@pytest.mark.parametrize(
    ("voxels", "is_ct", "doubt"),
    [
        (BODY, True, None),
        (np.where(BODY == -1010, -3024, BODY), True, None),  # what a scanner stores outside its field of view
        (BODY + 1024, False, "its lowest value is 14,"),
        (np.abs(BODY), False, "its lowest value is 0,"),
        (BODY - 1024, True, "25% of its values lie below -1200"),
    ],
    ids=["HU", "padded", "shifted up", "MR", "shifted twice"],
)
def test_values(voxels: np.ndarray, is_ct: bool, doubt: str | None) -> None:  # type: ignore[type-arg]
    assert looks_like_ct(voxels) is is_ct
    assert (hounsfield_doubt(voxels) or "").startswith(doubt or "")
    assert (hounsfield_doubt(voxels) is None) is (doubt is None)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_near_whole_numbers_are_rounded(dtype: type) -> None:
    array = np.array([[[-0.0004, 0.9996, 2.0009, 255.0004]]], dtype)
    found = whole_labels(array)
    assert found.dtype == np.uint8
    assert found.tolist() == [[[0, 1, 2, 255]]]
    assert rounding_note(array) == "label values up to 0.0009 off whole numbers were rounded"


def test_what_is_whole_is_not_noted() -> None:
    for array in (np.zeros((1, 1, 2), np.float32), np.ones((1, 1, 2), np.int16), np.zeros((0, 1, 1), np.float32)):
        assert rounding_note(array) is None
    assert whole_labels(np.full((1, 1, 1), 65_535.0)).dtype == np.uint16
    assert whole_labels(np.full((1, 1, 1), 256.0004)).item() == 256


@pytest.mark.parametrize("value", [0.5, 1.002, 0.998, -0.002, 65_535.5, np.nan, np.inf])
def test_fractions_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="whole numbers"):
        whole_labels(np.array([[[1.0, value]]]))


ORDERS = [(axes, signs) for axes in permutations(range(3)) for signs in product((1, -1), repeat=3)]
OBLIQUE = nib.affines.from_matvec(
    np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]]) @ np.diag([1.0, 1.5, 3.0]), [10.0, -20.0, 30.0]
)


def write(path: Path, array: np.ndarray, affine: np.ndarray) -> Scan:
    nib.save(nib.Nifti1Image(array, affine), path)
    return read_scan(path)


@pytest.mark.parametrize(("axes", "signs"), ORDERS)
def test_every_order_gives_the_same_voxels(axes: tuple[int, ...], signs: tuple[int, ...], tmp_path: Path) -> None:
    """Nibabel writes the other orders: its own reorientation, of an oblique grid."""
    array = np.arange(3 * 4 * 5, dtype=np.int16).reshape(3, 4, 5)
    image = nib.Nifti1Image(array, OBLIQUE)
    turned = image.as_reoriented(np.array(list(zip(axes, signs, strict=True))))
    nib.save(turned, tmp_path / "turned.nii.gz")
    scan, like = read_scan(tmp_path / "turned.nii.gz"), write(tmp_path / "like.nii.gz", array, OBLIQUE)
    found = stored_like(scan, placement(like), like.shape_xyz, "its label")
    assert found is not None
    np.testing.assert_array_equal(found.array_zyx, like.array_zyx)
    np.testing.assert_array_equal(found.direction, like.direction)
    assert found.shape_xyz == (3, 4, 5)
    changed = (axes, signs) != ((0, 1, 2), (1, 1, 1))
    assert any("nothing was resampled" in note for note in found.notes) == changed


def test_other_places_are_no_order() -> None:
    like = Placement((1.0, 1.0, 2.0), (0.0, 0.0, 0.0), np.eye(3))
    shape = (4, 5, 6)
    flipped = np.diag([-1.0, 1.0, 1.0])
    right = Placement((1.0, 1.0, 2.0), (3.0, 0.0, 0.0), flipped)
    order = storage_order(right, shape, like, shape)
    assert order is not None
    assert (order.axes, order.flipped) == ((0, 1, 2), (True, False, False))
    # Half a voxel off, another spacing, another extent, and a direction between two axes.
    turned = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]])
    for wrong, its_shape in (
        (Placement((1.0, 1.0, 2.0), (3.5, 0.0, 0.0), flipped), shape),
        (Placement((1.0, 1.1, 2.0), (3.0, 0.0, 0.0), flipped), shape),
        (right, (4, 5, 7)),
        (Placement((1.0, 1.0, 2.0), (0.0, 0.0, 0.0), turned), shape),
    ):
        assert storage_order(wrong, its_shape, like, shape) is None
