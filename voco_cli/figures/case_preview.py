"""One picture of a case: three views through its structures, a strip of axial slices, volumes, warnings."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from voco_cli.figures.case_scene import CaseScene, StructureVolume
from voco_cli.figures.case_slices import STRUCTURE_COLOURS, ByteImage, filled, outlined, resized_grey, resized_labels
from voco_cli.figures.page import Page
from voco_cli.figures.style import FAINT, INK, figure_style, fitting, outline, safe_text, wrapped

WIDTH_IN = 10.0
MARGIN_IN = 0.3
ROOM_IN = WIDTH_IN - 2 * MARGIN_IN
GAP_IN = 0.08
HEADING_IN = 0.24
LINE_IN, LINE_SIZE = 0.155, 7.5
VIEWS_HEIGHT_IN = 4.0
STRIP_COLUMNS = 8
STRIP_HEIGHT_IN = 2.6
"""What a panel of the strip may take at most."""
LEGEND_COLUMNS = (3, 2)
"""Where volumes of one map are told, and of two."""
MOST_LEGEND = 90
DPI = 200
WARNING = "#B3261E"
BARS_MM = (5, 10, 20, 50, 100, 200)

LETTER_PLACES = (
    (0.04, 0.5, "left", "center"),
    (0.96, 0.5, "right", "center"),
    (0.5, 0.96, "center", "top"),
    (0.5, 0.04, "center", "bottom"),
)
VIEWS = (("axial", (0, 1), "RLAP"), ("coronal", (0, 2), "RLSI"), ("sagittal", (1, 2), "APSI"))
"""Name, axes across and up, and the letters at left, right, top and bottom."""


def draw_case_preview(scene: CaseScene, path: Path) -> None:
    """Write the picture of ``scene``; the format follows the suffix (png, pdf, svg).

    Raises:
        ResourceError: the file cannot be written.
    """
    with figure_style():
        _compose(scene).save(path, DPI)


@dataclass(frozen=True)
class _Sizes:
    """Inches per mm of the views and of the strip, columns of the strip, and the heights of the page's parts."""

    view_scale: float
    strip_scale: float
    columns: int
    header: float
    views: float
    strip: float
    legend: float

    @property
    def page(self) -> float:
        return 2 * MARGIN_IN + self.header + self.views + self.strip + self.legend


def _measure(scene: CaseScene) -> _Sizes:
    x_mm, y_mm, z_mm = scene.shown_mm
    view_scale = min((ROOM_IN - 2 * GAP_IN) / (2 * x_mm + y_mm), VIEWS_HEIGHT_IN / max(y_mm, z_mm))
    columns = math.ceil(len(scene.strip) / math.ceil(len(scene.strip) / STRIP_COLUMNS))
    strip_scale = min(((ROOM_IN + GAP_IN) / columns - GAP_IN) / x_mm, STRIP_HEIGHT_IN / y_mm)
    rows = math.ceil(len(scene.strip) / columns)
    header = 0.32 + LINE_IN * (len(scene.facts) + len(_warning_lines(scene))) + 0.12
    return _Sizes(
        view_scale=view_scale,
        strip_scale=strip_scale,
        columns=columns,
        header=header,
        views=max(y_mm, z_mm) * view_scale + 0.16,
        strip=HEADING_IN + rows * (y_mm * strip_scale + GAP_IN) + 0.08,
        legend=_legend_height_in(scene),
    )


def _compose(scene: CaseScene) -> Page:
    sizes = _measure(scene)
    page = Page(WIDTH_IN, sizes.page, MARGIN_IN)
    _place_header(page, scene)
    page.top = MARGIN_IN + sizes.header
    _place_views(page, scene, sizes)
    page.top += sizes.views
    _place_strip(page, scene, sizes)
    page.top += sizes.strip
    _place_legend(page, scene)
    return page


def _place_header(page: Page, scene: CaseScene) -> None:
    page.text(MARGIN_IN, page.top, fitting(scene.name, ROOM_IN, 13, "bold"), 13, "bold")
    top = page.top + 0.3
    for line in scene.facts:
        page.text(MARGIN_IN, top, fitting(line, ROOM_IN, LINE_SIZE), LINE_SIZE, colour=FAINT)
        top += LINE_IN
    for line in _warning_lines(scene):
        page.text(MARGIN_IN, top, line, LINE_SIZE, "bold", WARNING)
        top += LINE_IN


