"""Draw where a network believes crops to lie: crops of one scan (`voco locate`), and held-out crops at a validation.

S crops, K base crops. Labels and logits are drawn as heat maps over the base grid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.gridspec import SubplotSpec
from numpy.typing import NDArray

from voco_cli.figures.crops import (
    BaseCrop,
    IntTriple,
    LabelScene,
    base_crops,
    crop_name,
    layer_slices,
    spacing_text,
    times,
)
from voco_cli.figures.scan_views import (
    AXIAL,
    COLOURS,
    CORONAL,
    SCALE,
    box_mm,
    draw_heat_map,
    draw_scale,
    draw_sides,
    draw_view,
    frame_base_crop,
    name_slice,
    number_base_crop,
    show_plane,
    text_size,
    value_text,
)
from voco_cli.figures.style import FAINT, FigurePage, bare, crop_colour, figure_style, fitting, outline, safe_text
from voco_cli.objectives.voco.objective import LocatedCrop

MARK = "#D55E00"
LAYER_GAP_IN = 0.06


@dataclass(frozen=True)
class Answer:
    """What the network says of one crop; base crops count from 0.

    Attributes:
        crop: its index.
        centre: voxels of the preprocessed volume.
        likely: base crop with the largest logit.
        logit, label: of that base crop.
        true: base crop with the largest label.
        rank: 0-based rank of the true base crop.
    """

    crop: int
    centre: IntTriple
    likely: int
    logit: float
    label: float
    true: int
    rank: float


@dataclass(frozen=True)
class LocatedScan:
    """Crops of a scan and the logits over base crops.

    Attributes:
        run: folder of the network.
        step: optimizer steps that it was trained for.
        scene: the scan with its grid, crops and labels.
        target: the other scan whose base crops were asked about; None where they are the scan's own.
        logits_SK: predicted overlaps.
        ranks_S: 0-based rank of each crop's true base crop.
    """

    run: str
    step: int
    scene: LabelScene
    target: LabelScene | None
    logits_SK: NDArray[Any]
    ranks_S: NDArray[Any]

    @property
    def asked(self) -> LabelScene:
        """Return the scan whose base crops were asked about."""
        return self.target or self.scene

    @property
    def bases(self) -> list[BaseCrop]:
        """Return the base crops that were asked about."""
        return base_crops(self.asked)

    @property
    def mean_rank(self) -> float:
        """Return the mean rank over the crops."""
        return float(np.mean(self.ranks_S))

    @property
    def chance_rank(self) -> float:
        """Return the mean rank that guessing gives."""
        return (math.prod(self.asked.grid) - 1) / 2

    @property
    def answers(self) -> list[Answer]:
        """Return an answer for each crop."""
        found = []
        for crop, (logits_K, label_K) in enumerate(zip(self.logits_SK, self.scene.labels_SK, strict=True)):
            x, y, z = (int(n) for n in self.scene.starts_S3[crop] + np.asarray(self.scene.crop_size) // 2)
            likely, true = int(np.argmax(logits_K)), int(np.argmax(label_K.astype(np.float32)))
            rank = float(self.ranks_S[crop])
            found.append(Answer(crop, (x, y, z), likely, float(logits_K[likely]), float(label_K[likely]), true, rank))
        return found


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


DPI = 160
WIDTH_IN, MARGIN_IN, GAP_IN = 10.0, 0.3, 0.14
HEADER_IN, HEADING_IN, TITLE_IN = 0.62, 0.24, 0.2
VIEW_IN = (2.0, 1.85)
"""Largest width and height of a view of the body."""
ANSWER_IN, ANSWER_VIEW_IN = 4.45, (2.6, 2.1)
"""What the answers over the body and the labels together may take of the width, and largest size of an answer."""
LABEL_SHARE = 0.62
"""Width of a label's map, of that of an answer."""
KEY_IN = 0.3
SIDES_IN = 1.2
"""Views as wide as this have room for the letters of the patient's sides."""
NUMBERED_IN = 0.35
"""Cells as wide as this have room for their number beside the value."""
MOST_CROPS, MOST_LAYERS = 8, 4


