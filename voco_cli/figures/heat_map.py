"""Values of the base crops as a heat map that lies as the patient does: right on the left, front on top.

K base crops, k = (ix * gy + iy) * gz + iz; x grows to the patient's right, y to the front, z to the head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from voco_cli.figures.labels.scene import IntTriple

COLOURS: Colormap = colormaps["viridis"]
"""Equally spaced to the eye, in grey and to colour-blind readers too."""
SCALE = Normalize(0.0, 1.0)
"""Labels and logits lie in this range, and share it, so that they can be compared by colour."""
MARK = "#D55E00"
DARK_BELOW = 0.6
"""Values below have a colour that takes white text."""


@dataclass(frozen=True)
class Box:
    """A rectangle on a page's canvas, inches from the upper left corner."""

    left: float
    top: float
    width: float
    height: float

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Left, right, bottom and top, as matplotlib's imshow has them."""
        return (self.left, self.left + self.width, self.top + self.height, self.top)


def as_seen(values_K: NDArray[Any], grid: IntTriple, layer: int) -> NDArray[Any]:
    """One layer of the grid in rows and columns: row 0 is the front, column 0 the patient's right."""
    rows: NDArray[Any] = np.asarray(values_K).reshape(grid)[::-1, ::-1, layer].T
    return rows


def value_text(value: float) -> str:
    """Two digits after the point, as short as a small cell needs it; nothing for 0."""
    if value == 0:
        return ""
    rounded = f"{value:.2f}"
    return {"0.00": "<.01", "1.00": "1"}.get(rounded, rounded.removeprefix("0"))


def draw_heat_map(
    ax: Axes,
    values_K: NDArray[Any],
    grid: IntTriple,
    layer: int,
    box: Box,
    mark: int,
    size: float,
    mark_colour: str = MARK,
) -> None:
    """Draw one layer with its values.

    Args:
        ax: a page's canvas.
        box: where.
        mark: the base crop that is framed where it lies in this layer.
        size: of the text, points; 0 prints no values.
        mark_colour: of the frame.
    """
    shown_RC = as_seen(values_K, grid, layer)
    width, height = box.width / grid[0], box.height / grid[1]
    ax.imshow(shown_RC, cmap=COLOURS, norm=SCALE, extent=box.extent, aspect="auto", interpolation="nearest")
    edges: dict[str, Any] = {"colors": "white", "linewidths": 0.4, "alpha": 0.35}
    left, right, bottom, top = box.extent
    ax.vlines([left + column * width for column in range(1, grid[0])], top, bottom, **edges)
    ax.hlines([top + row * height for row in range(1, grid[1])], left, right, **edges)
    for (row, column), value in np.ndenumerate(shown_RC) if size else ():
        if text := value_text(float(value)):
            at = (box.left + (column + 0.5) * width, box.top + (row + 0.5) * height)
            ax.text(*at, text, color=text_colour(value), size=size, ha="center", va="center")
    x, y, z = (int(part) for part in np.unravel_index(mark, grid))
    if z == layer:
        corner = (box.left + (grid[0] - 1 - x) * width, box.top + (grid[1] - 1 - y) * height)
        ax.add_patch(Rectangle(corner, width, height, fill=False, edgecolor=mark_colour, linewidth=1.8))


def draw_scale(ax: Axes, box: Box) -> None:
    """The colours, upright, with three values beside them."""
    ax.imshow(np.linspace(1, 0, 128)[:, None], cmap=COLOURS, norm=SCALE, extent=box.extent, aspect="auto")
    for value in (0.0, 0.5, 1.0):
        at = (box.left + box.width + 0.05, box.top + (1 - value) * box.height)
        ax.text(*at, f"{value:g}", size=6.5, va="center")


def text_colour(value: float) -> str:
    """Colour of text that is legible on a value's colour."""
    return "white" if value < DARK_BELOW else "black"
