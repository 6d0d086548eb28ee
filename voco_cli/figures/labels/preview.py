"""One picture that explains volume contrast on one scan: base grid, base crops, random crops, position labels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from voco_cli.figures.labels import panels
from voco_cli.figures.labels.scene import LabelScene, cells, crop_name, crop_title, layer_slices, summary_line, times
from voco_cli.figures.page import Page
from voco_cli.figures.style import FAINT, INK, crop_colour, figure_style, safe_text

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
        panels.draw_view(view, scene, panels.AXIAL, index)
        for cell in cells(scene):
            if cell.place[2] == layer:
                panels.number_cell(view, scene, cell, 8)
        if len(scene.starts_S3) <= 3:
            panels.mark_shares(view, scene, layer, 8)
        panels.name_slice(view, f"slice {index}")
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
        panels.show_plane(ax, scene, panels.AXIAL, index, cell.start, end)
        panels.number_cell(ax, scene, cell, 7)


def _place_upright_views(page: Page, scene: LabelScene, sizes: _Sizes) -> None:
    x_mm, y_mm, z_mm = (extent * sizes.upright_scale for extent in scene.extent_mm)
    middle = np.asarray(scene.region_start) + np.asarray(scene.region_size) // 2
    page.text(MARGIN_IN, page.top, "3  The same from front and left", 9, "bold")
    top = page.top + HEADING_IN
    for name, plane, width in (("coronal", panels.CORONAL, x_mm), ("sagittal", panels.SAGITTAL, y_mm)):
        index = int(middle[3 - sum(plane)])
        view = page.axes(MARGIN_IN, top, width, z_mm)
        panels.draw_view(view, scene, plane, index)
        panels.name_slice(view, f"{name} {index}")
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
            panels.draw_shares(ax, scene, crop, layer, 6.5)
            if len(layers) > 1 and crop == shown - 1:
                ax.text(0.5, -0.04, f"layer {layer + 1}", transform=ax.transAxes, ha="center", va="top", size=6)
        bars = page.axes(bars_left, top + 0.1, WIDTH_IN - MARGIN_IN - bars_left, row - 0.4)
        panels.draw_bars(bars, scene, crop, crop == shown - 1)


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
        panels.draw_network_crop(
            page.axes(left, top, width, height), crop, 1.0, crop_colour(number) if random else None
        )
        page.text(left, top + height + 0.03, name, 6.5, "bold")
        page.text(left + 0.17, top + height + 0.03, caption, 6)
