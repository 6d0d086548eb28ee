"""One picture of a case: three views through its structures, a strip of axial slices, volumes, warnings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from scipy import ndimage

from voco_cli.config.schema import Preprocess
from voco_cli.evaluate.label_check import PatientCase, value_counts
from voco_cli.evaluate.segmentation.metrics import volume_ml
from voco_cli.evaluate.sides import looks_like_ct
from voco_cli.figures.slices import (
    STRUCTURE_COLOURS,
    ByteImage,
    ShownStructure,
    choose_slices,
    filled,
    outlined,
    resized_grey,
    resized_labels,
)
from voco_cli.figures.style import FAINT, INK, Page, figure_style, fitting, outline, safe_text, wrapped

BODY_ABOVE_HU = -500.0
COARSE = 96
"""Edge, voxels, of the grid on which the body and the slices to show are looked for."""
MARGIN_SHARE = 0.03

IntTriple = tuple[int, int, int]


@dataclass(frozen=True)
class StructureVolume:
    """A structure and how much of it there is; none where there is no such map."""

    structure: ShownStructure
    label_voxels: int | None
    label_ml: float | None
    prediction_voxels: int | None
    prediction_ml: float | None


@dataclass(frozen=True)
class CaseScene:
    """One case and what is said of it.

    Attributes:
        name: as it is to be shown.
        facts: lines under the title: files, grid, window.
        case: image, label map and prediction.
        window: intensities that are black and white.
        volumes: of the structures that are shown.
        unlisted: label values of no structure, with their voxels.
        planes: slices across x, y, z of the three views.
        strip: slices across z of the strip.
        low, high: the part of the volume that is shown, voxels.
        warnings: sentences.
    """

    name: str
    facts: tuple[str, ...]
    case: PatientCase
    window: tuple[float, float]
    volumes: tuple[StructureVolume, ...]
    unlisted: Mapping[int, int]
    planes: IntTriple
    strip: tuple[int, ...]
    low: IntTriple
    high: IntTriple
    warnings: tuple[str, ...] = ()

    @property
    def structures(self) -> tuple[ShownStructure, ...]:
        """What is coloured."""
        return tuple(one.structure for one in self.volumes)

    @property
    def shown_mm(self) -> tuple[float, float, float]:
        """Size of the part that is shown."""
        x, y, z = (
            (high - low) * step for low, high, step in zip(self.low, self.high, self.case.spacing_mm, strict=True)
        )
        return (x, y, z)


def case_scene(
    name: str,
    facts: Sequence[str],
    case: PatientCase,
    structures: Sequence[ShownStructure],
    window: tuple[float, float],
    num_slices: int,
    warnings: Sequence[str] = (),
) -> CaseScene:
    """Choose what to show of a case: slices through most of its structures, without the air around the patient.

    Args:
        structures: those that are not there are left out of the picture.
        num_slices: axial slices of the strip, at most.
    """
    low, high = _shown_box(case)
    volumes = structure_volumes(case, structures)
    there = tuple(one for one in volumes if one.label_voxels or one.prediction_voxels)
    return CaseScene(
        name=name,
        facts=tuple(facts),
        case=case,
        window=window,
        volumes=there,
        unlisted=unlisted_values(case, structures),
        planes=_planes(case, [one.structure for one in there]),
        strip=tuple(choose_slices(case, [one.structure for one in there], num_slices)),
        low=low,
        high=high,
        warnings=tuple(warnings),
    )


def structure_volumes(case: PatientCase, structures: Sequence[ShownStructure]) -> tuple[StructureVolume, ...]:
    """Voxels and millilitres of each structure in label and prediction."""
    counts = [None if one is None else value_counts(one).sum(axis=1) for one in (case.label_xyz, case.prediction_xyz)]
    found = []
    for structure in structures:
        label, prediction = (
            None if one is None else sum(int(one[value]) for value in structure.values if value < one.size)
            for one in counts
        )
        label_ml, prediction_ml = (
            None if one is None else volume_ml(one, case.spacing_mm) for one in (label, prediction)
        )
        found.append(StructureVolume(structure, label, label_ml, prediction, prediction_ml))
    return tuple(found)


def unlisted_values(case: PatientCase, structures: Sequence[ShownStructure]) -> dict[int, int]:
    """Values of no structure, 0 left out, with their voxels in label and prediction."""
    listed = {value for one in structures for value in one.values}
    found: dict[int, int] = {}
    for values in (case.label_xyz, case.prediction_xyz):
        if values is not None:
            for value, count in enumerate(value_counts(values).sum(axis=1).tolist()):
                if value and count and value not in listed:
                    found[value] = found.get(value, 0) + count
    return dict(sorted(found.items()))


def _planes(case: PatientCase, structures: Sequence[ShownStructure]) -> IntTriple:
    """For each axis the slice that shows most of all structures, each counted by the share of its largest section."""
    shape = case.image_xyz.shape
    middle = (shape[0] // 2, shape[1] // 2, shape[2] // 2)
    values = case.label_xyz if case.label_xyz is not None and case.label_xyz.any() else case.prediction_xyz
    if values is None:
        return middle
    steps = [max(1, n // (2 * COARSE)) for n in shape]
    coarse = values[tuple(slice(step // 2, None, step) for step in steps)]
    scores = [np.zeros(n) for n in coarse.shape]
    for one in structures:
        mask = np.isin(coarse, one.values)
        for axis in range(3):
            sections = np.count_nonzero(mask, axis=tuple({0, 1, 2} - {axis}))
            scores[axis] += sections / max(1, int(sections.max()))
    if not scores[0].any():
        return middle
    x, y, z = (int(score.argmax()) * step + step // 2 for score, step in zip(scores, steps, strict=True))
    return (x, y, z)


def _shown_box(case: PatientCase) -> tuple[IntTriple, IntTriple]:
    """The patient's body in a CT, with all that is labelled; the whole volume of other images."""
    shape = case.image_xyz.shape
    low, high = np.zeros(3, int), np.array(shape)
    if looks_like_ct(case.image_xyz):
        steps = [max(1, n // COARSE) for n in shape]
        boxes = [_box(_body(case.image_xyz[tuple(slice(None, None, step) for step in steps)]), steps)]
        maps = [values for values in (case.label_xyz, case.prediction_xyz) if values is not None]
        boxes += [_box(values != 0, (1, 1, 1)) for values in maps if values.any()]
        margin = np.ceil(MARGIN_SHARE * high).astype(int)
        low = np.maximum(np.min([box[0] for box in boxes], axis=0) - margin, 0)
        high = np.minimum(np.max([box[1] for box in boxes], axis=0) + margin, shape)
    (x, y, z), (to_x, to_y, to_z) = low.tolist(), high.tolist()
    return (x, y, z), (to_x, to_y, to_z)


def _body(image_hu: NDArray[Any]) -> NDArray[np.bool_]:
    """The largest connected part that is not air; everything where there is none."""
    parts, count = ndimage.label(image_hu > BODY_ABOVE_HU)
    if not count:
        return np.ones(image_hu.shape, bool)
    return np.asarray(parts == 1 + int(np.bincount(parts.ravel())[1:].argmax()))


def _box(mask: NDArray[np.bool_], steps: Sequence[int]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Lower and upper corner of what is true, in voxels of the grid from which every ``steps`` one was taken."""
    held = [np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    low, high = (np.array([places[end] for places in held], np.intp) for end in (0, -1))
    every = np.array(steps, np.intp)
    return low * every, (high + 1) * every


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


LUNG_WINDOW_HU = (-1000.0, 400.0)
LUNG_BELOW_HU = -400.0


def window_words(low: float, high: float) -> str:
    """Return both ends with no more digits than a hundredth of the window is worth."""
    digits = max(0, 2 - math.floor(math.log10(high - low))) if high > low else 3
    ends = (f"{round(end, digits) + 0.0:.{digits}f}" for end in (low, high))
    return " to ".join(end.rstrip("0").rstrip(".") if "." in end else end for end in ends)


def default_window(case: PatientCase, modality: str = "unknown") -> tuple[tuple[float, float], str]:
    """The window of preprocessing for CT, a wider one where most of what is labelled is lung, percentiles for others.

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
