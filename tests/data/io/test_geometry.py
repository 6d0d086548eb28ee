"""Repairs and refusals of directions, by angles that are known."""

from pathlib import Path

import numpy as np
import pytest

from voco_cli.data.io.geometry import axis_codes, grid_shift_mm, nearest_orthonormal, place, same_grid
from voco_cli.errors import GeometryError

HERE = Path("scan.nii.gz")


def sheared(degrees: float) -> np.ndarray:
    """The z axis leans towards y by so many degrees."""
    axes = np.eye(3)
    axes[:, 2] = [0, np.sin(np.radians(degrees)), np.cos(np.radians(degrees))]
    return axes


def test_a_shear_is_shared_evenly_between_its_two_axes() -> None:
    direction, turned_deg = nearest_orthonormal(sheared(0.8))
    assert turned_deg == pytest.approx(0.4, abs=1e-3)
    np.testing.assert_allclose(direction.T @ direction, np.eye(3), atol=1e-14)
    np.testing.assert_allclose(direction[1, 2], np.sin(np.radians(0.4)), atol=1e-6)


def test_small_shear_is_repaired_and_noted() -> None:
    placement = place(sheared(0.8) * [1.0, 2.0, 3.0], np.zeros(3), HERE)
    assert placement.spacing_xyz_mm == pytest.approx((1, 2, 3))
    assert "0.400 degrees" in placement.notes[0]


def test_rounding_of_single_precision_is_no_note() -> None:
    axes = np.array([[0.1, 0.7, 0], [0.7, -0.1, 0], [0, 0, 0.9]])
    axes = (axes / np.linalg.norm(axes, axis=0)).astype(np.float32).astype(np.float64)
    assert place(axes, np.zeros(3), HERE).notes == ()


def test_mirrored_grid_stays_mirrored() -> None:
    placement = place(np.diag([-1.0, 1.0, 1.0]), np.zeros(3), HERE)
    assert np.linalg.det(placement.direction) == pytest.approx(-1)
    assert placement.notes == ()


@pytest.mark.parametrize(
    ("axes", "what"),
    [
        (sheared(15), "75.0"),
        (np.diag([1.0, 1.0, 0.0]), "0 mm on axis z"),
        (np.diag([1.0, np.nan, 1.0]), "not a finite number"),
        (np.ones((3, 3)), "right angles"),
    ],
)
def test_unusable_axes_are_refused_with_what_is_wrong(axes: np.ndarray, what: str) -> None:
    with pytest.raises(GeometryError, match=what) as caught:
        place(axes, np.zeros(3), HERE)
    assert "scan.nii.gz" in caught.value.message


def test_axis_codes_say_where_axes_grow_to() -> None:
    assert axis_codes(np.eye(3)) == "LPS"
    assert axis_codes(np.diag([-1.0, -1.0, 1.0])) == "RAS"
    coronal = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    assert axis_codes(coronal) == "LIP"


def test_grid_shift_is_the_largest_over_corners() -> None:
    first = place(np.diag([1.0, 1, 1]), np.zeros(3), HERE)
    second = place(np.diag([1.0, 1, 1.01]), np.array([0.0, 0, 0.1]), HERE)
    # At the last of 11 slices: 0.1 + 10 * 0.01 mm.
    assert grid_shift_mm(first, second, (4, 4, 11)) == pytest.approx(0.2)
    assert not same_grid(first, second, (4, 4, 11))
    assert same_grid(first, place(np.eye(3), np.array([0, 0, 1e-5]), HERE), (4, 4, 11))
