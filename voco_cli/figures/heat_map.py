"""Draw values over the base grid, such as labels and logits, as heat maps of one scale.

K base crops, k = (ix * gy + iy) * gz + iz.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from voco_cli.figures.crops import IntTriple
from voco_cli.figures.style import FigurePage, bare

COLOURS: Colormap = colormaps["viridis"]
"""Equally spaced to the eye, in grey and to colour-blind readers too."""
SCALE = Normalize(0.0, 1.0)
"""Labels and logits lie in this range, and share it, so that they can be compared by colour."""
DARK_BELOW = 0.6
"""Values below have a colour that takes white text."""
LEAST_TEXT = 4.0
"""Points; values that would be printed smaller are left to the colours."""


def value_text(value: float) -> str:
    """Return two digits after the point, as short as a small cell needs it; nothing for 0."""
    if value == 0:
        return ""
    rounded = f"{value:.2f}"
    return {"0.00": "<.01", "1.00": "1"}.get(rounded, rounded.removeprefix("0"))


def text_size(ax: Axes, columns: int) -> float:
    """Return the points of a value that fits into one of so many cells side by side; 0 where nobody could read it."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    size = min(7.0, 17 * ax.get_position().width * figure.get_figwidth() / columns)
    return size if size >= LEAST_TEXT else 0.0


def draw_heat_map(
    ax: Axes, values_K: NDArray[Any], grid: IntTriple, layer: int, cell_mm: tuple[float, float], mark: int, colour: str
) -> None:
    """Draw one layer of the base grid with its values, patient's right on the left and front on top.

    Args:
        cell_mm: width and height of a base crop.
        mark: the base crop that is framed where it lies in this layer.
        colour: of the frame.
    """
    values_YX = np.asarray(values_K).reshape(grid)[:, :, layer].T
    ax.imshow(values_YX, cmap=COLOURS, norm=SCALE, origin="lower", aspect=cell_mm[1] / cell_mm[0])
    ax.set_xlim(grid[0] - 0.5, -0.5)
    ax.set_anchor("N")
    bare(ax)
    edges: dict[str, Any] = {"colors": "white", "linewidths": 0.4, "alpha": 0.35}
    ax.vlines(np.arange(1, grid[0]) - 0.5, -0.5, grid[1] - 0.5, **edges)
    ax.hlines(np.arange(1, grid[1]) - 0.5, -0.5, grid[0] - 0.5, **edges)
    size = text_size(ax, grid[0])
    for (row, column), value in np.ndenumerate(values_YX) if size else ():
        ink = "white" if value < DARK_BELOW else "black"
        ax.text(column, row, value_text(float(value)), color=ink, size=size, ha="center", va="center")
    x, y, z = (int(part) for part in np.unravel_index(mark, grid))
    if z == layer:
        frame = Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, edgecolor=colour, linewidth=1.8, clip_on=False)
        ax.add_patch(frame)


def draw_scale(page: FigurePage, left: float, top: float, height: float) -> None:
    """Draw the colours of labels and logits, upright, with three values beside them."""
    ax = page.figure.add_subplot(page.grid(left, top, [0.1], [height])[0])
    bar = page.figure.colorbar(ScalarMappable(SCALE, COLOURS), cax=ax, ticks=[0.0, 0.5, 1.0], format="%g")
    bar.outline.set_visible(False)
    ax.tick_params(labelsize=6.5, length=0, pad=3)