def _warning_lines(scene: CaseScene) -> list[str]:
    """Warnings, wrapped to the width of the page."""
    return [line for one in scene.warnings for line in wrapped(f"Warning: {one}", ROOM_IN, LINE_SIZE, "bold")]


def _place_views(page: Page, scene: CaseScene, sizes: _Sizes) -> None:
    """Axial, coronal and sagittal at one scale, middles in one line; small marks tell where the others cut."""
    extents = [(scene.shown_mm[a] * sizes.view_scale, scene.shown_mm[b] * sizes.view_scale) for _, (a, b), _ in VIEWS]
    spare = WIDTH_IN - 2 * MARGIN_IN - sum(width for width, _ in extents)
    gap = min(spare / 2, 0.35)
    left = (WIDTH_IN - sum(width for width, _ in extents) - 2 * gap) / 2
    tallest = max(height for _, height in extents)
    for (name, axes, letters), (width, height) in zip(VIEWS, extents, strict=True):
        across = 3 - sum(axes)
        ax = page.axes(left, page.top + (tallest - height) / 2, width, height)
        _show(ax, _panel(scene, across, scene.planes[across], (width, height)))
        _letters(ax, letters)
        _cuts(ax, scene, axes)
        _corner(ax, f"{name}, slice {scene.case.file_index(across, scene.planes[across])}")
        if name == "axial":
            _scale_bar(ax, scene.shown_mm[0])
        left += width + gap


def _place_strip(page: Page, scene: CaseScene, sizes: _Sizes) -> None:
    x_mm, y_mm, _ = scene.shown_mm
    width, height = x_mm * sizes.strip_scale, y_mm * sizes.strip_scale
    page.text(MARGIN_IN, page.top, "Axial slices from the feet to the head, numbered as in the file, from 0", 9, "bold")
    step = (WIDTH_IN - 2 * MARGIN_IN - width) / max(1, sizes.columns - 1) if sizes.columns > 1 else 0.0
    step = min(step, width + 0.35)
    for number, index in enumerate(scene.strip):
        row, column = divmod(number, sizes.columns)
        ax = page.axes(MARGIN_IN + column * step, page.top + HEADING_IN + row * (height + GAP_IN), width, height)
        _show(ax, _panel(scene, 2, index, (width, height)))
        _corner(ax, str(scene.case.file_index(2, index)), 6)
        if number == 0:
            _letters(ax, "RLAP", 6)


def _panel(scene: CaseScene, across: int, index: int, size_in: tuple[float, float]) -> ByteImage:
    """A slice with its overlays at the pixels of the page; RGB."""
    selection: list[Any] = [slice(low, high) for low, high in zip(scene.low, scene.high, strict=True)]
    selection[across] = index
    plane = tuple(selection)
    width, height = (max(1, round(edge * DPI)) for edge in size_in)
    shown = resized_grey(scene.case.image_xyz[plane], scene.window, width, height)[..., None].repeat(3, axis=2)
    label, prediction = scene.case.label_xyz, scene.case.prediction_xyz
    if label is not None:
        label_hw = resized_labels(label[plane], width, height)
        shown = _over(shown, filled(label_hw, scene.structures))
        if prediction is None:
            shown = _over(shown, outlined(label_hw, scene.structures, width_px=1))
    if prediction is not None:
        shown = _over(shown, outlined(resized_labels(prediction[plane], width, height), scene.structures))
    return shown


def _over(shown: ByteImage, layer: ByteImage) -> ByteImage:
    """Lay an RGBA picture over an RGB one."""
    alpha = layer[..., 3:].astype(np.float32) / 255
    return np.asarray(np.rint(shown * (1 - alpha) + layer[..., :3] * alpha), dtype=np.uint8)


def _show(ax: Axes, pixels: ByteImage) -> None:
    ax.imshow(pixels, extent=(0, 1, 0, 1), aspect="auto", interpolation="nearest")
    ax.set_axis_off()


def _letters(ax: Axes, letters: str, size: float = 9) -> None:
    """The patient's sides at the edges of a panel."""
    for letter, (x, y, ha, va) in zip(letters, LETTER_PLACES, strict=True):
        ax.text(x, y, letter, ha=ha, va=va, size=size, weight="bold", color="white", path_effects=outline())


def _corner(ax: Axes, text: str, size: float = 6.5) -> None:
    ax.text(0.985, 0.015, text, ha="right", va="bottom", size=size, color="white", path_effects=outline())


