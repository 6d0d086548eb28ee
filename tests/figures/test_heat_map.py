"""Heat maps over the base grid: where a base crop is shown, and what is printed on it."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from voco_cli.figures.scan_views import COLOURS, SCALE, draw_heat_map, value_text

GRID = (2, 3, 2)


def values(**at: float) -> np.ndarray:
    """Values of GRID, k = (ix * 3 + iy) * 2 + iz, given as x1y2z0=0.5."""
    found = np.zeros(GRID)
    for place, value in at.items():
        found[int(place[1]), int(place[3]), int(place[5])] = value
    return found.reshape(-1)


def heat_map(values_K: np.ndarray, layer: int = 0, mark: int = 4) -> Axes:
    """A drawn layer of GRID; base crop 4 is at (0, 2, 0)."""
    ax = Figure().add_subplot()
    draw_heat_map(ax, values_K, GRID, layer, (1.0, 2.0), mark, "red")
    return ax


def seen(ax: Axes) -> list[list[float]]:
    """Values of the first picture as a reader sees them, row by row from the top, from left to right."""
    shown = np.asarray(ax.images[0].get_array())
    rows = shown[::-1] if ax.images[0].origin == "lower" else shown
    return (rows[:, ::-1] if ax.get_xlim()[0] > ax.get_xlim()[1] else rows).tolist()


def proportion(ax: Axes) -> float:
    """Width over height as drawn."""
    ax.apply_aspect()
    box, (width, height) = ax.get_position(), ax.figure.get_size_inches()
    return (box.width * width) / (box.height * height)


def test_right_is_on_the_left_and_front_on_top() -> None:
    # x grows to the right of the patient and y to the front, so that (1, 2) is at the upper left.
    assert seen(heat_map(values(x1y2z0=1))) == [[1, 0], [0, 0], [0, 0]]
    assert seen(heat_map(values(x0y2z0=1))) == [[0, 1], [0, 0], [0, 0]]
    assert seen(heat_map(values(x1y0z0=1))) == [[0, 0], [0, 0], [1, 0]]
    assert seen(heat_map(values(x1y1z1=1))) == [[0, 0], [0, 0], [0, 0]]
    assert seen(heat_map(values(x1y1z1=1), 1)) == [[0, 0], [1, 0], [0, 0]]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, ""), (0.004, "<.01"), (0.006, ".01"), (0.25, ".25"), (0.994, ".99"), (0.9999, "1"), (1, "1")],
)
def test_values_are_printed_short(value: float, text: str) -> None:
    assert value_text(value) == text


def test_value_frame_and_colour_are_at_the_same_cell() -> None:
    ax = heat_map(values(x1y2z0=0.25, x0y1z0=0.75))
    (shown,) = ax.images
    assert seen(ax) == [[0.25, 0], [0, 0.75], [0, 0]]
    assert (shown.norm, shown.cmap) == (SCALE, COLOURS)
    assert {text.get_text(): text.get_position() for text in ax.texts if text.get_text()} == {
        ".25": (1, 2),
        ".75": (0, 1),
    }
    (frame,) = ax.patches
    assert (frame.get_xy(), frame.get_width(), frame.get_height()) == ((-0.5, 1.5), 1, 1)
    assert proportion(ax) == pytest.approx(2 * 1 / (3 * 2))


def test_the_frame_is_drawn_in_its_own_layer() -> None:
    assert not heat_map(values(x1y2z1=0.25), 1).patches
