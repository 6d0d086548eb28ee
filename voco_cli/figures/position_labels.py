"""One picture that explains volume contrast on one scan: base grid, base crops, random crops, position labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from voco_cli.figures.crops import (
    Cell,
    LabelScene,
    Piece,
    cells,
    crop_name,
    crop_title,
    layer_slices,
    pieces,
    share_text,
    summary_line,
    times,
)
from voco_cli.figures.style import FAINT, INK, Page, crop_colour, figure_style, outline, safe_text

GRID_COLOUR = "white"
AXIAL, CORONAL, SAGITTAL = (0, 1), (0, 2), (1, 2)
"""Planes by the axes that they show: across, up."""

Plane = tuple[int, int]
Pair = tuple[float, float]


def show_plane(ax: Axes, scene: LabelScene, plane: Plane, index: int, low: Sequence[int], high: Sequence[int]) -> None:
    """Draw the part [low, high) of one slice, voxels, in mm of the volume.

    The axis across runs backwards: patient's right at the left of an axial or coronal view, front at the left of a
    sagittal one.
    """
    across, up = plane
    selection: list[Any] = [slice(low[axis], high[axis]) for axis in range(3)]
    selection[3 - across - up] = index
    (left, right), (bottom, top) = ((low[a] * scene.spacing_mm[a], high[a] * scene.spacing_mm[a]) for a in plane)
    ax.imshow(
        np.asarray(scene.volume_xyz[tuple(selection)], dtype=np.float32).T,
        cmap="gray",
        vmin=0,
        vmax=1,
        origin="lower",
        extent=(left, right, bottom, top),
        aspect="equal",
        interpolation="nearest",
    )
    ax.set_xlim(right, left)
    ax.set_ylim(bottom, top)
    bare(ax)


def name_slice(ax: Axes, text: str) -> None:
    """Which slice a view shows, in its lower right corner."""
    ax.text(
        0.99, 0.01, text, transform=ax.transAxes, ha="right", va="bottom", size=6, color="white", zorder=6
    ).set_path_effects(outline())


def bare(ax: Axes) -> None:
    """Take ticks and frame away."""
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)


def draw_view(ax: Axes, scene: LabelScene, plane: Plane, index: int, crops: Sequence[int] | None = None) -> None:
    """One whole slice with what lies outside the grid dimmed, the grid, the random crops and the patient's sides.

    Args:
        crops: random crops that are shown; none is all.
    """
    show_plane(ax, scene, plane, index, (0, 0, 0), scene.volume_xyz.shape)
    _dim_outside(ax, scene, plane)
    _draw_grid(ax, scene, plane)
    for crop in range(len(scene.starts_S3)) if crops is None else crops:
        _draw_crop_box(ax, scene, plane, crop, scene.starts_S3[crop])
    draw_sides(ax, plane)


def number_cell(ax: Axes, scene: LabelScene, cell: Cell, size: float) -> None:
    """Number of a base crop, in its upper left corner of an axial view."""
    left = (cell.start[0] + 0.96 * scene.base_size[0]) * scene.spacing_mm[0]
    top = (cell.start[1] + 0.95 * scene.base_size[1]) * scene.spacing_mm[1]
    ax.text(left, top, str(cell.number), color="white", size=size, va="top", path_effects=outline())


def mark_shares(ax: Axes, scene: LabelScene, layer: int, size: float) -> None:
    """In an axial view, each random crop's shares in the base crops of a layer, in the crop's colour."""
    for crop in range(len(scene.starts_S3)):
        for piece in pieces(scene, crop):
            corner, extent = box_mm(scene, AXIAL, piece.low, piece.high)
            roomy = extent[0] > 0.3 * scene.base_size[0] * scene.spacing_mm[0] and extent[1] > 0.15 * (
                scene.base_size[1] * scene.spacing_mm[1]
            )
            if piece.cell.place[2] == layer and roomy:
                ax.text(
                    corner[0] + extent[0] / 2,
                    corner[1] + extent[1] / 2,
                    share_text(piece.share),
                    color=crop_colour(crop),
                    size=size,
                    weight="bold",
                    ha="center",
                    va="center",
                    path_effects=outline(),
                )


def draw_shares(ax: Axes, scene: LabelScene, crop: int, layer: int, size: float) -> None:
    """A random crop, seen from below in one layer of the grid: cut along the grid, each piece with its base's share."""
    inside = [piece for piece in pieces(scene, crop) if piece.cell.place[2] == layer]
    if not inside:
        bare(ax)
        ax.text(
            0.5, 0.5, "none in\nthis layer", transform=ax.transAxes, ha="center", va="center", color=FAINT, size=6.5
        )
        return
    low, high = scene.starts_S3[crop], scene.starts_S3[crop] + np.asarray(scene.crop_size)
    middle = (inside[0].low[2] + inside[0].high[2]) // 2
    show_plane(ax, scene, AXIAL, middle, low, high)
    for piece in inside:
        _draw_piece(ax, scene, piece, crop, size)
    _frame(ax, crop_colour(crop))


