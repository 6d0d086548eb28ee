"""Distances between surfaces and the areas of their points, against slow plain versions and DeepMind's."""

import math

import numpy as np
import pytest

from tests.evaluate.made_masks import blobs, box, nearest_mm, surface_corners
from voco_cli.evaluate.segmentation import surface_distance
from voco_cli.evaluate.segmentation.surface_distance import (
    average_distance_mm,
    directed_averages_mm,
    hausdorff_mm,
    surface_dice,
    surface_distances,
    surfel_areas,
)

UNEQUAL = (2.5, 0.5, 0.7)
SHAPE = (16, 18, 20)


def box_area(n: int) -> float:
    """Marching-cubes area of a cube of n voxels of 1 mm: faces, cut edges, cut corners."""
    return 6 * (n - 1) ** 2 + 12 * (n - 1) * math.sqrt(0.5) + math.sqrt(3)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_area_of_a_cube(n: int) -> None:
    mask = box((9, 9, 9), (2, 2, 2), (n, n, n))
    found = surface_distances(mask, mask, (1.0, 1.0, 1.0))
    assert found.reference_mm2_R.sum() == pytest.approx(box_area(n))
    assert found.reference_mm2_R.size == (n + 1) ** 3 - max(n - 1, 0) ** 3


def test_equal_masks_have_no_distance() -> None:
    mask = blobs(np.random.default_rng(0), SHAPE, 1.5)
    found = surface_distances(mask, mask, UNEQUAL)
    assert hausdorff_mm(found) == average_distance_mm(found) == 0
    assert surface_dice(found, 0.0) == 1


def test_a_voxel_that_moved() -> None:
    # Corners of a voxel and of the voxel two to the right (x): four of each lie on x = 1 and 3, four on x = 0 and 2.
    # From the first: the corners at x=1 are 1 voxel from x=2, those at x=0 are 2; the same backwards.
    first, second = box((3, 3, 5), (1, 1, 1), (1, 1, 1)), box((3, 3, 5), (1, 1, 3), (1, 1, 1))
    found = surface_distances(second, first, (1.0, 1.0, 0.5))
    np.testing.assert_allclose(sorted(found.reference_mm_R), [0.5] * 4 + [1.0] * 4)
    assert average_distance_mm(found) == pytest.approx(0.75)
    assert directed_averages_mm(found) == pytest.approx((0.75, 0.75))
    assert hausdorff_mm(found) == pytest.approx(1.0)
    assert hausdorff_mm(found, 50) == pytest.approx(0.5)  # half of the area lies at 0.5 mm
    assert surface_dice(found, 0.5) == pytest.approx(0.5)
    assert surface_dice(found, 0.49) == 0
    assert surface_dice(found, 1.0) == 1


def test_spheres_in_each_other() -> None:
    z, y, x = np.ogrid[:41, :41, :41]
    squared = (z - 20) ** 2 + (y - 20) ** 2 + (x - 20) ** 2
    found = surface_distances(squared <= 15**2, squared <= 10**2, (1.0, 1.0, 1.0))
    # Surfaces are sets of grid corners, up to a voxel thick, so the nearest is up to half a voxel nearer.
    assert 4.3 < average_distance_mm(found) < 5
    assert hausdorff_mm(found) == pytest.approx(5, abs=0.8)
    assert surface_dice(found, 6.5) == 1
    assert surface_dice(found, 3.0) == 0


def test_empty_masks() -> None:
    nothing, something = np.zeros(SHAPE, bool), box(SHAPE, (0, 0, 0), (2, 2, 2))
    both = surface_distances(nothing, nothing, UNEQUAL)
    assert all(math.isnan(value) for value in (surface_dice(both, 1), hausdorff_mm(both), average_distance_mm(both)))
    for prediction, reference in ((nothing, something), (something, nothing)):
        found = surface_distances(prediction, reference, UNEQUAL)
        assert surface_dice(found, 1e9) == 0
        assert hausdorff_mm(found) == average_distance_mm(found) == math.inf


def test_the_border_of_the_array_is_surface() -> None:
    whole = np.ones((3, 4, 5), bool)
    inside = np.zeros((9, 9, 9), bool)
    inside[2:5, 3:7, 1:6] = True
    first, second = (surface_distances(mask, mask, UNEQUAL) for mask in (whole, inside))
    np.testing.assert_allclose(first.reference_mm2_R, second.reference_mm2_R)


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="of one shape"):
        surface_distances(np.ones((2, 2, 2), bool), np.ones((2, 2, 3), bool), UNEQUAL)


