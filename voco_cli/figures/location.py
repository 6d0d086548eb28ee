"""One validation as a picture: for a few held-out crops, what the network says of their place and what is true.

K base crops; a crop is a column: a slice of it, its label over the base grid, and the logits over the same grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from voco_cli.figures.crops import IntTriple
from voco_cli.figures.style import FAINT, Page, figure_style, safe_text

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


COLUMN_IN, GAP_IN = 1.42, 0.14
LEFT_IN, RIGHT_IN, MARGIN_IN = 0.62, 0.95, 0.16
HEADER_IN, NAME_IN, FOOT_IN = 0.62, 0.18, 0.22
ROW_GAP_IN, LAYER_GAP_IN = 0.14, 0.06
SLICE_IN = 0.95
LEAST_WIDTH_IN = 5.4
"""What the title needs."""
LEAST_TEXT = 4.0
"""Points; values that would be printed smaller are left to the colours."""
MAPS_IN = 3.0
"""What all layers of a heat map together may take of the page's height."""
DPI = 110


@dataclass(frozen=True)
class LocatedCrop:
    """A random crop, its label, and where the network believes it to lie.

    Attributes:
        scan: name of the scan that it was cut from.
        slice_XY: its middle axial slice, in [0, 1].
        pixel_mm: width and height of a pixel of the slice.
        label_K: its position label.
        logits_K: what is predicted.
        rank: 0-based rank of the base crop with the largest label.
    """

    scan: str
    slice_XY: NDArray[Any]
    pixel_mm: tuple[float, float]
    label_K: NDArray[Any]
    logits_K: NDArray[Any]
    rank: float


@dataclass(frozen=True)
class LocationPanel:
    """What the picture of one validation shows.

    Attributes:
        step: optimizer steps before it.
        rank, correlation: over all held-out crops.
        grid: base crops along x, y, z.
        cell_mm: width and height of a base crop, of the first scan where they differ.
        crops: those that are drawn.
    """

    step: int
    rank: float
    correlation: float
    grid: IntTriple
    cell_mm: tuple[float, float]
    crops: Sequence[LocatedCrop]


def draw_location(panel: LocationPanel, path: Path) -> None:
    """Write the picture of a validation.

    Raises:
        ResourceError: the file cannot be written.
    """
    with figure_style():
        _compose(panel).save(path, DPI)


def _compose(panel: LocationPanel) -> Page:
    width_in, height_in = _map_size(panel)
    layers = panel.grid[2]
    step_in = height_in + LAYER_GAP_IN
    maps_in = layers * step_in - LAYER_GAP_IN
    count = len(panel.crops)
    labels_top = HEADER_IN + NAME_IN + SLICE_IN + ROW_GAP_IN
    logits_top = labels_top + maps_in + ROW_GAP_IN
    wide = LEFT_IN + count * (COLUMN_IN + GAP_IN) - GAP_IN + RIGHT_IN
    page = Page(max(wide, LEAST_WIDTH_IN), logits_top + maps_in + FOOT_IN + MARGIN_IN)
    canvas = page.canvas()
    _place_header(page, panel)
    for top, name in ((HEADER_IN + NAME_IN, "crop"), (labels_top, "label"), (logits_top, "logits")):
        page.text(MARGIN_IN, top, name, 8, "bold")
    _name_layers(page, panel, (labels_top, logits_top), step_in)
    text_size = min(7.0, 17 * width_in / panel.grid[0])
    if text_size < LEAST_TEXT:
        text_size = 0.0
    for column, crop in enumerate(panel.crops):
        middle = LEFT_IN + column * (COLUMN_IN + GAP_IN) + COLUMN_IN / 2
        page.text(middle, HEADER_IN, safe_text(crop.scan, 26), 6, centred=True)
        _draw_slice(canvas, crop, middle, HEADER_IN + NAME_IN)
        true = int(np.argmax(crop.label_K))
        for values_K, top in ((crop.label_K, labels_top), (crop.logits_K, logits_top)):
            for row, layer in enumerate(reversed(range(layers))):  # the layer nearest to the head on top
                box = Box(middle - width_in / 2, top + row * step_in, width_in, height_in)
                draw_heat_map(canvas, values_K, panel.grid, layer, box, true, text_size)
        page.text(middle, logits_top + maps_in + 0.05, f"true base crop: rank {crop.rank:g}", 7, centred=True)
    _place_key(page, canvas, wide - RIGHT_IN + 0.14, labels_top, min(2 * maps_in, 1.5))
    return page


def _name_layers(page: Page, panel: LocationPanel, tops: Sequence[float], step_in: float) -> None:
    """Number of each layer of the grid, from the feet, where there are several."""
    for top in tops:
        for row in range(panel.grid[2] if panel.grid[2] > 1 else 0):
            page.text(MARGIN_IN, top + row * step_in + 0.16, f"layer {panel.grid[2] - row}", 6, colour=FAINT)


def _map_size(panel: LocationPanel) -> tuple[float, float]:
    """Width and height of one layer, inches, in the proportions of its base crops."""
    aspect = panel.grid[1] * panel.cell_mm[1] / (panel.grid[0] * panel.cell_mm[0])
    height = min(COLUMN_IN * aspect, MAPS_IN / panel.grid[2])
    return height / aspect, height


def _place_header(page: Page, panel: LocationPanel) -> None:
    page.text(MARGIN_IN, 0.12, f"Step {panel.step}: where held-out crops are believed to lie", 11, "bold")
    chance = (int(np.prod(panel.grid)) - 1) / 2
    figures = f"mean rank {panel.rank:.2f} (0 is first, guessing {chance:g}), correlation {panel.correlation:.2f}"
    page.text(MARGIN_IN, 0.36, f"all held-out crops: {figures}", 7.5, colour=FAINT)


def _draw_slice(canvas: Axes, crop: LocatedCrop, middle: float, top: float) -> None:
    """The middle slice, patient's right on the left, front on top."""
    x_mm, y_mm = (edge * step for edge, step in zip(crop.slice_XY.shape, crop.pixel_mm, strict=True))
    scale = min(COLUMN_IN / x_mm, SLICE_IN / y_mm)
    box = Box(middle - x_mm * scale / 2, top, x_mm * scale, y_mm * scale)
    shown = np.asarray(crop.slice_XY, dtype=np.float32)[::-1, ::-1].T
    canvas.imshow(shown, cmap="gray", vmin=0, vmax=1, extent=box.extent, aspect="auto", interpolation="nearest")


def _place_key(page: Page, canvas: Axes, left: float, top: float, height: float) -> None:
    """The colours of labels and logits, what the frame means, and how the patient lies."""
    draw_scale(canvas, Box(left, top + 0.05, 0.1, height))
    page.text(left, top + height + 0.15, "frame: true\nbase crop", 6, colour=MARK)
    page.text(left, top + height + 0.42, "patient's right\non the left,\nfront on top", 6, colour=FAINT)
