"""One physical grid in all 48 orders in which its voxels can be stored."""

from __future__ import annotations

from itertools import permutations, product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from voco_cli.data.io.geometry import Placement, storage_order
from voco_cli.data.io.image import Scan, placement, stored_like
from voco_cli.data.io.reader import read_scan

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