@pytest.mark.parametrize("transform", [False, True])
@pytest.mark.parametrize("roughness", [0.0, 1.0, 2.5])
def test_distances_equal_those_of_trying_all(
    roughness: float, transform: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(surface_distance, "_TRANSFORM_NS_PER_VOXEL", 0.0 if transform else math.inf)
    rng = np.random.default_rng(3)
    shape = (7, 9, 8)
    prediction, reference = blobs(rng, shape, roughness), blobs(rng, shape, roughness)
    found = surface_distances(prediction, reference, UNEQUAL)
    of_prediction, of_reference = surface_corners(prediction), surface_corners(reference)
    np.testing.assert_allclose(found.reference_mm_R, nearest_mm(of_reference, of_prediction, UNEQUAL), atol=1e-12)
    np.testing.assert_allclose(found.prediction_mm_P, nearest_mm(of_prediction, of_reference, UNEQUAL), atol=1e-12)


def test_far_apart_both_ways_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = box((12, 12, 90), (2, 2, 1), (8, 8, 8)), box((12, 12, 90), (1, 2, 80), (8, 9, 8))
    by_choice = surface_distances(first, second, UNEQUAL)
    monkeypatch.setattr(surface_distance, "_LARGEST_TRANSFORM_VOX", 0)
    by_tree = surface_distances(first, second, UNEQUAL)
    np.testing.assert_array_equal(by_choice.reference_mm_R, by_tree.reference_mm_R)
    np.testing.assert_array_equal(by_choice.prediction_mm_P, by_tree.prediction_mm_P)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("seed", range(12))
def test_agrees_with_deepmind(seed: int) -> None:
    sd = pytest.importorskip("surface_distance")
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(6, 34, 3))
    z_mm, y_mm, x_mm = (float(value) for value in rng.uniform(0.4, 4, 3))
    spacing = (z_mm, y_mm, x_mm)
    reference = blobs(rng, shape, rng.uniform(0, 3))
    prediction = np.roll(reference, 2, 0) if seed % 3 == 0 else blobs(rng, shape, rng.uniform(0, 3))
    if seed % 4 == 1:  # one voxel against a shape
        prediction = box(shape, (1, 2, 3), (1, 1, 1))  # type: ignore[arg-type]
    ours = surface_distances(prediction, reference, spacing)
    theirs = sd.compute_surface_distances(reference, prediction, spacing)
    assert directed_averages_mm(ours) == pytest.approx(sd.compute_average_surface_distance(theirs), abs=1e-9)
    for percent in (50, 95, 100):
        assert hausdorff_mm(ours, percent) == pytest.approx(sd.compute_robust_hausdorff(theirs, percent), abs=1e-9)
    for tolerance in (0.0, 1.0, 2.0, 3.3):
        expected = sd.compute_surface_dice_at_tolerance(theirs, tolerance)
        assert surface_dice(ours, tolerance) == pytest.approx(expected, abs=1e-9)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_agrees_with_deepmind_at_a_tolerance_that_is_a_whole_step() -> None:
    """Products such as 3 x 0.7 mm must be rounded as there, or whole faces fall on the other side of the tolerance."""
    sd = pytest.importorskip("surface_distance")
    spacing = (0.7, 0.8, 0.3)
    reference = box((40, 40, 40), (11, 7, 13), (9, 10, 11))
    for axis, step in enumerate(spacing):
        for count in (1, 2, 3, 6, 7):
            prediction = np.roll(reference, count, axis)
            theirs = sd.compute_surface_distances(reference, prediction, spacing)
            ours = surface_distances(prediction, reference, spacing)
            for tolerance in (count * step, float(f"{count * step:.6g}")):
                expected = sd.compute_surface_dice_at_tolerance(theirs, tolerance)
                assert surface_dice(ours, tolerance) == pytest.approx(expected, abs=1e-12)


CUBE = (1.0, 1.0, 1.0)
UNEQUAL_ZYX = (3.0, 0.5, 2.0)  # z, y, x
FACES = (0.5 * 2.0, 3.0 * 2.0, 3.0 * 0.5)  # normal to z, y, x, mm²


def test_nothing_inside_and_nothing_outside_have_no_surface() -> None:
    areas = surfel_areas(UNEQUAL_ZYX)
    assert areas.shape == (256,)
    assert areas[0] == areas[255] == 0
    assert (areas[1:255] > 0).all()


def test_one_voxel_is_an_octants_triangle() -> None:
    # The triangle through the middles of three edges of the voxel: 1/8 of each face as its projections.
    expected = math.hypot(*FACES) / 8
    for bit in range(8):
        assert surfel_areas(UNEQUAL_ZYX)[1 << bit] == pytest.approx(expected)


@pytest.mark.parametrize(("axis", "code"), [(0, 0b00001111), (1, 0b00110011), (2, 0b01010101)])
def test_half_a_cell_is_a_whole_face(axis: int, code: int) -> None:
    assert surfel_areas(UNEQUAL_ZYX)[code] == pytest.approx(FACES[axis])


def test_an_edge_is_cut_at_its_middle() -> None:
    # Voxels at x = 0 and 1 of (z, y) = (0, 0): a rectangle along x from the middle of y's edge to the middle of z's.
    assert surfel_areas(UNEQUAL_ZYX)[0b11] == pytest.approx(2.0 * math.hypot(3.0 / 2, 0.5 / 2))


def test_inside_and_outside_may_be_swapped() -> None:
    areas = surfel_areas(UNEQUAL_ZYX)
    np.testing.assert_allclose(areas, areas[::-1])


def test_agrees_with_deepminds_table() -> None:
    tables = pytest.importorskip("surface_distance.lookup_tables")
    reference = tables.create_table_neighbour_code_to_surface_area(UNEQUAL_ZYX)
    kernel = tables.ENCODE_NEIGHBOURHOOD_3D_KERNEL
    areas = surfel_areas(UNEQUAL_ZYX)
    for code in range(256):
        theirs = sum(int(kernel[bit >> 2 & 1, bit >> 1 & 1, bit & 1]) for bit in range(8) if code >> bit & 1)
        assert areas[code] == pytest.approx(reference[theirs], abs=1e-12)
