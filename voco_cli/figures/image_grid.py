"""Slices in rows and columns: what an objective shows of its validation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from voco_cli.atomic_files import whole_file
from voco_cli.figures.slices import STRUCTURE_COLOURS
from voco_cli.figures.style import safe_text

CELL_IN, TEXT_IN, DPI = 1.9, 0.32, 150
MOST_LETTERS = 60


def draw_image_grid(
    columns: Sequence[str],
    rows: Sequence[Sequence[NDArray[np.number]]],
    captions: Sequence[str],
    title: str,
    path: Path,
    classes: Sequence[str] = (),
) -> None:
    """Write a PNG: a row of slices for each crop, its caption below them.

    Args:
        columns: title of each column.
        rows: slices_XY, drawn with x to the left and y upwards, as a patient is looked at: values in [0, 1] in grey,
            whole numbers in the colours of classes, 0 in black.
        captions: one for each row.
        title: above everything.
        path: file to write.
        classes: names of the classes 1, 2, ...; those that are seen are named below.
    Raises:
        OSError: it cannot be written.
    """
    height = TEXT_IN * 2 + len(rows) * (CELL_IN + TEXT_IN)
    figure = Figure(figsize=(CELL_IN * len(columns), height), layout="constrained")
    figure.suptitle(safe_text(title), fontsize=9)
    grid = figure.subplots(len(rows), len(columns), squeeze=False)
    for axes, slices, caption in zip(grid, rows, captions, strict=True):
        for ax, slice_XY in zip(axes, slices, strict=True):
            shown = _coloured(slice_XY) if np.issubdtype(slice_XY.dtype, np.integer) else slice_XY
            upright = shown[::-1, ::-1].swapaxes(0, 1)
            ax.imshow(upright, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            ax.set(xticks=[], yticks=[])
        axes[0].set_xlabel(safe_text(caption, MOST_LETTERS), fontsize=7, loc="left")
    for ax, column in zip(grid[0], columns, strict=True):
        ax.set_title(safe_text(column), fontsize=7)
    if classes:
        maps = [one for row in rows for one in row if np.issubdtype(one.dtype, np.integer)]
        places = sorted({int(place) for one in maps for place in np.unique(one)} - {0})
        marks = [Patch(color=_colour(place), label=safe_text(classes[place - 1], 30)) for place in places]
        figure.legend(handles=marks, loc="outside lower center", ncols=3, fontsize=6, frameon=False)
    with whole_file(path) as beside:
        figure.savefig(beside, dpi=DPI, facecolor="white")


def _colour(place: int) -> str:
    return STRUCTURE_COLOURS[(place - 1) % len(STRUCTURE_COLOURS)]


def _coloured(classes_XY: NDArray[np.number]) -> NDArray[np.float64]:
    """Return the colours of classes, axes x, y, RGB."""
    table = np.array([(0.0, 0.0, 0.0), *(to_rgb(_colour(place)) for place in range(1, int(classes_XY.max()) + 1))])
    return table[classes_XY.astype(np.int64)]