def draw_bars(ax: Axes, scene: LabelScene, crop: int, last: bool) -> None:
    """The label of a random crop: one bar a base crop."""
    label_K = scene.labels_SK[crop]
    numbers = np.arange(1, label_K.size + 1)
    crowded = label_K.size > 20
    turn, size = (90, 5.5) if crowded else (0, 6.5)
    ax.bar(numbers, label_K, width=0.72, color=crop_colour(crop), edgecolor=INK, linewidth=0.4)
    for number, value in zip(numbers, label_K, strict=True):
        if value > 0:
            text = f"{value:.2f}" if value >= 0.005 else "<.01"
            ax.text(number, value + 0.03, text, ha="center", va="bottom", size=size, rotation=turn)
    ax.set_xlim(0.3, label_K.size + 0.7)
    ax.set_ylim(0, 1.12)
    ax.set_yticks([0, 0.5, 1])
    ax.set_xticks(numbers[:: int(np.ceil(label_K.size / 36))])
    ax.tick_params(labelsize=6.5, length=2, pad=1.5)
    ax.tick_params(axis="x", labelsize=size, labelrotation=turn)
    ax.spines[["top", "right"]].set_visible(False)
    ax.text(1.0, 1.0, f"sum {label_K.sum():.3f}", transform=ax.transAxes, ha="right", va="top", size=6.5, color=INK)
    if last:
        ax.set_xlabel("base crop", size=7, labelpad=1.5)


