import math

import numpy as np
import pytest

from voco_cli.evaluate.segmentation.surface_distance import surfel_areas

CUBE = (1.0, 1.0, 1.0)
UNEQUAL = (3.0, 0.5, 2.0)  # z, y, x
FACES = (0.5 * 2.0, 3.0 * 2.0, 3.0 * 0.5)  # normal to z, y, x, mm²


def test_nothing_inside_and_nothing_outside_have_no_surface() -> None:
    areas = surfel_areas(UNEQUAL)
    assert areas.shape == (256,)
    assert areas[0] == areas[255] == 0
    assert (areas[1:255] > 0).all()


def test_one_voxel_is_an_octants_triangle() -> None:
    # The triangle through the middles of three edges of the voxel: 1/8 of each face as its projections.
    expected = math.hypot(*FACES) / 8
    for bit in range(8):
        assert surfel_areas(UNEQUAL)[1 << bit] == pytest.approx(expected)


@pytest.mark.parametrize(("axis", "code"), [(0, 0b00001111), (1, 0b00110011), (2, 0b01010101)])
def test_half_a_cell_is_a_whole_face(axis: int, code: int) -> None:
    assert surfel_areas(UNEQUAL)[code] == pytest.approx(FACES[axis])


def test_an_edge_is_cut_at_its_middle() -> None:
    # Voxels at x = 0 and 1 of (z, y) = (0, 0): a rectangle along x from the middle of y's edge to the middle of z's.
    assert surfel_areas(UNEQUAL)[0b11] == pytest.approx(2.0 * math.hypot(3.0 / 2, 0.5 / 2))


def test_inside_and_outside_may_be_swapped() -> None:
    areas = surfel_areas(UNEQUAL)
    np.testing.assert_allclose(areas, areas[::-1])


def test_agrees_with_deepminds_table() -> None:
    tables = pytest.importorskip("surface_distance.lookup_tables")
    reference = tables.create_table_neighbour_code_to_surface_area(UNEQUAL)
    kernel = tables.ENCODE_NEIGHBOURHOOD_3D_KERNEL
    areas = surfel_areas(UNEQUAL)
    for code in range(256):
        theirs = sum(int(kernel[bit >> 2 & 1, bit >> 1 & 1, bit & 1]) for bit in range(8) if code >> bit & 1)
        assert areas[code] == pytest.approx(reference[theirs], abs=1e-12)