def _cuts(ax: Axes, scene: CaseScene, axes: tuple[int, int]) -> None:
    """Short lines at the edges where the other two views cut this one."""
    left, up = ((scene.planes[axis] + 0.5 - scene.low[axis]) / (scene.high[axis] - scene.low[axis]) for axis in axes)
    across = 1 - left
    for ends in ((0.0, 0.035), (0.965, 1.0)):
        ax.plot((across, across), ends, color="white", linewidth=0.8)
        ax.plot(ends, (up, up), color="white", linewidth=0.8)
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1)


def _scale_bar(ax: Axes, width_mm: float) -> None:
    length_mm = max((bar for bar in BARS_MM if bar <= 0.3 * width_mm), default=BARS_MM[0])
    ax.plot((0.03, 0.03 + length_mm / width_mm), (0.03, 0.03), color="white", linewidth=1.6, path_effects=outline(2.6))
    ax.text(0.03, 0.045, f"{length_mm} mm", size=6.5, color="white", va="bottom", path_effects=outline())


def _legend_columns(scene: CaseScene) -> int:
    return LEGEND_COLUMNS[scene.case.label_xyz is not None and scene.case.prediction_xyz is not None]


def _legend_rows(scene: CaseScene) -> int:
    return math.ceil(min(len(scene.volumes), MOST_LEGEND) / _legend_columns(scene))


def _legend_height_in(scene: CaseScene) -> float:
    if scene.case.label_xyz is None and scene.case.prediction_xyz is None:
        return 0.0
    return HEADING_IN + LINE_IN * (_legend_rows(scene) + len(_footnotes(scene)))


def _footnotes(scene: CaseScene) -> list[str]:
    notes = []
    if len({one.structure.colour for one in scene.volumes}) < len(scene.volumes):
        notes.append(f"Colours repeat after {len(STRUCTURE_COLOURS)} structures.")
    if len(scene.volumes) > MOST_LEGEND:
        notes.append(f"{len(scene.volumes) - MOST_LEGEND} more structures are not listed here.")
    if scene.unlisted:
        values = ", ".join(f"{value} ({count} voxels)" for value, count in list(scene.unlisted.items())[:8])
        more = f" and {len(scene.unlisted) - 8} more" if len(scene.unlisted) > 8 else ""
        notes.append(f"Values of no class, not coloured: {values}{more}.")
    return notes


def _place_legend(page: Page, scene: CaseScene) -> None:
    """Colour, name and volume of each structure."""
    maps = {
        (True, False): "label",
        (False, True): "prediction",
        (True, True): "label (filled) and of prediction (outlined)",
    }
    drawn = maps.get((scene.case.label_xyz is not None, scene.case.prediction_xyz is not None))
    if drawn is None:
        return
    page.text(MARGIN_IN, page.top, f"Structures: volume and voxels of {drawn}", 9, "bold")
    top, rows = page.top + HEADING_IN, _legend_rows(scene)
    width = (WIDTH_IN - 2 * MARGIN_IN) / _legend_columns(scene)
    canvas = page.canvas()
    for number, one in enumerate(scene.volumes[:MOST_LEGEND]):
        column, row = divmod(number, rows)
        left, line = MARGIN_IN + column * width, top + row * LINE_IN
        canvas.add_patch(
            Rectangle((left, line), 0.14, 0.1, facecolor=one.structure.colour, edgecolor=INK, linewidth=0.3)
        )
        page.text(left + 0.2, line - 0.01, f"{safe_text(one.structure.name, 32)}  {_volumes(one)}", 7)
    for number, note in enumerate(_footnotes(scene)):
        page.text(MARGIN_IN, top + (rows + number) * LINE_IN, note, 7, colour=FAINT)


def _volumes(one: StructureVolume) -> str:
    pairs = ((one.label_voxels, one.label_ml), (one.prediction_voxels, one.prediction_ml))
    return " · ".join(f"{ml_text(ml)} ({voxels})" for voxels, ml in pairs if voxels is not None and ml is not None)


def ml_text(volume_ml: float) -> str:
    """A volume with three digits: 1520 ml, 15.2 ml, 0.152 ml."""
    if volume_ml == 0:
        return "0 ml"
    digits = max(0, 2 - math.floor(math.log10(volume_ml)))
    return f"{round(volume_ml, 2 - math.floor(math.log10(volume_ml))):.{min(digits, 4)}f} ml"
