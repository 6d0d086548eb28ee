"""Slices in rows and columns: what an objective shows of its validation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from voco_cli.atomic_files import whole_file
from voco_cli.figures.style import safe_text

CELL_IN, TEXT_IN, DPI = 1.9, 0.32, 150
MOST_LETTERS = 60


def draw_image_grid(
    columns: Sequence[str],
    rows: Sequence[Sequence[NDArray[np.float32]]],
    captions: Sequence[str],
    title: str,
    path: Path,
) -> None:
    """Write a PNG: a row of slices for each crop, its caption below them.

    Args:
        columns: title of each column.
        rows: slices_XY, values in [0, 1], drawn with x to the left and y upwards, as a patient is looked at.
        captions: one for each row.
        title: above everything.
        path: file to write.
    Raises:
        OSError: it cannot be written.
    """
    height = TEXT_IN * 2 + len(rows) * (CELL_IN + TEXT_IN)
    figure = Figure(figsize=(CELL_IN * len(columns), height), layout="constrained")
    figure.suptitle(safe_text(title), fontsize=9)
    grid = figure.subplots(len(rows), len(columns), squeeze=False)
    for axes, slices, caption in zip(grid, rows, captions, strict=True):
        for ax, slice_XY in zip(axes, slices, strict=True):
            ax.imshow(slice_XY[::-1, ::-1].T, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            ax.set(xticks=[], yticks=[])
        axes[0].set_xlabel(safe_text(caption, MOST_LETTERS), fontsize=7, loc="left")
    for ax, column in zip(grid[0], columns, strict=True):
        ax.set_title(safe_text(column), fontsize=7)
    with whole_file(path) as beside:
        figure.savefig(beside, dpi=DPI, facecolor="white")