def draw_located_scan(located: LocatedScan, path: Path) -> None:
    """Write the picture; the format follows the suffix. At most `MOST_CROPS` crops are drawn; the picture says so.

    Raises:
        ResourceError: the file cannot be written.
    """
    with figure_style():
        _compose_scan(located).save(path, DPI)


def _compose_scan(located: LocatedScan) -> FigurePage:
    scene, asked, answers = located.scene, located.asked, located.answers[:MOST_CROPS]
    columns = 1 if scene.grid[2] == 1 else 2
    rows = -(-min(scene.grid[2], MOST_LAYERS) // columns)
    gaps = (2 * columns - 1) * LAYER_GAP_IN
    answer_in = min(ANSWER_VIEW_IN[0], (ANSWER_IN - gaps) / (columns * (1 + LABEL_SHARE)))
    label_in = answer_in * LABEL_SHARE
    (_, axial), (_, coronal) = (box_mm(scene, plane, (0, 0, 0), scene.volume_xyz.shape) for plane in (AXIAL, CORONAL))
    views_in = max(min(VIEW_IN[1], VIEW_IN[0] * high / wide) for wide, high in (axial, coronal))
    layer_in = min(ANSWER_VIEW_IN[1], answer_in * asked.extent_mm[1] / asked.extent_mm[0])
    row_in = max(views_in, rows * (layer_in + LAYER_GAP_IN) - LAYER_GAP_IN)
    step_in = row_in + TITLE_IN + 0.12
    top = MARGIN_IN + HEADER_IN
    page = FigurePage(WIDTH_IN, top + HEADING_IN + len(answers) * step_in + 0.25)
    _write_header(page, located, len(answers))
    answers_in, labels_in = (columns * edge + (columns - 1) * LAYER_GAP_IN for edge in (answer_in, label_in))
    widths = [VIEW_IN[0], VIEW_IN[0] + GAP_IN, answers_in + LAYER_GAP_IN, labels_in]
    first = top + HEADING_IN + TITLE_IN
    grid = page.grid(MARGIN_IN, first, widths, [row_in] * len(answers), (GAP_IN, step_in - row_in))
    lefts = MARGIN_IN + np.cumsum([0, *widths[:-1]]) + GAP_IN * np.arange(4)
    for column, text in ((0, "1  Where it was cut"), (2, "2  Logits over the base crops"), (3, "3  Its label")):
        page.text(lefts[column], top, text, 8.5, weight="bold")
    for row, answer in enumerate(answers):
        page.text(MARGIN_IN, first - TITLE_IN + row * step_in, _answer_line(answer), 7, weight="bold")
        for column, (name, plane) in enumerate((("axial", AXIAL), ("coronal", CORONAL))):
            index = answer.centre[3 - sum(plane)]
            view = page.figure.add_subplot(grid[row, column])
            draw_view(view, scene, plane, index, [answer.crop])
            name_slice(view, plane, f"{name} {index}")
        for layer, view in _layer_axes(page, grid[row, 2], (rows, columns), scene.grid[2]):
            _draw_answer(view, located, answer, layer)
        _, cell_mm = box_mm(scene, AXIAL, (0, 0, 0), scene.base_size)
        for layer, ax in _layer_axes(page, grid[row, 3], (rows, columns), scene.grid[2]):
            label_K, colour = scene.labels_SK[answer.crop], crop_colour(answer.crop)
            draw_heat_map(ax, label_K, scene.grid, layer, cell_mm, answer.true, colour)
            ax.set_anchor("NW")
    draw_scale(page, WIDTH_IN - MARGIN_IN - KEY_IN, first, min(1.5, row_in))
    return page


def _layer_axes(page: FigurePage, cell: SubplotSpec, shape: tuple[int, int], num_layers: int) -> list[tuple[int, Axes]]:
    """Divide a cell among the layers of the grid that are drawn, the one nearest to the head first."""
    layers = list(reversed(range(num_layers)))[-MOST_LAYERS:]
    grid = cell.subgridspec(*shape, wspace=0.04, hspace=0.06)
    return [(layer, page.figure.add_subplot(grid[divmod(i, shape[1])])) for i, layer in enumerate(layers)]


def _write_header(page: FigurePage, located: LocatedScan, drawn: int) -> None:
    scene, total = located.scene, len(located.scene.starts_S3)
    where = f" in {safe_text(located.target.name, 36)}" if located.target else ""
    title = f"Where crops of {safe_text(scene.name, 36)} are believed to lie{where}"
    page.text(MARGIN_IN, MARGIN_IN, fitting(title, WIDTH_IN - 2 * MARGIN_IN, 12, "bold"), 12, weight="bold")
    parts = [
        f"{safe_text(located.run, 40)}, step {located.step}",
        f"mean rank {located.mean_rank:.2f} (0 is first, guessing {located.chance_rank:g})",
        f"crops {times(scene.crop_size)} voxels of {spacing_text(scene)} mm",
        "frame: the base crop that it overlaps most",
    ]
    if drawn < total:
        parts.append(f"{drawn} of {total} crops drawn")
    if scene.grid[2] > MOST_LAYERS:
        parts.append(f"{MOST_LAYERS} of {scene.grid[2]} layers drawn")
    page.text(MARGIN_IN, MARGIN_IN + 0.27, " · ".join(parts), 7, color=FAINT)


def _answer_line(answer: Answer) -> str:
    centre = ", ".join(map(str, answer.centre))
    return (
        f"{crop_name(answer.crop)}  centre ({centre})  ·  most likely base crop {answer.likely + 1}: logit "
        f"{answer.logit:.2f}, label {answer.label:.2f}  ·  true base crop {answer.true + 1}: rank {answer.rank:g}"
    )


def _draw_answer(ax: Axes, located: LocatedScan, answer: Answer, layer: int) -> None:
    """Draw the logits of one layer over the body: the colours are the more opaque the larger the logit."""
    asked = located.asked
    index = layer_slices(asked)[layer]
    show_plane(ax, asked, AXIAL, index, (0, 0, 0), asked.volume_xyz.shape)
    (left, bottom), (wide, high) = box_mm(asked, AXIAL, asked.region_start, asked.region_size)
    size = text_size(ax, round(asked.grid[0] * asked.extent_mm[0] / wide))
    width_in = ax.get_position().width * WIDTH_IN
    values_YX = np.asarray(located.logits_SK[answer.crop]).reshape(asked.grid)[:, :, layer].T
    colours = COLOURS(SCALE(values_YX))
    colours[..., 3] = 0.2 + 0.5 * values_YX.clip(0, 1)
    extent = (left, left + wide, bottom, bottom + high)
    ax.imshow(colours, origin="lower", extent=extent, aspect="equal", interpolation="nearest")
    ax.set_xlim(asked.extent_mm[0], 0)
    ax.set_ylim(0, asked.extent_mm[1])
    looks: dict[str, Any] = {"color": "white", "ha": "center", "va": "center", "path_effects": outline(1.4)}
    for base in base_crops(asked, layer):
        corner, (cell_wide, cell_high) = box_mm(asked, AXIAL, base.start, asked.base_size)
        if size:
            text = value_text(float(values_YX[base.place[1], base.place[0]]))
            ax.text(corner[0] + cell_wide / 2, corner[1] + cell_high / 2, text, size=size, **looks)
        if width_in * cell_wide / asked.extent_mm[0] >= NUMBERED_IN:
            number_base_crop(ax, asked, base, 5)
        if base.number == answer.true + 1:
            frame_base_crop(ax, asked, base, crop_colour(answer.crop))
    if width_in >= SIDES_IN:
        draw_sides(ax, AXIAL)
    name_slice(ax, AXIAL, f"axial {index}")


PANEL_DPI = 110
PANEL_MARGIN_IN, PANEL_TOP_IN = 0.16, 0.8
COLUMN_IN, SLICE_IN, ROW_GAP_IN = 1.42, 0.95, 0.14
LEFT_IN, RIGHT_IN, FOOT_IN = 0.62, 0.95, 0.38
LEAST_WIDTH_IN = 5.4
"""What the title needs."""
MAPS_IN = 3.0
"""What all layers of a heat map together may take of the page's height."""


def draw_location(panel: LocationPanel, path: Path) -> None:
    """Write the picture of a validation: a column for each crop, with a slice of it, its label and its logits.

    Raises:
        ResourceError: the file cannot be written.
    """
    with figure_style():
        _compose_panel(panel).save(path, PANEL_DPI)


def _compose_panel(panel: LocationPanel) -> FigurePage:
    layers, count = panel.grid[2], len(panel.crops)
    aspect = panel.grid[1] * panel.cell_mm[1] / (panel.grid[0] * panel.cell_mm[0])
    layer_in = min(COLUMN_IN * aspect, MAPS_IN / layers)
    maps_in = layers * (layer_in + LAYER_GAP_IN) - LAYER_GAP_IN
    wide = LEFT_IN + count * (COLUMN_IN + ROW_GAP_IN) + RIGHT_IN
    logits_top = PANEL_TOP_IN + SLICE_IN + maps_in + 2 * ROW_GAP_IN
    page = FigurePage(max(wide, LEAST_WIDTH_IN), logits_top + maps_in + FOOT_IN)
    title = f"Step {panel.step}: where held-out crops are believed to lie"
    page.text(PANEL_MARGIN_IN, 0.12, title, 11, weight="bold")
    chance = (math.prod(panel.grid) - 1) / 2
    figures = f"mean rank {panel.rank:.2f} (0 is first, guessing {chance:g}), correlation {panel.correlation:.2f}"
    page.text(PANEL_MARGIN_IN, 0.36, f"all held-out crops: {figures}", 7.5, color=FAINT)
    heights = [SLICE_IN, maps_in, maps_in]
    grid = page.grid(LEFT_IN, PANEL_TOP_IN, [COLUMN_IN] * count, heights, (ROW_GAP_IN, ROW_GAP_IN))
    labels_top = PANEL_TOP_IN + SLICE_IN + ROW_GAP_IN
    for top, name in ((PANEL_TOP_IN, "crop"), (labels_top, "label"), (logits_top, "logits")):
        page.text(PANEL_MARGIN_IN, top, name, 8, weight="bold")
        for row in range(layers if layers > 1 and name != "crop" else 0):
            at = top + row * (layer_in + LAYER_GAP_IN) + 0.16
            page.text(PANEL_MARGIN_IN, at, f"layer {layers - row}", 6, color=FAINT)
    for column, crop in enumerate(panel.crops):
        _show_slice(page.figure.add_subplot(grid[0, column]), crop)
        for row, values_K in ((1, crop.label_K), (2, crop.logits_K)):
            maps = grid[row, column].subgridspec(layers, 1, hspace=LAYER_GAP_IN / layer_in)
            for place in range(layers):  # the layer nearest to the head on top
                ax = page.figure.add_subplot(maps[place])
                true = int(np.argmax(crop.label_K))
                draw_heat_map(ax, values_K, panel.grid, layers - 1 - place, panel.cell_mm, true, MARK)
        ax.set_xlabel(f"true base crop: rank {crop.rank:g}", size=7, labelpad=3)
    _draw_key(page, wide - RIGHT_IN, labels_top, min(2 * maps_in, 1.5))
    return page


def _show_slice(ax: Axes, crop: LocatedCrop) -> None:
    """Draw the middle slice, patient's right on the left, front on top."""
    shown = np.asarray(crop.slice_XY, dtype=np.float32)[::-1, ::-1].T
    ax.imshow(shown, cmap="gray", vmin=0, vmax=1, aspect=crop.pixel_mm[1] / crop.pixel_mm[0], interpolation="nearest")
    ax.set_anchor("N")
    bare(ax)
    ax.set_title(safe_text(crop.scan, 26), loc="center", size=6, weight="normal", pad=4)


def _draw_key(page: FigurePage, left: float, top: float, height: float) -> None:
    """Draw the colours of labels and logits, and write what the frame means and how the patient lies."""
    draw_scale(page, left, top + 0.05, height)
    page.text(left, top + height + 0.15, "frame: true\nbase crop", 6, color=MARK)
    page.text(left, top + height + 0.42, "patient's right\non the left,\nfront on top", 6, color=FAINT)
