"""Draw tumours in three planes: before and after they were painted, or alone for readers who are to tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from voco_cli.evaluate.patient_case import PatientCase
from voco_cli.figures.slices import ByteImage, resized_grey
from voco_cli.figures.style import FAINT, FigurePage, figure_style, fitting, outline, write_corner, write_sides

VIEWS = (("axial", 2, "RLPA"), ("coronal", 1, "RLIS"), ("sagittal", 0, "APIS"))
"""Name, axis across, and the letters at left, right, bottom and top."""
Window = tuple[float, float]
VIEW_IN, GAP_IN, MARGIN_IN, ROW_IN, DPI = 1.6, 0.06, 0.3, 0.24, 200
BAR_MM = 20


@dataclass(frozen=True)
class ShownTumour:
    """A tumour to draw.

    Attributes:
        centre: its middle, voxels in the patient's axes.
        words: about it.
    """

    centre: tuple[int, int, int]
    words: str


def view_of(
    case: PatientCase, across: int, centre: Sequence[int], width_mm: float, window: Window, px: int
) -> ByteImage:
    """Return a square part of one slice around a voxel, in true proportions; black outside the scan."""
    axes = [axis for axis in range(3) if axis != across]
    half = [max(1, round(width_mm / 2 / case.spacing_mm[axis])) for axis in axes]
    plane = np.moveaxis(case.image_xyz, across, 0)[centre[across]]
    part = np.full([2 * reach + 1 for reach in half], window[0], np.float32)
    source, target = [], []
    for axis, reach, size in zip(axes, half, plane.shape, strict=True):
        low, high = max(0, centre[axis] - reach), min(size, centre[axis] + reach + 1)
        source.append(slice(low, high))
        target.append(slice(low - centre[axis] + reach, high - centre[axis] + reach))
    part[tuple(target)] = plane[tuple(source)]
    return resized_grey(part, window, px, px)


def three_planes(case: PatientCase, centre: Sequence[int], width_mm: float, window: Window, px: int) -> ByteImage:
    """Return axial, coronal and sagittal view side by side, without any letters: px x 3 px."""
    return np.concatenate([view_of(case, across, centre, width_mm, window, px) for _, across, _ in VIEWS], axis=1)


def draw_painted(
    name: str, before: PatientCase, after: PatientCase, tumours: Sequence[ShownTumour], window: Window, path: Path
) -> None:
    """Write a picture of painted tumours, one a row: each plane before and after.

    Raises:
        ResourceError: the file cannot be written.
    """
    width_mm = 90.0
    with figure_style():
        width_in = 2 * MARGIN_IN + 6 * VIEW_IN + 5 * GAP_IN
        page = FigurePage(width_in, 2 * MARGIN_IN + 0.5 + len(tumours) * (VIEW_IN + ROW_IN + GAP_IN))
        page.text(MARGIN_IN, MARGIN_IN, fitting(name, width_in - 2 * MARGIN_IN, 13, "bold"), 13, weight="bold")
        words = f"each plane before and after; {window[0]:g} to {window[1]:g} HU; {width_mm:g} mm wide"
        page.text(MARGIN_IN, MARGIN_IN + 0.26, words, 7.5, color=FAINT)
        for row, tumour in enumerate(tumours):
            top = MARGIN_IN + 0.5 + row * (VIEW_IN + ROW_IN + GAP_IN)
            page.text(MARGIN_IN, top, fitting(tumour.words, width_in - 2 * MARGIN_IN, 8), 8)
            grid = page.grid(MARGIN_IN, top + ROW_IN - 0.06, [VIEW_IN] * 6, [VIEW_IN], (GAP_IN, 0.0))
            for column in range(6):
                view, across, letters = VIEWS[column // 2]
                case = (before, after)[column % 2]
                pixels = view_of(case, across, tumour.centre, width_mm, window, round(VIEW_IN * DPI))
                ax = page.figure.add_subplot(grid[column])
                _show(ax, pixels, letters, f"{view} {case.file_index(across, tumour.centre[across])}", width_mm)
        page.save(path, DPI)


def _show(ax: Axes, pixels: NDArray[Any], letters: str, words: str, width_mm: float) -> None:
    ax.imshow(pixels, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    ax.set_axis_off()
    write_sides(ax, letters, 6)
    write_corner(ax, words, 5.5)
    bar: dict[str, Any] = {"color": "white", "linewidth": 1.4, "path_effects": outline(2.2), "transform": ax.transAxes}
    ax.add_line(Line2D((0.03, 0.03 + BAR_MM / width_mm), (0.03, 0.03), **bar))
    ax.text(0.03, 0.045, f"{BAR_MM} mm", size=5, color="white", transform=ax.transAxes, path_effects=outline())
