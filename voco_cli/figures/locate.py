"""Crops of one scan, and where a network believes them to lie: the answer, and its picture.

S crops, K base crops, k = (ix * gy + iy) * gz + iz.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from voco_cli.figures import position_labels
from voco_cli.figures.crops import Cell, IntTriple, LabelScene, cells, crop_name, layer_slices, times
from voco_cli.figures.location import COLOURS, SCALE, Box, draw_heat_map, draw_scale, value_text
from voco_cli.figures.style import FAINT, Page, crop_colour, figure_style, outline, safe_text

WIDTH_IN, MARGIN_IN, GAP_IN = 10.0, 0.3, 0.14
HEADER_IN, HEADING_IN, TITLE_IN = 0.62, 0.24, 0.2
VIEW_IN = (2.0, 1.85)
"""Largest width and height of a view of the body."""
ANSWER_IN, ANSWER_VIEW_IN = 4.45, (2.6, 2.1)
"""What the answers over the body and the labels together may take of the width, and largest size of an answer."""
LABEL_SHARE = 0.62
"""Width of a label's map, of that of an answer."""
TILE_GAP_IN = 0.06
SIDES_IN = 1.2
"""Views as wide as this have room for the letters of the patient's sides."""
MOST_CROPS, MOST_LAYERS = 8, 4
LEAST_TEXT = 4.0
NUMBERED_IN = 0.35
"""Cells as wide as this have room for their number beside the value."""
DPI = 160


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
        """The scan whose base crops were asked about."""
        return self.target or self.scene

    @property
    def cells(self) -> list[Cell]:
        """Base crops that were asked about."""
        return cells(self.asked)

    @property
    def mean_rank(self) -> float:
        """Over the crops."""
        return float(np.mean(self.ranks_S))

    @property
    def chance_rank(self) -> float:
        """What guessing gives."""
        return (len(self.cells) - 1) / 2

    @property
    def answers(self) -> list[Answer]:
        """One a crop."""
        found = []
        for crop, (logits_K, label_K) in enumerate(zip(self.logits_SK, self.scene.labels_SK, strict=True)):
            x, y, z = (int(n) for n in self.scene.starts_S3[crop] + np.asarray(self.scene.crop_size) // 2)
            likely, true = int(np.argmax(logits_K)), int(np.argmax(label_K.astype(np.float32)))
            rank = float(self.ranks_S[crop])
            found.append(Answer(crop, (x, y, z), likely, float(logits_K[likely]), float(label_K[likely]), true, rank))
        return found


def draw_located_scan(located: LocatedScan, path: Path) -> None:
    """Write the picture; the format follows the suffix. At most `MOST_CROPS` crops are drawn; the picture says so.

    Raises:
        ResourceError: the file cannot be written.
    """
    with figure_style():
        _compose(located).save(path, DPI)


@dataclass(frozen=True)
class _Sizes:
    """Inches: width and height of each panel, and the height of a crop's row."""

    axial: tuple[float, float]
    coronal: tuple[float, float]
    answer: tuple[float, float]
    label: tuple[float, float]
    row: float


def _measure(located: LocatedScan) -> _Sizes:
    scene, asked = located.scene, located.asked
    columns, rows = _tiles(located)
    x_mm, y_mm, z_mm = scene.extent_mm
    axial, coronal = _fitted(x_mm, y_mm, *VIEW_IN), _fitted(x_mm, z_mm, *VIEW_IN)
    gaps = (2 * columns - 1) * TILE_GAP_IN
    widest = min(ANSWER_VIEW_IN[0], (ANSWER_IN - gaps) / (columns * (1 + LABEL_SHARE)))
    answer = _fitted(asked.extent_mm[0], asked.extent_mm[1], widest, ANSWER_VIEW_IN[1])
    region = (edge * step for edge, step in zip(scene.region_size, scene.spacing_mm, strict=True))
    label = _fitted(next(region), next(region), widest * LABEL_SHARE, ANSWER_VIEW_IN[1] * LABEL_SHARE)
    tallest = max(axial[1], coronal[1], rows * (max(answer[1], label[1]) + TILE_GAP_IN) - TILE_GAP_IN)
    return _Sizes(axial, coronal, answer, label, tallest + TITLE_IN + 0.12)


def _fitted(across_mm: float, up_mm: float, width: float, height: float) -> tuple[float, float]:
    scale = min(width / across_mm, height / up_mm)
    return across_mm * scale, up_mm * scale


def _layers(located: LocatedScan) -> list[int]:
    """Layers of the grid that are drawn, the one nearest to the head first."""
    return list(reversed(range(located.scene.grid[2])))[-MOST_LAYERS:]


def _tiles(located: LocatedScan) -> tuple[int, int]:
    """Columns and rows in which the layers are drawn."""
    layers = len(_layers(located))
    return min(layers, 2), -(-layers // 2)


def _tile_corners(located: LocatedScan, corner: tuple[float, float], size: tuple[float, float]) -> list[Box]:
    """Where each layer is drawn."""
    columns, _ = _tiles(located)
    step = [edge + TILE_GAP_IN for edge in size]
    places = (divmod(number, columns) for number in range(len(_layers(located))))
    return [Box(corner[0] + column * step[0], corner[1] + row * step[1], *size) for row, column in places]


def _compose(located: LocatedScan) -> Page:
    sizes, answers = _measure(located), located.answers[:MOST_CROPS]
    page = Page(WIDTH_IN, MARGIN_IN + HEADER_IN + HEADING_IN + len(answers) * sizes.row + 0.25)
    canvas = page.canvas()
    _place_header(page, located, len(answers))
    coronal_left = MARGIN_IN + VIEW_IN[0] + GAP_IN
    answers_left = coronal_left + VIEW_IN[0] + 2 * GAP_IN
    labels_left = answers_left + _tiles(located)[0] * (sizes.answer[0] + TILE_GAP_IN) + GAP_IN
    top = MARGIN_IN + HEADER_IN
    for left, text in (
        (MARGIN_IN, "1  Where it was cut"),
        (answers_left, "2  Logits over the base crops"),
        (labels_left, "3  Its label"),
    ):
        page.text(left, top, text, 8.5, "bold")
    for number, answer in enumerate(answers):
        row_top = top + HEADING_IN + number * sizes.row
        page.text(MARGIN_IN, row_top, _answer_line(answer), 7, "bold")
        views_top = row_top + TITLE_IN
        for left, size, plane in (
            (MARGIN_IN, sizes.axial, position_labels.AXIAL),
            (coronal_left, sizes.coronal, position_labels.CORONAL),
        ):
            index = answer.centre[3 - sum(plane)]
            view = page.axes(left, views_top, *size)
            position_labels.draw_view(view, located.scene, plane, index, [answer.crop])
            position_labels.name_slice(view, f"{'axial' if plane == position_labels.AXIAL else 'coronal'} {index}")
        _place_answer(page, located, answer, (answers_left, views_top), sizes)
        _place_label(canvas, located, answer, (labels_left, views_top), sizes)
    draw_scale(canvas, Box(WIDTH_IN - MARGIN_IN - 0.3, top + HEADING_IN + TITLE_IN, 0.1, min(1.5, sizes.row - 0.4)))
    return page


def _place_header(page: Page, located: LocatedScan, drawn: int) -> None:
    scene, total = located.scene, len(located.scene.starts_S3)
    where = f" in {safe_text(located.target.name, 36)}" if located.target else ""
    page.text(
        MARGIN_IN, MARGIN_IN, f"Where crops of {safe_text(scene.name, 36)} are believed to lie{where}", 12, "bold"
    )
    parts = [
        f"{safe_text(located.run, 40)}, step {located.step}",
        f"mean rank {located.mean_rank:.2f} (0 is first, guessing {located.chance_rank:g})",
        f"crops {times(scene.crop_size)} voxels of {times_mm(scene.spacing_mm)} mm",
        "frame: the base crop that it overlaps most",
    ]
    if drawn < total:
        parts.append(f"{drawn} of {total} crops drawn")
    if scene.grid[2] > MOST_LAYERS:
        parts.append(f"{MOST_LAYERS} of {scene.grid[2]} layers drawn")
    page.text(MARGIN_IN, MARGIN_IN + 0.27, " · ".join(parts), 7, colour=FAINT)


def times_mm(spacing_mm: tuple[float, ...]) -> str:
    """Spacings as people write them."""
    return "\N{MULTIPLICATION SIGN}".join(f"{step:.3g}" for step in spacing_mm)


def _answer_line(answer: Answer) -> str:
    centre = ", ".join(map(str, answer.centre))
    return (
        f"{crop_name(answer.crop)}  centre ({centre})  ·  most likely base crop {answer.likely + 1}: logit "
        f"{answer.logit:.2f}, label {answer.label:.2f}  ·  true base crop {answer.true + 1}: rank {answer.rank:g}"
    )


def _place_answer(page: Page, located: LocatedScan, answer: Answer, corner: tuple[float, float], sizes: _Sizes) -> None:
    """The body with the logits over it, a view for each layer of the grid."""
    asked = located.asked
    slices = layer_slices(asked)
    region_in = sizes.answer[0] * asked.region_size[0] * asked.spacing_mm[0] / asked.extent_mm[0]
    for layer, box in zip(_layers(located), _tile_corners(located, corner, sizes.answer), strict=True):
        view = page.axes(box.left, box.top, box.width, box.height)
        position_labels.show_plane(view, asked, position_labels.AXIAL, slices[layer], (0, 0, 0), asked.volume_xyz.shape)
        _draw_logits(view, asked, located.logits_SK[answer.crop], layer, _text_size(region_in, asked.grid))
        for cell in (cell for cell in located.cells if cell.place[2] == layer):
            if region_in / asked.grid[0] >= NUMBERED_IN:
                position_labels.number_cell(view, asked, cell, 5)
            if cell.number == answer.true + 1:
                _frame_cell(view, asked, cell, crop_colour(answer.crop))
        if box.width >= SIDES_IN:
            position_labels.draw_sides(view, position_labels.AXIAL)
        position_labels.name_slice(view, f"axial {slices[layer]}")


def _draw_logits(ax: Axes, scene: LabelScene, logits_K: NDArray[Any], layer: int, size: float) -> None:
    """Colours over the body, the more opaque the larger the logit; in mm, as the view is."""
    values_YX = np.asarray(logits_K).reshape(scene.grid)[:, :, layer].T
    low, region = np.asarray(scene.region_start), np.asarray(scene.region_size)
    (x, y), (wide, high) = position_labels.box_mm(scene, position_labels.AXIAL, low.tolist(), (low + region).tolist())
    width, height = wide / scene.grid[0], high / scene.grid[1]
    colours = COLOURS(SCALE(values_YX))
    colours[..., 3] = 0.2 + 0.5 * values_YX.clip(0, 1)
    extent = (x, x + wide, y, y + high)
    ax.imshow(colours, origin="lower", extent=extent, aspect="equal", interpolation="nearest")
    for (row, column), value in np.ndenumerate(values_YX) if size else ():
        at = (x + (column + 0.5) * width, y + (row + 0.5) * height)
        text = value_text(float(value))
        ax.text(*at, text, color="white", size=size, ha="center", va="center", path_effects=outline(1.4))


def _frame_cell(ax: Axes, scene: LabelScene, cell: Cell, colour: str) -> None:
    end = [start + edge for start, edge in zip(cell.start, scene.base_size, strict=True)]
    corner, size = position_labels.box_mm(scene, position_labels.AXIAL, cell.start, end)
    ax.add_patch(Rectangle(corner, *size, fill=False, edgecolor=colour, linewidth=1.8))


def _place_label(
    canvas: Axes, located: LocatedScan, answer: Answer, corner: tuple[float, float], sizes: _Sizes
) -> None:
    scene = located.scene
    size, colour = _text_size(sizes.label[0], scene.grid), crop_colour(answer.crop)
    for layer, box in zip(_layers(located), _tile_corners(located, corner, sizes.label), strict=True):
        draw_heat_map(canvas, scene.labels_SK[answer.crop], scene.grid, layer, box, answer.true, size, colour)


def _text_size(width_in: float, grid: IntTriple) -> float:
    """Points that fit a cell; 0 where nobody could read them."""
    size = min(7.0, 17 * width_in / grid[0])
    return size if size >= LEAST_TEXT else 0.0