def draw_network_crop(ax: Axes, crop_XYZ: NDArray[np.float32], aspect: float, colour: str | None) -> None:
    """The middle slice of a crop as the network gets it, in the orientation of the other panels."""
    middle = crop_XYZ[::-1, :, crop_XYZ.shape[2] // 2].T
    ax.imshow(middle, cmap="gray", vmin=0, vmax=1, origin="lower", aspect=aspect, interpolation="nearest")
    bare(ax)
    if colour:
        _frame(ax, colour)


def _frame(ax: Axes, colour: str) -> None:
    for spine in ax.spines.values():
        spine.set_visible(True)
        spine.set_color(colour)
        spine.set_linewidth(2.0)


def box_mm(scene: LabelScene, plane: Plane, low: Sequence[float], high: Sequence[float]) -> tuple[Pair, Pair]:
    """Lower corner and size of a box in a plane, mm."""
    (left, right), (bottom, top) = (
        (low[axis] * scene.spacing_mm[axis], high[axis] * scene.spacing_mm[axis]) for axis in plane
    )
    return (left, bottom), (right - left, top - bottom)


def _dim_outside(ax: Axes, scene: LabelScene, plane: Plane) -> None:
    """A veil over what the base crops do not cover."""
    shape, start = scene.volume_xyz.shape, scene.region_start
    a, b = plane
    end = [start[axis] + scene.region_size[axis] for axis in range(3)]
    strips = (
        ((0, 0), (start[a], shape[b])),
        ((end[a], 0), (shape[a], shape[b])),
        ((start[a], 0), (end[a], start[b])),
        ((start[a], end[b]), (end[a], shape[b])),
    )
    step = (scene.spacing_mm[a], scene.spacing_mm[b])
    for low, high in strips:
        width, height = (high[0] - low[0]) * step[0], (high[1] - low[1]) * step[1]
        if width > 0 and height > 0:
            corner = (low[0] * step[0], low[1] * step[1])
            ax.add_patch(Rectangle(corner, width, height, facecolor="black", alpha=0.55, linewidth=0))


def _draw_grid(ax: Axes, scene: LabelScene, plane: Plane) -> None:
    for across in range(scene.grid[plane[0]]):
        for up in range(scene.grid[plane[1]]):
            low = list(scene.region_start)
            low[plane[0]] += across * scene.base_size[plane[0]]
            low[plane[1]] += up * scene.base_size[plane[1]]
            corner, size = box_mm(scene, plane, low, [a + b for a, b in zip(low, scene.base_size, strict=True)])
            ax.add_patch(Rectangle(corner, *size, fill=False, edgecolor=GRID_COLOUR, linewidth=0.7, alpha=0.85))


def _draw_crop_box(ax: Axes, scene: LabelScene, plane: Plane, crop: int, start: NDArray[np.int64]) -> None:
    corner, size = box_mm(scene, plane, start.tolist(), (start + np.asarray(scene.crop_size)).tolist())
    colour = crop_colour(crop)
    ax.add_patch(
        Rectangle(
            corner,
            *size,
            fill=False,
            edgecolor=colour,
            linewidth=1.8,
            path_effects=outline(2.8),
            clip_on=False,
            zorder=4,
        )
    )
    # The name sits at the lower left corner of the box; the axis across runs backwards.
    tag = {"facecolor": colour, "edgecolor": "black", "linewidth": 0.5, "boxstyle": "square,pad=0.18"}
    at = (corner[0] + size[0], corner[1])
    ax.text(*at, crop_name(crop), size=7, weight="bold", color="black", va="bottom", bbox=tag, zorder=5)


def _draw_piece(ax: Axes, scene: LabelScene, piece: Piece, crop: int, size: float) -> None:
    corner, extent = box_mm(scene, AXIAL, piece.low, piece.high)
    ax.add_patch(Rectangle(corner, *extent, fill=False, edgecolor=GRID_COLOUR, linewidth=1.0))
    ax.add_patch(Rectangle(corner, *extent, facecolor=crop_colour(crop), alpha=0.2 * piece.share, linewidth=0))
    wide, high = (extent[i] / (scene.crop_size[axis] * scene.spacing_mm[axis]) for i, axis in enumerate(AXIAL))
    # A sliver holds no text: its share is read off the bars.
    if wide > 0.22 and high > 0.22:
        text = f"{piece.cell.number}\n{share_text(piece.share)}"
    elif wide > 0.33 and high > 0.11:
        text = f"{piece.cell.number}: {share_text(piece.share)}"
    else:
        return
    middle = (corner[0] + extent[0] / 2, corner[1] + extent[1] / 2)
    ax.text(*middle, text, color="white", size=size, ha="center", va="center", path_effects=outline(), linespacing=1.0)


def draw_sides(ax: Axes, plane: Plane) -> None:
    """Letters of the patient's sides at the edges of a view."""
    left, right, bottom, top = {
        AXIAL: ("R", "L", "P", "A"),
        CORONAL: ("R", "L", "I", "S"),
        SAGITTAL: ("A", "P", "I", "S"),
    }[plane]
    for x, y, letter in ((0.015, 0.54, left), (0.985, 0.54, right), (0.47, 0.015, bottom), (0.47, 0.985, top)):
        side = "left" if x < 0.1 else "right" if x > 0.9 else "center"
        edge = "bottom" if y < 0.1 else "top" if y > 0.9 else "center"
        ax.text(
            x,
            y,
            letter,
            transform=ax.transAxes,
            color="#FFD34D",
            size=7,
            ha=side,
            va=edge,
            path_effects=outline(),
            zorder=6,
        )


WIDTH_IN = 10.0
MARGIN_IN = 0.3
GAP_IN = 0.3
HEADING_IN = 0.26
CROP_ROW_IN = (1.42, 1.9)
"""Least and largest height of the row of a random crop."""
UPRIGHT_IN = (2.7, 3.8)
"""Width and height that the coronal and sagittal view together may take."""
AXIAL_HEIGHT_IN = 7.2
"""What all axial layers together may take of the page."""
MOST_LAYERS, MOST_CROPS, MOST_NETWORK, MOST_COLUMNS = 4, 8, 60, 11
DPI = 200


def draw_label_preview(scene: LabelScene, path: Path) -> None:
    """Write the picture of ``scene``; the format follows the suffix (png, pdf, svg).

    At most ``MOST_LAYERS`` layers of the grid, ``MOST_CROPS`` random crops and ``MOST_NETWORK`` augmented ones are
    drawn; the picture says so.

    Raises:
        ResourceError: the file cannot be written.
    """
    with figure_style():
        _compose(scene).save(path, DPI)


@dataclass(frozen=True)
class _Sizes:
    """Inches per mm of the axial and of the upright views, and the heights of the page's parts."""

    axial_scale: float
    upright_scale: float
    header: float
    axial: float
    crop_row: float
    labels: float
    network: float

    @property
    def page(self) -> float:
        return 2 * MARGIN_IN + self.header + self.axial + self.labels + self.network


def _measure(scene: LabelScene) -> _Sizes:
    x_mm, y_mm, z_mm = scene.extent_mm
    column = (WIDTH_IN - 2 * MARGIN_IN - GAP_IN) / 2
    layers = min(scene.grid[2], MOST_LAYERS)
    axial_scale = min(column / x_mm, AXIAL_HEIGHT_IN / layers / y_mm)
    axial = HEADING_IN + layers * (y_mm * axial_scale + 0.12) + 0.12
    crops = min(len(scene.starts_S3), MOST_CROPS)
    crop_row = float(np.clip(UPRIGHT_IN[1] / crops, *CROP_ROW_IN))
    # Coronal and sagittal share one scale, one above the other, beside the rows of random crops.
    room = max(crops * crop_row, UPRIGHT_IN[1]) - 0.15
    upright_scale = min(UPRIGHT_IN[0] / max(x_mm, y_mm), room / (2 * z_mm))
    labels = HEADING_IN + max(crops * crop_row, 2 * z_mm * upright_scale + 0.15) + 0.15
    network = 0.0
    if scene.augmented is not None:
        count = min(len(scene.augmented.captions), MOST_NETWORK)
        network = HEADING_IN + math.ceil(count / _network_columns(count)) * _network_row_in(scene, count) + 0.1
    return _Sizes(axial_scale, upright_scale, 0.75, axial, crop_row, labels, network)


def _compose(scene: LabelScene) -> Page:
    sizes = _measure(scene)
    page = Page(WIDTH_IN, sizes.page, MARGIN_IN)
    page.text(MARGIN_IN, page.top, f"Position labels of {safe_text(scene.name, 60)}", 13, "bold")
    page.text(MARGIN_IN, page.top + 0.29, safe_text(summary_line(scene), 165), 7.5, colour=FAINT)
    page.top += sizes.header - 0.15
    _place_layers(page, scene, sizes)
    page.top = MARGIN_IN + sizes.header + sizes.axial
    _place_upright_views(page, scene, sizes)
    _place_labels(page, scene, sizes.crop_row)
    if scene.augmented is not None:
        page.top = MARGIN_IN + sizes.header + sizes.axial + sizes.labels
        _place_network_crops(page, scene)
    return page


def _place_layers(page: Page, scene: LabelScene, sizes: _Sizes) -> None:
    """For each layer of the grid: the axial view with grid and crops, and beside it the base crops pulled apart."""
    x_mm, y_mm, _ = scene.extent_mm
    width, height = x_mm * sizes.axial_scale, y_mm * sizes.axial_scale
    right = MARGIN_IN + (WIDTH_IN - 2 * MARGIN_IN + GAP_IN) / 2
    count = int(np.prod(scene.grid))
    shown = layer_slices(scene)[:MOST_LAYERS]
    left_out = scene.grid[2] - len(shown)
    note = f" ({left_out} more layers not drawn)" if left_out else ""
    page.text(MARGIN_IN, page.top, f"1  A grid of {count} base crops, and random crops r1, r2, …{note}", 9, "bold")
    page.text(right, page.top, f"2  The base crops, numbered 1 to {count}", 9, "bold")
    for layer, index in reversed(list(enumerate(shown))):  # the layer nearest to the head on top
        row = len(shown) - 1 - layer
        top = page.top + HEADING_IN + row * (height + 0.12)
        view = page.axes(MARGIN_IN, top, width, height)
        draw_view(view, scene, AXIAL, index)
        for cell in cells(scene):
            if cell.place[2] == layer:
                number_cell(view, scene, cell, 8)
        if len(scene.starts_S3) <= 3:
            mark_shares(view, scene, layer, 8)
        name_slice(view, f"slice {index}")
        _place_thumbnails(page, scene, layer, index, (right, top, width, height))


def _place_thumbnails(
    page: Page, scene: LabelScene, layer: int, index: int, box: tuple[float, float, float, float]
) -> None:
    """Base crops of a layer as they lie in the patient, with gaps between them."""
    left, top, width, height = box
    nx, ny, _ = scene.grid
    gap = min(0.08, 0.25 * width / nx)
    # Thumbnails fill the height or width of the view, whichever ends first, in the true proportions of a base crop.
    x_mm, y_mm = (scene.base_size[axis] * scene.spacing_mm[axis] for axis in (0, 1))
    scale = min((width - (nx - 1) * gap) / (nx * x_mm), (height - (ny - 1) * gap) / (ny * y_mm))
    cell_width, cell_height = x_mm * scale, y_mm * scale
    for cell in cells(scene):
        if cell.place[2] != layer:
            continue
        column, row = nx - 1 - cell.place[0], ny - 1 - cell.place[1]
        at = (left + column * (cell_width + gap), top + row * (cell_height + gap))
        ax = page.axes(*at, cell_width, cell_height)
        end = [start + edge for start, edge in zip(cell.start, scene.base_size, strict=True)]
        show_plane(ax, scene, AXIAL, index, cell.start, end)
        number_cell(ax, scene, cell, 7)


def _place_upright_views(page: Page, scene: LabelScene, sizes: _Sizes) -> None:
    x_mm, y_mm, z_mm = (extent * sizes.upright_scale for extent in scene.extent_mm)
    middle = np.asarray(scene.region_start) + np.asarray(scene.region_size) // 2
    page.text(MARGIN_IN, page.top, "3  The same from front and left", 9, "bold")
    top = page.top + HEADING_IN
    for name, plane, width in (("coronal", CORONAL, x_mm), ("sagittal", SAGITTAL, y_mm)):
        index = int(middle[3 - sum(plane)])
        view = page.axes(MARGIN_IN, top, width, z_mm)
        draw_view(view, scene, plane, index)
        name_slice(view, f"{name} {index}")
        top += z_mm + 0.12


def _place_labels(page: Page, scene: LabelScene, row: float) -> None:
    """One row a random crop: the crop cut along the grid, and its label as bars."""
    left = MARGIN_IN + 3.25
    total = len(scene.starts_S3)
    shown = min(total, MOST_CROPS)
    note = f" ({shown} of {total} drawn)" if shown < total else ""
    page.text(left, page.top, f"4  Label of a random crop = its share in each base crop{note}", 9, "bold")
    layers = [layer for layer in range(scene.grid[2]) if any(_reaches(scene, crop, layer) for crop in range(shown))]
    tile, step = _tile_in(scene, len(layers), row)
    bars_left = left + len(layers) * step + 0.35
    for crop in range(shown):
        top = page.top + HEADING_IN + crop * row
        page.text(left, top, crop_title(scene, crop), 7, "bold", INK)
        for place, layer in enumerate(reversed(layers)):
            ax = page.axes(left + place * step, top + 0.17, *tile)
            draw_shares(ax, scene, crop, layer, 6.5)
            if len(layers) > 1 and crop == shown - 1:
                ax.text(0.5, -0.04, f"layer {layer + 1}", transform=ax.transAxes, ha="center", va="top", size=6)
        bars = page.axes(bars_left, top + 0.1, WIDTH_IN - MARGIN_IN - bars_left, row - 0.4)
        draw_bars(bars, scene, crop, crop == shown - 1)


def _reaches(scene: LabelScene, crop: int, layer: int) -> bool:
    low = scene.region_start[2] + layer * scene.base_size[2]
    start = int(scene.starts_S3[crop][2])
    return start < low + scene.base_size[2] and start + scene.crop_size[2] > low


def _tile_in(scene: LabelScene, count: int, row: float) -> tuple[tuple[float, float], float]:
    """Width and height of a drawn random crop, and the distance from one to the next, inches."""
    x_mm, y_mm = (scene.crop_size[axis] * scene.spacing_mm[axis] for axis in (0, 1))
    scale = min((row - 0.3) / y_mm, min(1.9, 3.2 / count) / x_mm)
    return (x_mm * scale, y_mm * scale), x_mm * scale + 0.1


def _network_columns(count: int) -> int:
    """As few rows as fit, filled evenly."""
    return math.ceil(count / math.ceil(count / MOST_COLUMNS))


def _network_row_in(scene: LabelScene, count: int) -> float:
    step = (WIDTH_IN - 2 * MARGIN_IN) / _network_columns(count)
    return 0.9 * step * _network_aspect(scene) + 0.32


def _network_aspect(scene: LabelScene) -> float:
    """Height over width of a crop as the network gets it: in voxels, since a quarter turn mixes the spacings."""
    assert scene.augmented is not None
    _, x, y, _ = scene.augmented.crops_NXYZ.shape
    return float(y / x)


def _place_network_crops(page: Page, scene: LabelScene) -> None:
    assert scene.augmented is not None
    crops = scene.augmented.crops_NXYZ[:MOST_NETWORK]
    captions = scene.augmented.captions[:MOST_NETWORK]
    size = times(crops.shape[1:])
    heading = f"5  What the network gets: {size} voxels, drawn in voxels, after window, flips, turns, resize and shift"
    if len(captions) < len(scene.augmented.captions):
        heading += f" ({len(captions)} of {len(scene.augmented.captions)} crops)"
    page.text(MARGIN_IN, page.top, heading, 9, "bold")
    columns = _network_columns(len(captions))
    step = (WIDTH_IN - 2 * MARGIN_IN) / columns
    width, height = 0.9 * step, 0.9 * step * _network_aspect(scene)
    num_random = len(scene.starts_S3)
    for number, (crop, caption) in enumerate(zip(crops, captions, strict=True)):
        row, column = divmod(number, columns)
        left = MARGIN_IN + column * step
        top = page.top + HEADING_IN + row * _network_row_in(scene, len(captions))
        random = number < num_random
        name = crop_name(number) if random else str(number - num_random + 1)
        draw_network_crop(page.axes(left, top, width, height), crop, 1.0, crop_colour(number) if random else None)
        page.text(left, top + height + 0.03, name, 6.5, "bold")
        page.text(left + 0.17, top + height + 0.03, caption, 6)
