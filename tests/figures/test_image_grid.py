"""Slices in rows: grey values, and classes in their colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.colors import to_rgb
from PIL import Image

from voco_cli.figures.image_grid import draw_image_grid
from voco_cli.figures.slices import STRUCTURE_COLOURS


def colours_in(path: Path) -> set[tuple[int, ...]]:
    found, counts = np.unique(np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3), axis=0, return_counts=True)
    return {tuple(map(int, one)) for one, count in zip(found, counts, strict=True) if count > 500}


def test_classes_have_colours_and_names_and_grey_stays_grey(tmp_path: Path) -> None:
    grey_XY = np.full((8, 8), 0.5, np.float32)
    classes_XY = np.zeros((8, 8), np.int64)
    classes_XY[:4], classes_XY[4:6] = 1, 3
    columns, captions = ("crop", "as labelled"), ("a",)
    draw_image_grid(columns, [(grey_XY, classes_XY)], captions, "t", tmp_path / "a.png", ("liver", "spleen", "aorta"))
    first, third = (tuple(round(255 * part) for part in to_rgb(STRUCTURE_COLOURS[place])) for place in (0, 2))
    assert {first, third, (0, 0, 0), (128, 128, 128)} <= colours_in(tmp_path / "a.png")
    draw_image_grid(columns, [(grey_XY, grey_XY)], captions, "t", tmp_path / "b.png")
    assert not {first, third} & colours_in(tmp_path / "b.png")
