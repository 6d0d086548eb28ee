from __future__ import annotations

import numpy as np
import pytest

from voco_cli.data.cache.grid import interpolate, resize_coordinates, spacing_size, taps_at
from voco_cli.data.cache.preprocess import Window, box_above


def test_interpolation_equals_the_literal_trilinear_sum() -> None:
    rng = np.random.default_rng(0)
    source = rng.normal(size=(5, 6, 7)).astype(np.float32)
    coordinates = [rng.uniform(-0.5, n - 0.5, 4) for n in source.shape]
    taps = [taps_at(c, n) for c, n in zip(coordinates, source.shape, strict=True)]
    found = interpolate(source, (taps[0], taps[1], taps[2]), np.asarray)
    for i, j, k in np.ndindex(4, 4, 4):
        point = np.clip([coordinates[0][i], coordinates[1][j], coordinates[2][k]], 0, np.array(source.shape) - 1)
        expected = 0.0
        for corner in np.ndindex(2, 2, 2):
            index = np.minimum(np.floor(point).astype(int) + corner, np.array(source.shape) - 1)
            share = point - np.floor(point)
            expected += source[tuple(index)] * np.prod(np.where(corner, share, 1 - share))
        assert found[i, j, k] == pytest.approx(expected, abs=1e-6)


def test_reversed_coordinates_flip() -> None:
    source = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    taps = [taps_at(n - 1 - resize_coordinates(n, n), n) for n in source.shape]
    found = interpolate(source, (taps[0], taps[1], taps[2]), lambda plane: plane.astype(np.float32))
    assert np.array_equal(found, source[::-1, ::-1, ::-1])


def test_sizes_and_coordinates_by_hand() -> None:
    assert spacing_size(40, 1.5 / 4.0) == 105  # round(39 * 4 / 1.5 + 1), as the reference has it
    assert spacing_size(1, 0.5) == 1
    assert resize_coordinates(3, 5).tolist() == [0, 0.5, 1, 1.5, 2]
    assert resize_coordinates(4, 1).tolist() == [0]


def test_box_of_voxels_above() -> None:
    array = np.zeros((4, 5, 6), dtype=np.int16)
    array[1, 2, 3] = array[2, 4, 1] = 9
    assert box_above(array, 8) == (slice(1, 3), slice(2, 5), slice(1, 4))
    assert box_above(array, 9) is None
    assert box_above(array.transpose(2, 0, 1)[::-1], 8) == (slice(2, 5), slice(1, 3), slice(2, 5))


@pytest.mark.parametrize("above", [0.0, 0.1, 0.3, 0.5, 0.7])
@pytest.mark.parametrize("ends", [(-175.0, 250.0), (-1000.0, 500.0), (-160.5, 239.5)])
def test_raw_threshold_is_the_one_of_float32(above: float, ends: tuple[float, float]) -> None:
    window = Window(*ends)
    values = np.arange(-1100, 600, dtype=np.int16)
    scaled = (values.astype(np.float32) - np.float32(ends[0])) / np.float32(ends[1] - ends[0])
    expected = np.clip(scaled, 0, 1) > np.float32(above)
    assert np.array_equal(values > window.raw_threshold(above, values.dtype), expected)


def test_nothing_is_above_1() -> None:
    assert Window(0.0, 1.0).raw_threshold(1.0, np.dtype(np.int16)) == np.inf
