"""Heat maps over the base grid: where a base crop is shown, and what is printed on it."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from voco_cli.figures.location import COLOURS, SCALE, Box, as_seen, draw_heat_map, value_text

GRID = (2, 3, 2)


def values(**at: float) -> np.ndarray:
    """Values of GRID, k = (ix * 3 + iy) * 2 + iz, given as x1y2z0=0.5."""
    found = np.zeros(GRID)
    for place, value in at.items():
        found[int(place[1]), int(place[3]), int(place[5])] = value
    return found.reshape(-1)


def test_right_is_on_the_left_and_front_on_top() -> None:
    # x grows to the right of the patient and y to the front, so that (1, 2) is at the upper left.
    assert as_seen(values(x1y2z0=1), GRID, 0).tolist() == [[1, 0], [0, 0], [0, 0]]
    assert as_seen(values(x0y2z0=1), GRID, 0).tolist() == [[0, 1], [0, 0], [0, 0]]
    assert as_seen(values(x1y0z0=1), GRID, 0).tolist() == [[0, 0], [0, 0], [1, 0]]
    assert as_seen(values(x1y1z1=1), GRID, 0).tolist() == [[0, 0], [0, 0], [0, 0]]
    assert as_seen(values(x1y1z1=1), GRID, 1).tolist() == [[0, 0], [1, 0], [0, 0]]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, ""), (0.004, "<.01"), (0.006, ".01"), (0.25, ".25"), (0.994, ".99"), (0.9999, "1"), (1, "1")],
)
def test_values_are_printed_short(value: float, text: str) -> None:
    assert value_text(value) == text


def test_value_frame_and_colour_are_at_the_same_cell() -> None:
    ax = Figure().add_subplot()
    draw_heat_map(ax, values(x1y2z0=0.25, x0y1z0=0.75), GRID, 0, Box(10, 20, 4, 9), 4, 6)  # k = 4 is (0, 2, 0)
    (shown,) = ax.images
    assert tuple(shown.get_extent()) == (10, 14, 29, 20)  # the first row is on top
    assert np.asarray(shown.get_array()).tolist() == [[0.25, 0], [0, 0.75], [0, 0]]
    assert (shown.norm, shown.cmap) == (SCALE, COLOURS)
    assert {text.get_text(): text.get_position() for text in ax.texts} == {".25": (11, 21.5), ".75": (13, 24.5)}
    (frame,) = ax.patches
    assert (frame.get_xy(), frame.get_width(), frame.get_height()) == ((12, 20), 2, 3)


def test_the_frame_is_drawn_in_its_own_layer_and_no_value_at_size_0() -> None:
    ax = Figure().add_subplot()
    draw_heat_map(ax, values(x1y2z1=0.25), GRID, 1, Box(0, 0, 2, 3), 4, 0)
    assert not ax.patches
    assert not ax.texts
