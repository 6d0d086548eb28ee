"""Draw one picture of a case: three views through its structures, axial slices, volumes and Dice, warnings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from voco_cli.config.schema import Preprocess
from voco_cli.evaluate.label_fit import looks_like_ct
from voco_cli.evaluate.patient_case import PatientCase
from voco_cli.figures.case_scene import CaseScene, StructureVolume
from voco_cli.figures.slices import (
    STRUCTURE_COLOURS,
    ByteImage,
    filled,
    outlined,
    resized_grey,
    resized_labels,
)
from voco_cli.figures.style import (
    FAINT,
    FigurePage,
    figure_style,
    fitting,
    outline,
    wrapped,
    write_corner,
    write_sides,
)

LUNG_WINDOW_HU = (-1000.0, 400.0)
LUNG_BELOW_HU = -400.0


def default_window(case: PatientCase, modality: str = "unknown") -> tuple[tuple[float, float], str]:
    """Choose the window of preprocessing for CT, a wider one where most of what is labelled is lung, else percentiles.

    Returns:
        the window, and the same in words.
    """
    if modality == "CT" or (modality == "unknown" and looks_like_ct(case.image_xyz)):
        window = LUNG_WINDOW_HU if _is_lung(case) else Preprocess().window_hu
        return window, f"{window_words(*window)} HU"
    ends = Preprocess().percentiles
    finite = case.image_xyz[np.isfinite(case.image_xyz)]
    low, high = (float(value) for value in np.percentile(finite, ends)) if finite.size else (0.0, 0.0)
    if not low < high:  # a constant image is grey
        low, high = low - 1, low + 1
    return (low, high), f"{window_words(low, high)} (percentiles {ends[0]:g} and {ends[1]:g})"


def _is_lung(case: PatientCase) -> bool:
    values = case.label_xyz if case.label_xyz is not None else case.prediction_xyz
    return values is not None and bool(values.any()) and float(np.median(case.image_xyz[values > 0])) < LUNG_BELOW_HU


def window_words(low: float, high: float) -> str:
    """Return both ends with no more digits than a hundredth of the window is worth."""
    digits = max(0, 2 - math.floor(math.log10(high - low))) if high > low else 3
    ends = (f"{round(end, digits) + 0.0:.{digits}f}" for end in (low, high))
    return " to ".join(end.rstrip("0").rstrip(".") if "." in end else end for end in ends)


def ml_text(volume_ml: float) -> str:
    """Return a volume with three digits: 1520 ml, 15.2 ml, 0.152 ml."""
    if volume_ml == 0:
        return "0 ml"
    digits = 2 - math.floor(math.log10(volume_ml))
    return f"{round(volume_ml, digits):.{min(max(0, digits), 4)}f} ml"


WIDTH_IN, MARGIN_IN, GAP_IN = 10.0, 0.3, 0.08
ROOM_IN = WIDTH_IN - 2 * MARGIN_IN
HEADING_IN, LINE_IN, LINE_SIZE = 0.24, 0.155, 7.5
VIEWS_HEIGHT_IN = 4.0
STRIP_COLUMNS, STRIP_HEIGHT_IN = 8, 2.6
"""Slices in a row of the strip, and the height that one may take."""
NAME_IN = 1.9
"""Widest name in the legend."""
MOST_LEGEND, MOST_UNLISTED = 90, 8
DPI = 200
WARNING = "#B3261E"
BARS_MM = (5, 10, 20, 50, 100, 200)
VIEWS = (("axial", (0, 1), "RLPA"), ("coronal", (0, 2), "RLIS"), ("sagittal", (1, 2), "APIS"))
"""Name, axes across and up, and the letters at left, right, bottom and top."""


def draw_case_preview(scene: CaseScene, path: Path) -> None:
    """Write the picture of ``scene``; the format follows the suffix (png, pdf, svg).

    Raises:
        ResourceError: the file cannot be written.
    """
    with figure_style():
        _compose(scene).save(path, DPI)


def _compose(scene: CaseScene) -> FigurePage:
    x_mm, y_mm, z_mm = scene.shown_mm
    warnings = [line for one in scene.warnings for line in wrapped(f"Warning: {one}", ROOM_IN, LINE_SIZE, "bold")]
    header_in = 0.44 + LINE_IN * (len(scene.facts) + len(warnings))
    scale = min((ROOM_IN - 2 * GAP_IN) / (2 * x_mm + y_mm), VIEWS_HEIGHT_IN / max(y_mm, z_mm))  # inches per mm
    views_in = max(y_mm, z_mm) * scale + 0.16
    rows = math.ceil(len(scene.strip) / STRIP_COLUMNS)
    columns = math.ceil(len(scene.strip) / rows)
    strip_scale = min(((ROOM_IN + GAP_IN) / columns - GAP_IN) / x_mm, STRIP_HEIGHT_IN / y_mm)
    strip_in = HEADING_IN + rows * (y_mm * strip_scale + GAP_IN) + 0.08
    top = MARGIN_IN + header_in
    page = FigurePage(WIDTH_IN, top + views_in + strip_in + _legend_in(scene) + MARGIN_IN)
    page.text(MARGIN_IN, MARGIN_IN, fitting(scene.name, ROOM_IN, 13, "bold"), 13, weight="bold")
    lines = [(fitting(line, ROOM_IN, LINE_SIZE), {"color": FAINT}) for line in scene.facts]
    lines += [(line, {"color": WARNING, "weight": "bold"}) for line in warnings]
    for number, (line, looks) in enumerate(lines):
        page.text(MARGIN_IN, MARGIN_IN + 0.3 + number * LINE_IN, line, LINE_SIZE, **looks)
    _draw_views(page, scene, top, scale)
    _draw_strip(page, scene, top + views_in, (rows, columns), strip_scale)
    _draw_legend(page, scene, top + views_in + strip_in)
    return page


def _draw_views(page: FigurePage, scene: CaseScene, top: float, scale: float) -> None:
    """Draw axial, coronal and sagittal slice at one scale; small marks show where the others cut."""
    extents = [[scene.shown_mm[axis] for axis in axes] for _, axes, _ in VIEWS]
    widths, height = [wide * scale for wide, _ in extents], max(high for _, high in extents) * scale
    grid = page.grid(MARGIN_IN, top, widths, [height], (GAP_IN, 0.0))
    for column, (name, axes, letters) in enumerate(VIEWS):
        across = 3 - sum(axes)
        ax = page.figure.add_subplot(grid[column])
        _show(ax, scene, across, scene.planes[across], scale)
        write_sides(ax, letters, 9, weight="bold")
        for axis, line in zip(axes, (ax.axvline, ax.axhline), strict=True):
            place = (scene.planes[axis] + 0.5 - scene.low[axis]) * scene.case.spacing_mm[axis]
            for ends in ((0.0, 0.035), (0.965, 1.0)):
                line(scene.shown_mm[axis] - place if axis == axes[0] else place, *ends, color="white", linewidth=0.8)
        write_corner(ax, f"{name}, slice {scene.case.file_index(across, scene.planes[across])}", 6.5)
        if name == "axial":
            _draw_scale_bar(ax, scene.shown_mm[0])


def _draw_strip(page: FigurePage, scene: CaseScene, top: float, shape: tuple[int, int], scale: float) -> None:
    heading = "Axial slices from the feet to the head, numbered as in the file, from 0"
    page.text(MARGIN_IN, top, heading, 9, weight="bold")
    width, height = scene.shown_mm[0] * scale, scene.shown_mm[1] * scale
    spare = (ROOM_IN - shape[1] * width) / max(1, shape[1] - 1)
    gap = (min(max(GAP_IN, spare), 0.35), GAP_IN)
    grid = page.grid(MARGIN_IN, top + HEADING_IN, [width] * shape[1], [height] * shape[0], gap)
    for number, index in enumerate(scene.strip):
        ax = page.figure.add_subplot(grid[divmod(number, shape[1])])
        _show(ax, scene, 2, index, scale)
        write_corner(ax, str(scene.case.file_index(2, index)), 6)
        if number == 0:
            write_sides(ax, "RLPA", 6, weight="bold")


def _show(ax: Axes, scene: CaseScene, across: int, index: int, scale: float) -> None:
    """Draw a slice with its overlays, in mm from its lower left corner."""
    wide, high = (scene.shown_mm[axis] for axis in range(3) if axis != across)
    pixels = _panel(scene, across, index, (wide * scale, high * scale))
    ax.imshow(pixels, extent=(0, wide, 0, high), aspect="equal", interpolation="nearest")
    ax.set_axis_off()
    ax.set_autoscale_on(False)


def _panel(scene: CaseScene, across: int, index: int, size_in: tuple[float, float]) -> ByteImage:
    """Return a slice with its overlays at the pixels of the page; RGB."""
    selection: list[Any] = [slice(low, high) for low, high in zip(scene.low, scene.high, strict=True)]
    selection[across] = index
    plane = tuple(selection)
    width, height = (max(1, round(edge * DPI)) for edge in size_in)
    shown = resized_grey(scene.case.image_xyz[plane], scene.window, width, height)[..., None].repeat(3, axis=2)
    label, prediction = scene.case.label_xyz, scene.case.prediction_xyz
    if label is not None:
        label_hw = resized_labels(label[plane], width, height)
        shown = _over(shown, filled(label_hw, scene.volumes))
        if prediction is None:
            shown = _over(shown, outlined(label_hw, scene.volumes, width_px=1))
    if prediction is not None:
        shown = _over(shown, outlined(resized_labels(prediction[plane], width, height), scene.volumes))
    return shown


def _over(shown: ByteImage, layer: ByteImage) -> ByteImage:
    """Lay an RGBA picture over an RGB one."""
    alpha = layer[..., 3:].astype(np.float32) / 255
    return np.asarray(np.rint(shown * (1 - alpha) + layer[..., :3] * alpha), dtype=np.uint8)


def _draw_scale_bar(ax: Axes, width_mm: float) -> None:
    length_mm = max((bar for bar in BARS_MM if bar <= 0.3 * width_mm), default=BARS_MM[0])
    bar = {"color": "white", "linewidth": 1.6, "path_effects": outline(2.6), "transform": ax.transAxes}
    ax.add_line(Line2D((0.03, 0.03 + length_mm / width_mm), (0.03, 0.03), **bar))  # type: ignore[arg-type]
    where: dict[str, Any] = {"transform": ax.transAxes, "va": "bottom"}
    ax.text(0.03, 0.045, f"{length_mm} mm", size=6.5, color="white", path_effects=outline(), **where)


def _legend_shape(scene: CaseScene) -> tuple[int, int]:
    """Return rows and columns of the legend."""
    columns = 3 if scene.case.label_xyz is None or scene.case.prediction_xyz is None else 2
    return math.ceil(min(len(scene.volumes), MOST_LEGEND) / columns), columns


def _legend_in(scene: CaseScene) -> float:
    lines = _legend_shape(scene)[0] + len(_footnotes(scene))
    return HEADING_IN + LINE_IN * lines if lines else 0.0


def _draw_legend(page: FigurePage, scene: CaseScene, top: float) -> None:
    """Draw colour, name, volume and Dice of each structure."""
    rows, columns = _legend_shape(scene)
    if rows:
        words = "volume of the label (filled) and of the prediction (outlined), Dice of the two"
        if columns == 3:
            words = f"volume of the {'prediction' if scene.case.label_xyz is None else 'label'}"
        page.text(MARGIN_IN, top, f"Structures: {words}", 9, weight="bold")
        shown = scene.volumes[:MOST_LEGEND]
        page.figure.legend(
            [Patch(facecolor=one.colour, edgecolor="black", linewidth=0.3) for one in shown],
            [f"{fitting(one.name, NAME_IN, 7)}  {_volumes(one)}" for one in shown],
            loc="upper left",
            bbox_to_anchor=(MARGIN_IN / page.width, 1 - (top + 0.2) / page.height),
            ncols=columns,
            columnspacing=4,
            frameon=False,
            borderpad=0,
            borderaxespad=0,
            fontsize=7,
            handlelength=1.4,
            labelspacing=LINE_IN * 72 / 7 - 1,
        )
    for number, note in enumerate(_footnotes(scene)):
        page.text(MARGIN_IN, top + HEADING_IN + (rows + number) * LINE_IN, note, 7, color=FAINT)


def _footnotes(scene: CaseScene) -> list[str]:
    notes = []
    if len({one.colour for one in scene.volumes}) < len(scene.volumes):
        notes.append(f"Colours repeat after {len(STRUCTURE_COLOURS)} structures.")
    if len(scene.volumes) > MOST_LEGEND:
        notes.append(f"{len(scene.volumes) - MOST_LEGEND} more structures are not listed here.")
    if scene.unlisted:
        notes.append(f"Values of no class, not coloured: {unlisted_text(scene.unlisted, MOST_UNLISTED)}.")
    return notes


def unlisted_text(unlisted: Mapping[int, int], most: int) -> str:
    """Return values of no class with their voxels in words."""
    values = ", ".join(f"{value} ({count} voxels)" for value, count in list(unlisted.items())[:most])
    return values + (f" and {len(unlisted) - most} more" if len(unlisted) > most else "")


def _volumes(one: StructureVolume) -> str:
    words = [ml_text(ml) for ml in (one.label_ml, one.prediction_ml) if ml is not None]
    return " · ".join(words + ([] if one.dice is None else [f"Dice {one.dice:.3f}"]))
