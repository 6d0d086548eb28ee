"""The picture of `voco locate`: colours over the right part of the body, and the answer in words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib import image
from matplotlib.colors import to_hex

from tests.figures.test_scene import scene
from voco_cli.figures import locate
from voco_cli.figures.locate import LocatedScan, draw_located_scan
from voco_cli.figures.style import CROP_COLOURS, figure_style


def located(grid: tuple[int, int, int] = (2, 2, 1), start: tuple[int, int, int] = (3, 1, 2)) -> LocatedScan:
    """One crop, most of it in base crops 1 and 2 (0.4 each), believed to lie in the last one."""
    shown = scene(grid, start)
    logits = np.zeros(np.prod(grid))
    logits[-1] = 0.5
    return LocatedScan("runs/x", 100, shown, None, logits[None], np.array([2.0]))


def composed(shown: LocatedScan):
    with figure_style():
        return locate._compose(shown)


def test_answers_are_in_numbers() -> None:
    (answer,) = located().answers
    assert answer.centre == (10, 9, 4)  # [5, 15) x [5, 13) x [2, 6)
    assert (answer.likely, answer.logit, answer.label) == (3, 0.5, 0.1)
    assert (answer.true, answer.rank) == (0, 2.0)
    assert (located().mean_rank, located().chance_rank) == (2.0, 1.5)


def test_colours_lie_over_the_grid_in_the_body() -> None:
    page = composed(located())
    _, axial, coronal, answer = page.figure.axes
    body, colours = answer.images
    assert tuple(body.get_extent()) == (0, 25, 0, 40)
    assert answer.get_xlim() == (25, 0)  # patient's right on the left
    # The grid begins at voxel (3, 1) and has 20 x 16 voxels of 1 x 2 mm.
    assert tuple(colours.get_extent()) == (3, 23, 2, 34)
    opacity = np.asarray(colours.get_array())[..., 3]
    np.testing.assert_allclose(opacity, [[0.2, 0.2], [0.2, 0.45]])  # rows are y from below
    values = [text.get_position() for text in answer.texts if text.get_text() == ".50"]
    assert values == [(18, 26)]
    frame = answer.patches[-1]
    assert (frame.get_xy(), frame.get_width(), frame.get_height()) == ((3, 2), 10, 16)
    assert to_hex(frame.get_edgecolor()).upper() == CROP_COLOURS[0]
    assert "axial 4" in [text.get_text() for text in axial.texts]
    assert "coronal 9" in [text.get_text() for text in coronal.texts]


def test_another_scans_body_is_under_the_colours() -> None:
    other = replace(
        scene(), name="other", volume_xyz=np.ones((20, 16, 8), dtype=np.float32), spacing_mm=(2.0, 2.0, 2.0)
    )
    page = composed(replace(located(), target=other))
    answer = page.figure.axes[3]
    assert tuple(answer.images[0].get_extent()) == (0, 40, 0, 32)
    assert tuple(answer.images[1].get_extent()) == (0, 40, 0, 32)
    assert "Where crops of scan are believed to lie in other" in [text.get_text() for text in page.figure.texts]


def test_a_grid_with_a_third_axis_is_shown_layer_by_layer() -> None:
    page = composed(located((2, 2, 2)))
    canvas, *views = page.figure.axes
    assert len(views) == 2 + 2
    upper, lower = views[2:]  # the layer nearest to the head first
    assert np.asarray(upper.images[1].get_array())[1, 1, 3] == pytest.approx(0.45)
    assert np.asarray(lower.images[1].get_array())[..., 3].max() == pytest.approx(0.2)
    assert len(canvas.images) == 2 + 1  # the label's layers, and the scale


def test_many_crops_and_any_name_fit_on_the_page(tmp_path: Path) -> None:
    one = located((4, 4, 1))
    labels = np.eye(16)[np.zeros(12, dtype=int)]
    many = replace(
        one,
        run="[red]$x$" * 30,
        scene=replace(
            one.scene, name="$a_b$<x>" * 30, starts_S3=np.repeat(one.scene.starts_S3, 12, axis=0), labels_SK=labels
        ),
        logits_SK=np.repeat(one.logits_SK, 12, axis=0),
        ranks_S=np.zeros(12),
    )
    draw_located_scan(many, tmp_path / "x.png")
    height, width, _ = image.imread(tmp_path / "x.png").shape
    assert width == 1600
    assert height > 1600
    page = composed(many)
    assert any("8 of 12 crops drawn" in text.get_text() for text in page.figure.texts)
    for ax in page.figure.axes:
        box = ax.get_position()
        assert min(box.x0, box.y0) >= 0
        assert max(box.x1, box.y1) <= 1
