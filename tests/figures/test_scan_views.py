"""Slices of a scan with the grid and the crops on them: everything where the patient has it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from tests.figures.test_crops import scene
from voco_cli.figures.crops import LabelScene
from voco_cli.figures.scan_views import AXIAL, CORONAL, SAGITTAL, Plane, draw_view


def view(shown: LabelScene, plane: Plane, index: int) -> Axes:
    ax = Figure().add_subplot()
    draw_view(ax, shown, plane, index)
    return ax


def test_right_of_the_patient_is_on_the_left_and_front_on_top() -> None:
    axial, sagittal = view(scene(), AXIAL, 5), view(scene(), SAGITTAL, 3)
    assert axial.get_xlim() == (25.0, 0.0)  # x grows to the patient's right, so it runs to the left
    assert axial.get_ylim() == (0.0, 40.0)
    assert sagittal.get_xlim() == (40.0, 0.0)  # the front at the left
    letters = {text.get_text(): text.get_position() for text in sagittal.texts}
    assert letters["A"][0] < letters["P"][0]
    assert letters["I"][1] < letters["S"][1]


def test_voxels_are_drawn_where_they_lie() -> None:
    volume = np.zeros((25, 20, 10), dtype=np.float32)
    volume[24, 19, 5] = 1.0
    shown = view(replace(scene(), volume_xyz=volume), AXIAL, 5).images[0]
    left, right, bottom, top = shown.get_extent()
    # Rows are y from below, columns x along the data axis, whose left end is x = 0 of the volume.
    assert (left, right, bottom, top) == (0.0, 25.0, 0.0, 40.0)
    assert np.argwhere(np.asarray(shown.get_array()) == 1).tolist() == [[19, 24]]


@pytest.mark.parametrize(("plane", "region", "crop"), [(AXIAL, (3, 2), (5, 10)), (CORONAL, (3, 7), (5, 7))])
def test_grid_and_crop_lie_in_mm_and_the_rest_is_dimmed(
    plane: Plane, region: tuple[float, float], crop: tuple[float, float]
) -> None:
    # The grid begins at voxel (3, 1, 2), the crop at (5, 5, 2); voxels of 1 x 2 x 3.5 mm.
    patches = [one for one in view(scene(start=(3, 1, 2)), plane, 3).patches if isinstance(one, Rectangle)]
    boxes = [one for one in patches if not one.get_fill()]
    assert boxes[0].get_xy() == region
    assert boxes[-1].get_xy() == crop
    size = [one.get_width() * one.get_height() for one in (*patches,) if one.get_fill()]
    whole = {AXIAL: 25 * 40, CORONAL: 25 * 35}[plane]
    inside = {AXIAL: 20 * 32, CORONAL: 20 * 14}[plane]
    assert sum(size) == pytest.approx(whole - inside)
