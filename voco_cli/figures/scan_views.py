"""Draw slices of a scan with the grid of base crops and random crops on them, and values over that grid as heat maps.

Slices are in mm, as the patient lies. K base crops, k = (ix * gy + iy) * gz + iz.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from voco_cli.figures.crops import BaseCrop, IntTriple, LabelScene, crop_name, pieces, share_text
from voco_cli.figures.style import FigurePage, bare, crop_colour, outline, write_corner, write_sides

GRID_COLOUR = "white"
SIDE_COLOUR = "#FFD34D"
AXIAL, CORONAL, SAGITTAL = (0, 1), (0, 2), (1, 2)
"""Planes by the axes that they show: across, up."""
SIDE_LETTERS = {AXIAL: "RLPA", CORONAL: "RLIS", SAGITTAL: "APIS"}
"""Sides of the patient at the left, right, lower and upper edge of a view."""
Plane = tuple[int, int]
Pair = tuple[float, float]


def box_mm(scene: LabelScene, plane: Plane, low: Sequence[float], size: Sequence[float]) -> tuple[Pair, Pair]:
    """Return lower corner and size in a plane, mm, of a box in the volume, voxels."""
    (left, wide), (bottom, high) = ((low[a] * scene.spacing_mm[a], size[a] * scene.spacing_mm[a]) for a in plane)
    return (left, bottom), (wide, high)


def show_part(
    ax: Axes,
    scene: LabelScene,
    plane: Plane,
    index: int,
    low: Sequence[int],
    size: Sequence[int],
    shift_mm: Pair = (0.0, 0.0),
) -> None:
    """Draw a box of one slice, voxels, where it lies in the volume, mm, or moved from there."""
    selection: list[Any] = [slice(low[axis], low[axis] + size[axis]) for axis in range(3)]
    selection[3 - sum(plane)] = index
    (left, bottom), (wide, high) = box_mm(scene, plane, low, size)
    left, bottom = left + shift_mm[0], bottom + shift_mm[1]
    ax.imshow(
        np.asarray(scene.volume_xyz[tuple(selection)], dtype=np.float32).T,
        cmap="gray",
        vmin=0,
        vmax=1,
        origin="lower",
        extent=(left, left + wide, bottom, bottom + high),
        aspect="equal",
        interpolation="nearest",
    )


def show_plane(ax: Axes, scene: LabelScene, plane: Plane, index: int, low: Sequence[int], size: Sequence[int]) -> None:
    """Draw a box of one slice, voxels, and nothing else, from the upper left corner of the axes.

    The axis across runs backwards: patient's right at the left of an axial or coronal view, front at the left of a
    sagittal one.
    """
    show_part(ax, scene, plane, index, low, size)
    (left, bottom), (wide, high) = box_mm(scene, plane, low, size)
    ax.set_xlim(left + wide, left)
    ax.set_ylim(bottom, bottom + high)
    ax.set_anchor("NW")
    bare(ax)


def draw_view(ax: Axes, scene: LabelScene, plane: Plane, index: int, crops: Sequence[int] | None = None) -> None:
    """Draw a whole slice, what lies outside the grid dimmed, with grid, random crops and the patient's sides.

    Args:
        crops: random crops that are shown; none is all.
    """
    show_plane(ax, scene, plane, index, (0, 0, 0), scene.volume_xyz.shape)
    _dim_outside(ax, scene, plane)
    _draw_grid(ax, scene, plane)
    for crop in range(len(scene.starts_S3)) if crops is None else crops:
        _draw_crop_box(ax, scene, plane, crop)
    draw_sides(ax, plane)


def draw_sides(ax: Axes, plane: Plane) -> None:
    """Write the letters of the patient's sides at the edges of a view."""
    write_sides(ax, SIDE_LETTERS[plane], 7, SIDE_COLOUR, zorder=6)


