"""Implicit shapes against points whose side is known by hand."""

from __future__ import annotations

import numpy as np

from voco_cli.data.synthetic.anatomy import Ellipsoid, Tube, union


def _points(*points: tuple[float, float, float]) -> np.ndarray:
    return np.asarray(points, dtype=np.float32).T[:, :, None, None]


def test_ellipsoid_ends_at_its_radii() -> None:
    shape = Ellipsoid((0.1, 0.2, 0.3), (0.4, 0.2, 0.1))
    inside = shape.inside(_points((0.49, 0.2, 0.3), (0.51, 0.2, 0.3), (0.1, 0.39, 0.3), (0.1, 0.2, 0.41)))
    assert inside.ravel().tolist() == [True, False, True, False]


def test_turned_ellipsoid_swaps_its_axes_at_90_degrees() -> None:
    shape = Ellipsoid((0.0, 0.0, 0.0), (0.4, 0.1, 0.1), turn_deg=90)
    assert shape.inside(_points((0.3, 0, 0), (0, 0.3, 0))).ravel().tolist() == [False, True]


def test_tube_follows_its_knots_and_has_flat_ends() -> None:
    tube = Tube(2, ((0.0, 0.0, 0.0, 0.1), (1.0, 1.0, 0.0, 0.3)))
    # Half way the centre is at u = 0.5 and the radius 0.2.
    points = _points((0.69, 0, 0.5), (0.71, 0, 0.5), (0.5, 0.19, 0.5), (1.0, 0.0, 1.01), (0.0, 0.0, -0.01))
    assert tube.inside(points).ravel().tolist() == [True, False, True, False, False]


def test_tube_along_u_reads_its_centre_as_v_and_w() -> None:
    tube = Tube(0, ((-1.0, 0.3, -0.2, 0.1), (1.0, 0.3, -0.2, 0.1)))
    assert tube.inside(_points((0, 0.3, -0.2), (0, -0.2, 0.3))).ravel().tolist() == [True, False]


def test_moving_shifts_and_grows() -> None:
    moved = Ellipsoid((0, 0, 0), (0.1, 0.1, 0.1)).moved((0.5, 0, 0), 2.0)
    assert moved == Ellipsoid((0.5, 0, 0), (0.2, 0.2, 0.2))
    tube = Tube(1, ((0.0, 0.0, 0.0, 0.1),)).moved((1, 2, 3), 0.5)
    assert tube == Tube(1, ((2.0, 1.0, 3.0, 0.05),))


def test_union_is_any_of_them() -> None:
    shapes = (Ellipsoid((0, 0, 0), (0.1, 0.1, 0.1)), Ellipsoid((1, 0, 0), (0.1, 0.1, 0.1)))
    assert union(shapes, _points((0, 0, 0), (1, 0, 0), (0.5, 0, 0))).ravel().tolist() == [True, True, False]
