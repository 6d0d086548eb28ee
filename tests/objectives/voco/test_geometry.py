"""Position labels: hand cases, counted voxels, and what must hold for every crop."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.objectives.voco.literal import overlap_share
from voco_cli.errors import GeometryError
from voco_cli.objectives.voco.crops import base_starts, crop_starts, label_boxes, position_labels


def test_base_crops_tile_the_region_x_slowest() -> None:
    starts = base_starts((2, 3, 2), (10, 20, 30))
    expected = [(x, y, z) for x in (0, 10) for y in (0, 20, 40) for z in (0, 30)]
    assert starts.tolist() == [list(corner) for corner in expected]


def test_crop_around_a_centre() -> None:
    assert crop_starts([[48, 50, 7]], (96, 5, 4)).tolist() == [[0, 48, 5]]


@pytest.mark.parametrize(
    ("centre_xy", "expected"),
    [
        ((48, 48), {0: 1.0}),  # base crop (0, 0) itself
        ((144, 240), {6: 1.0}),  # base crop (1, 2): index 4 * 1 + 2
        ((96, 48), {0: 0.5, 4: 0.5}),  # half in the next cell along x
        ((48, 96), {0: 0.5, 1: 0.5}),  # half in the next cell along y
        ((96, 96), {0: 0.25, 1: 0.25, 4: 0.25, 5: 0.25}),
        ((72, 60), {0: 0.75 * 0.875, 1: 0.75 * 0.125, 4: 0.25 * 0.875, 5: 0.25 * 0.125}),
        ((336, 336), {15: 1.0}),  # the last place, which the released draws never reach
    ],
)
def test_plane_grid_by_hand(centre_xy: tuple[int, int], expected: dict[int, float]) -> None:
    size, grid = (96, 96, 96), (4, 4, 1)
    low, high = label_boxes(crop_starts([[*centre_xy, 48]], size), size)
    (label,) = position_labels(low, high, size, grid, size)
    assert {k: share for k, share in enumerate(label.tolist()) if share} == expected


def test_grid_in_three_axes_by_hand() -> None:
    size = (8, 8, 8)
    low = np.array([[2, 4, 6]])  # 3/4 and 1/4 along x, halves along y, 1/4 and 3/4 along z
    labels = position_labels(low, low + 8, size, (2, 2, 2), size)
    expected = [x * y * z for x in (0.75, 0.25) for y in (0.5, 0.5) for z in (0.25, 0.75)]
    np.testing.assert_array_equal(labels, [expected])


def test_base_crops_of_another_size_than_the_random_crops() -> None:
    # A crop of 4 starting at 1 in cells of 3: 2 of its 4 voxels in the first cell, 2 in the second.
    low = np.array([[1, 0, 0]])
    labels = position_labels(low, [[5, 3, 3]], (4, 3, 3), (3, 1, 1), (3, 3, 3))
    np.testing.assert_array_equal(labels, [[0.5, 0.5, 0.0]])


def test_any_leading_dimensions() -> None:
    low = np.arange(12).reshape(2, 2, 3)
    labels = position_labels(low, low + 4, (4, 4, 4), (4, 4, 4), (4, 4, 4))
    assert labels.shape == (2, 2, 64)
    for b in range(2):
        np.testing.assert_array_equal(labels[b], position_labels(low[b], low[b] + 4, (4, 4, 4), (4, 4, 4), (4, 4, 4)))


def test_odd_sizes_whole_and_floored() -> None:
    size = (65, 65, 65)
    low, high = label_boxes([[0, 0, 0]], size, "whole")
    assert (high - low).tolist() == [[65, 65, 65]]
    assert position_labels(low, high, size, (3, 3, 1), size).sum() == pytest.approx(1.0)
    low, high = label_boxes([[0, 0, 0]], size, "floored")
    assert (high - low).tolist()[0][:2] == [64, 64]
    # Released labels are of areas: an even box of an odd square.
    assert position_labels(low, high, size, (3, 3, 1), size).sum() == pytest.approx((64 / 65) ** 2)


def test_even_sizes_are_the_same_whole_and_floored() -> None:
    for whole, floored in zip(*(label_boxes([[3, 4, 5]], (6, 8, 4), box) for box in ("whole", "floored")), strict=True):
        np.testing.assert_array_equal(whole, floored)


@pytest.mark.parametrize("low", [[-1, 0, 0], [0, 9, 0], [0, 0, 1]])
def test_crop_outside_the_grid(low: list[int]) -> None:
    size = (8, 8, 8)
    with pytest.raises(GeometryError, match="16x16x8 voxels of the base grid"):
        position_labels([low], [[edge + 8 for edge in low]], size, (2, 2, 1), size)


sizes = st.tuples(*[st.integers(1, 5)] * 3)


@given(grid=st.tuples(*[st.integers(1, 3)] * 3), base=sizes, size=sizes, data=st.data())
def test_labels_are_counted_voxels_and_sum_to_one(
    grid: tuple[int, int, int], base: tuple[int, int, int], size: tuple[int, int, int], data: st.DataObject
) -> None:
    size = tuple(min(s, g * b) for s, g, b in zip(size, grid, base, strict=True))
    low = [data.draw(st.integers(0, g * b - s)) for s, g, b in zip(size, grid, base, strict=True)]
    (label,) = position_labels([low], [[a + s for a, s in zip(low, size, strict=True)]], size, grid, base)
    cells = [(x, y, z) for x in range(grid[0]) for y in range(grid[1]) for z in range(grid[2])]
    np.testing.assert_allclose(label, [overlap_share(low, size, cell, base) for cell in cells], atol=1e-12)
    assert label.sum() == pytest.approx(1.0)
    assert label.min() >= 0.0


@given(st.tuples(*[st.integers(0, 24)] * 2))
def test_a_mirrored_crop_has_mirrored_labels(corner: tuple[int, int]) -> None:
    size, grid = (8, 8, 8), (4, 4, 1)
    mirrored = [[24 - corner[0], corner[1], 0]]
    here = position_labels([[*corner, 0]], [[corner[0] + 8, corner[1] + 8, 8]], size, grid, size)
    there = position_labels(mirrored, np.add(mirrored, 8), size, grid, size)
    np.testing.assert_allclose(here.reshape(4, 4)[::-1], there.reshape(4, 4), atol=1e-12)