def name_slice(ax: Axes, plane: Plane, text: str) -> None:
    """Write which slice a view shows into a corner on the right.

    It is the upper one where boxes of crops reach down to the lower edge with their names, the lower one in an axial
    view, where base crops have their numbers at the top.
    """
    write_corner(ax, text, 6, "bottom" if plane == AXIAL else "top", zorder=6)


def number_base_crop(ax: Axes, scene: LabelScene, base: BaseCrop, size: float, shift_mm: Pair = (0.0, 0.0)) -> None:
    """Write the number of a base crop into its upper left corner of an axial view."""
    (left, bottom), (wide, high) = box_mm(scene, AXIAL, base.start, scene.base_size)
    at = (left + 0.96 * wide + shift_mm[0], bottom + 0.95 * high + shift_mm[1])
    ax.text(*at, str(base.number), color="white", size=size, va="top", path_effects=outline())


def frame_base_crop(ax: Axes, scene: LabelScene, base: BaseCrop, colour: str) -> None:
    """Draw a frame around a base crop in an axial view."""
    corner, size = box_mm(scene, AXIAL, base.start, scene.base_size)
    ax.add_patch(Rectangle(corner, *size, fill=False, edgecolor=colour, linewidth=1.8))


def mark_shares(ax: Axes, scene: LabelScene, layer: int, size: float) -> None:
    """Write each random crop's shares in the base crops of a layer into an axial view, where there is room."""
    _, (base_wide, base_high) = box_mm(scene, AXIAL, scene.region_start, scene.base_size)
    for crop in range(len(scene.starts_S3)):
        looks: dict[str, Any] = {"color": crop_colour(crop), "weight": "bold", "size": size}
        for piece in pieces(scene, crop):
            (left, bottom), (wide, high) = box_mm(scene, AXIAL, piece.low, piece.size)
            if piece.base.place[2] == layer and wide > 0.3 * base_wide and high > 0.15 * base_high:
                at = (left + wide / 2, bottom + high / 2)
                ax.text(*at, share_text(piece.share), ha="center", va="center", path_effects=outline(), **looks)


def _dim_outside(ax: Axes, scene: LabelScene, plane: Plane) -> None:
    """Lay a veil over what the base crops do not cover."""
    (left, bottom), (wide, high) = box_mm(scene, plane, scene.region_start, scene.region_size)
    across, up = (scene.extent_mm[axis] for axis in plane)
    for x, y, width, height in (
        (0, 0, left, up),
        (left + wide, 0, across - left - wide, up),
        (left, 0, wide, bottom),
        (left, bottom + high, wide, up - bottom - high),
    ):
        if width > 0 and height > 0:
            ax.add_patch(Rectangle((x, y), width, height, facecolor="black", alpha=0.55, linewidth=0))


def _draw_grid(ax: Axes, scene: LabelScene, plane: Plane) -> None:
    (left, bottom), (wide, high) = box_mm(scene, plane, scene.region_start, scene.base_size)
    for column, row in np.ndindex(scene.grid[plane[0]], scene.grid[plane[1]]):
        corner = (left + column * wide, bottom + row * high)
        ax.add_patch(Rectangle(corner, wide, high, fill=False, edgecolor=GRID_COLOUR, linewidth=0.7, alpha=0.85))


def _draw_crop_box(ax: Axes, scene: LabelScene, plane: Plane, crop: int) -> None:
    start: NDArray[np.int64] = scene.starts_S3[crop]
    (left, bottom), (wide, high) = box_mm(scene, plane, start.tolist(), scene.crop_size)
    colour = crop_colour(crop)
    looks: dict[str, Any] = {"edgecolor": colour, "linewidth": 1.8, "path_effects": outline(2.8)}
    ax.add_patch(Rectangle((left, bottom), wide, high, fill=False, clip_on=False, zorder=4, **looks))
    # The name sits at the lower left corner of the box; the axis across runs backwards.
    tag = {"facecolor": colour, "edgecolor": "black", "linewidth": 0.5, "boxstyle": "square,pad=0.18"}
    ax.text(left + wide, bottom, crop_name(crop), size=7, weight="bold", color="black", va="bottom", bbox=tag, zorder=5)


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
