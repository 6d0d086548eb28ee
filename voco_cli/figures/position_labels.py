"""Draw one picture that explains volume contrast on one scan: base grid, base crops, random crops, position labels."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from voco_cli.figures.crops import (
    AugmentedCrops,
    LabelScene,
    Piece,
    base_crops,
    crop_name,
    crop_title,
    layer_slices,
    pieces,
    share_text,
    summary_line,
    times,
)
from voco_cli.figures.scan_views import (
    AXIAL,
    CORONAL,
    GRID_COLOUR,
    SAGITTAL,
    box_mm,
    draw_view,
    mark_shares,
    name_slice,
    number_base_crop,
    show_part,
    show_plane,
)
from voco_cli.figures.style import FAINT, INK, FigurePage, bare, crop_colour, figure_style, outline, safe_text

WIDTH_IN, MARGIN_IN = 10.0, 0.3
ROOM_IN = WIDTH_IN - 2 * MARGIN_IN
HEADER_IN, HEADING_IN, GAP_IN = 0.6, 0.26, 0.12
COLUMN_IN = (ROOM_IN - 0.3) / 2
"""Width of the axial views, and of the base crops beside them."""
AXIAL_HEIGHT_IN = 7.2
"""All axial layers together are no higher than this."""
UPRIGHT_IN = (2.7, 3.8)
"""The coronal and the sagittal view together are no wider and no higher than this."""
LABELS_LEFT_IN = MARGIN_IN + 3.25
CROP_ROW_IN = (1.42, 1.9)
"""Least and largest height of the row of a random crop."""
TITLE_IN = 0.38
"""Of such a row, what its title and the numbers under its bars take."""
TILE_IN, TILES_IN = 1.9, 3.2
"""A drawn random crop is no wider than this, and all its layers together."""
NETWORK_CAPTION_IN = 0.32
MOST_LAYERS, MOST_CROPS, MOST_NETWORK, MOST_COLUMNS = 4, 8, 60, 11
CROWDED = 20
"""Bars whose numbers have no room side by side."""
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


def _compose(scene: LabelScene) -> FigurePage:
    x_mm, y_mm, z_mm = scene.extent_mm
    layers = min(scene.grid[2], MOST_LAYERS)
    view_in = min(COLUMN_IN * y_mm / x_mm, AXIAL_HEIGHT_IN / layers)
    axial_in = HEADING_IN + layers * (view_in + GAP_IN) + 0.2
    crops = min(len(scene.starts_S3), MOST_CROPS)
    row_in = float(np.clip(UPRIGHT_IN[1] / crops, *CROP_ROW_IN))
    # Coronal and sagittal view share one scale, one above the other, beside the rows of random crops.
    scale = min(UPRIGHT_IN[0] / max(x_mm, y_mm), (max(crops * row_in, UPRIGHT_IN[1]) - GAP_IN) / (2 * z_mm))
    upright_in = 2 * z_mm * scale + GAP_IN
    labels_in = HEADING_IN + max(crops * row_in, upright_in) + 0.15
    network_in = 0.0
    if scene.augmented is not None:
        rows, _, _, crop_in = _network_grid(scene.augmented.crops_NXYZ)
        network_in = HEADING_IN + rows * (crop_in + NETWORK_CAPTION_IN)
    top = MARGIN_IN + HEADER_IN
    page = FigurePage(WIDTH_IN, top + axial_in + labels_in + network_in + MARGIN_IN)
    page.text(MARGIN_IN, MARGIN_IN, f"Position labels of {safe_text(scene.name, 60)}", 13, weight="bold")
    page.text(MARGIN_IN, MARGIN_IN + 0.29, safe_text(summary_line(scene), 165), 7.5, color=FAINT)
    _draw_layers(page, scene, top, view_in)
    _draw_upright_views(page, scene, top + axial_in, (max(x_mm, y_mm) * scale, z_mm * scale))
    _draw_labels(page, scene, top + axial_in, row_in)
    if scene.augmented is not None:
        _draw_network_crops(page, scene.augmented, len(scene.starts_S3), top + axial_in + labels_in)
    return page


def _draw_layers(page: FigurePage, scene: LabelScene, top: float, view_in: float) -> None:
    """Draw for each layer of the grid the axial view with grid and crops, and beside it its base crops."""
    count, shown = int(np.prod(scene.grid)), layer_slices(scene)[:MOST_LAYERS]
    left_out = scene.grid[2] - len(shown)
    note = f" ({left_out} more layers not drawn)" if left_out else ""
    heading = f"1  A grid of {count} base crops, and random crops r1, r2, …{note}"
    page.text(MARGIN_IN, top, heading, 9, weight="bold")
    page.text(WIDTH_IN - MARGIN_IN - COLUMN_IN, top, f"2  The base crops, numbered 1 to {count}", 9, weight="bold")
    gap = (ROOM_IN - 2 * COLUMN_IN, GAP_IN)
    grid = page.grid(MARGIN_IN, top + HEADING_IN, [COLUMN_IN] * 2, [view_in] * len(shown), gap)
    for row, (layer, index) in enumerate(reversed(list(enumerate(shown)))):  # the layer nearest to the head on top
        view = page.figure.add_subplot(grid[row, 0])
        draw_view(view, scene, AXIAL, index)
        for base in base_crops(scene, layer):
            number_base_crop(view, scene, base, 8)
        if len(scene.starts_S3) <= 3:
            mark_shares(view, scene, layer, 8)
        name_slice(view, AXIAL, f"slice {index}")
        _draw_base_crops(page.figure.add_subplot(grid[row, 1]), scene, layer, index)


def _draw_base_crops(ax: Axes, scene: LabelScene, layer: int, index: int) -> None:
    """Draw the base crops of a layer as they lie in the patient, with gaps between them."""
    (left, bottom), (wide, high) = box_mm(scene, AXIAL, scene.region_start, scene.region_size)
    gap = 0.02 * max(wide, high)
    for base in base_crops(scene, layer):
        shift = (base.place[0] * gap, base.place[1] * gap)
        show_part(ax, scene, AXIAL, index, base.start, scene.base_size, shift)
        number_base_crop(ax, scene, base, 7, shift)
    ax.set_xlim(left + wide + (scene.grid[0] - 1) * gap, left)
    ax.set_ylim(bottom, bottom + high + (scene.grid[1] - 1) * gap)
    ax.set_anchor("NW")
    bare(ax)


def _draw_upright_views(page: FigurePage, scene: LabelScene, top: float, size_in: tuple[float, float]) -> None:
    page.text(MARGIN_IN, top, "3  The same from front and left", 9, weight="bold")
    grid = page.grid(MARGIN_IN, top + HEADING_IN, [size_in[0]], [size_in[1]] * 2, (0.0, GAP_IN))
    for row, (name, plane) in enumerate((("coronal", CORONAL), ("sagittal", SAGITTAL))):
        across = 3 - sum(plane)
        index = scene.region_start[across] + scene.region_size[across] // 2
        view = page.figure.add_subplot(grid[row, 0])
        draw_view(view, scene, plane, index)
        name_slice(view, plane, f"{name} {index}")


def _draw_labels(page: FigurePage, scene: LabelScene, top: float, row_in: float) -> None:
    """Draw for each random crop a row: the crop cut along the grid, and its label as bars."""
    total = len(scene.starts_S3)
    shown = min(total, MOST_CROPS)
    note = f" ({shown} of {total} drawn)" if shown < total else ""
    page.text(LABELS_LEFT_IN, top, f"4  Label of a random crop = its share in each base crop{note}", 9, weight="bold")
    layers = sorted({piece.base.place[2] for crop in range(shown) for piece in pieces(scene, crop)}, reverse=True)
    _, (x_mm, y_mm) = box_mm(scene, AXIAL, (0, 0, 0), scene.crop_size)
    tile_in = min(x_mm * (row_in - TITLE_IN) / y_mm, TILE_IN, TILES_IN / len(layers))
    heights = [row_in - TITLE_IN] * shown
    tiles = page.grid(LABELS_LEFT_IN, top + HEADING_IN + 0.17, [tile_in] * len(layers), heights, (0.1, TITLE_IN))
    left = LABELS_LEFT_IN + len(layers) * (tile_in + 0.1) + 0.35
    bars = page.grid(left, top + HEADING_IN + 0.17, [WIDTH_IN - MARGIN_IN - left], heights, (0.0, TITLE_IN))
    for crop in range(shown):
        page.text(LABELS_LEFT_IN, top + HEADING_IN + crop * row_in, crop_title(scene, crop), 7, weight="bold")
        for column, layer in enumerate(layers):
            ax = page.figure.add_subplot(tiles[crop, column])
            draw_shares(ax, scene, crop, layer, 6.5)
            if len(layers) > 1 and crop == shown - 1:
                ax.set_xlabel(f"layer {layer + 1}", size=6, labelpad=2)
        draw_bars(page.figure.add_subplot(bars[crop, 0]), scene, crop, crop == shown - 1)


def draw_shares(ax: Axes, scene: LabelScene, crop: int, layer: int, size: float) -> None:
    """Draw a random crop, seen from below in one layer of the grid: cut along it, each piece with its share."""
    inside = [piece for piece in pieces(scene, crop) if piece.base.place[2] == layer]
    if not inside:
        bare(ax)
        words = "none in\nthis layer"
        ax.text(0.5, 0.5, words, transform=ax.transAxes, ha="center", va="center", color=FAINT, size=6.5)
        return
    middle = inside[0].low[2] + inside[0].size[2] // 2
    show_plane(ax, scene, AXIAL, middle, scene.starts_S3[crop].tolist(), scene.crop_size)
    for piece in inside:
        _draw_piece(ax, scene, piece, crop, size)
    _frame(ax, crop_colour(crop))


def _draw_piece(ax: Axes, scene: LabelScene, piece: Piece, crop: int, size: float) -> None:
    corner, (wide, high) = box_mm(scene, AXIAL, piece.low, piece.size)
    ax.add_patch(Rectangle(corner, wide, high, fill=False, edgecolor=GRID_COLOUR, linewidth=1.0))
    ax.add_patch(Rectangle(corner, wide, high, facecolor=crop_colour(crop), alpha=0.2 * piece.share, linewidth=0))
    across, up = (piece.size[axis] / scene.crop_size[axis] for axis in AXIAL)
    # A sliver holds no text: its share is read off the bars.
    if across > 0.22 and up > 0.22:
        text = f"{piece.base.number}\n{share_text(piece.share)}"
    elif across > 0.33 and up > 0.11:
        text = f"{piece.base.number}: {share_text(piece.share)}"
    else:
        return
    at = (corner[0] + wide / 2, corner[1] + high / 2)
    ax.text(*at, text, color="white", size=size, ha="center", va="center", path_effects=outline(), linespacing=1.0)


def draw_bars(ax: Axes, scene: LabelScene, crop: int, last: bool) -> None:
    """Draw the label of a random crop: one bar for each base crop."""
    label_K = scene.labels_SK[crop]
    numbers = np.arange(1, label_K.size + 1)
    turn, size = (90, 5.5) if label_K.size > CROWDED else (0, 6.5)
    ax.bar(numbers, label_K, width=0.72, color=crop_colour(crop), edgecolor=INK, linewidth=0.4)
    for number, value in zip(numbers, label_K, strict=True):
        if value > 0:
            text = f"{value:.2f}" if value >= 0.005 else "<.01"
            ax.text(number, value + 0.03, text, ha="center", va="bottom", size=size, rotation=turn)
    ax.set_xlim(0.3, label_K.size + 0.7)
    ax.set_ylim(0, 1.12)
    ax.set_yticks([0, 0.5, 1])
    ax.set_xticks(numbers[:: math.ceil(label_K.size / 36)])
    ax.tick_params(labelsize=6.5, length=2, pad=1.5)
    ax.tick_params(axis="x", labelsize=size, labelrotation=turn)
    ax.spines[["top", "right"]].set_visible(False)
    ax.text(1.0, 1.0, f"sum {label_K.sum():.3f}", transform=ax.transAxes, ha="right", va="bottom", size=6.5)
    if last:
        ax.set_xlabel("base crop", size=7, labelpad=1.5)


def _network_grid(crops_NXYZ: NDArray[np.float32]) -> tuple[int, int, float, float]:
    """Return rows, columns, width and height of crops as the network gets them: as few rows as fit, filled evenly.

    They are drawn in voxels, since a quarter turn mixes the spacings.
    """
    num, x, y, _ = crops_NXYZ.shape
    rows = math.ceil(min(num, MOST_NETWORK) / MOST_COLUMNS)
    columns = math.ceil(min(num, MOST_NETWORK) / rows)
    width = 0.9 * ROOM_IN / columns
    return rows, columns, width, width * y / x


def _draw_network_crops(page: FigurePage, augmented: AugmentedCrops, num_random: int, top: float) -> None:
    """Draw the middle slice of each crop as the network gets it, in the orientation of the other panels."""
    crops, total = augmented.crops_NXYZ[:MOST_NETWORK], len(augmented.captions)
    size = times(crops.shape[1:])
    heading = f"5  What the network gets: {size} voxels, drawn in voxels, after window, flips, turns, resize and shift"
    if len(crops) < total:
        heading += f" ({len(crops)} of {total} crops)"
    page.text(MARGIN_IN, top, heading, 9, weight="bold")
    rows, columns, width, height = _network_grid(crops)
    gap = (width / 9, NETWORK_CAPTION_IN)
    grid = page.grid(MARGIN_IN, top + HEADING_IN, [width] * columns, [height] * rows, gap)
    for number, crop in enumerate(crops):
        random = number < num_random
        ax = page.figure.add_subplot(grid[divmod(number, columns)])
        middle = crop[::-1, :, crop.shape[2] // 2].T
        ax.imshow(middle, cmap="gray", vmin=0, vmax=1, origin="lower", interpolation="nearest")
        bare(ax)
        if random:
            _frame(ax, crop_colour(number))
        name = crop_name(number) if random else str(number - num_random + 1)
        ax.text(0, -0.04, name, transform=ax.transAxes, size=6.5, weight="bold", va="top")
        beside = ((5 + 4 * len(name), 0), "axes fraction", "offset points")
        ax.annotate(augmented.captions[number], (0, -0.04), *beside, size=6, va="top")


def _frame(ax: Axes, colour: str) -> None:
    ax.spines[:].set(visible=True, color=colour, linewidth=2.0)
