"""The picture itself: written whole, in true proportions, whatever the scan's name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib import image
from matplotlib.figure import Figure

from tests.figures.test_crops import scene
from voco_cli.errors import ResourceError
from voco_cli.figures import position_labels
from voco_cli.figures.crops import AugmentedCrops, LabelScene
from voco_cli.figures.position_labels import draw_bars, draw_label_preview
from voco_cli.figures.style import figure_style


def _figure(shown: LabelScene):
    with figure_style():
        return position_labels._compose(shown).figure


@pytest.mark.parametrize(
    "name", [r"$a_b$<x>.nii.gz", r"$\frac{", "[red]x", "\u65e5\u672c.nii", "\udcff.nii", "%s %d {}"]
)
def test_any_name_can_be_drawn(tmp_path: Path, name: str) -> None:
    draw_label_preview(replace(scene(), name=name), tmp_path / "out.png")
    height, width, _ = image.imread(tmp_path / "out.png").shape
    assert width == 2000
    assert height > 1000
    assert [path.name for path in tmp_path.iterdir()] == ["out.png"]


def test_views_keep_true_proportions() -> None:
    figure = _figure(scene())
    width_in, height_in = figure.get_size_inches()
    axial, coronal, sagittal = (
        ax for ax in figure.axes if ax.images and ax.images[0].get_extent()[0] == 0 and len(ax.patches) > 4
    )
    for view, extent_mm in ((axial, (25, 40)), (coronal, (25, 35)), (sagittal, (40, 35))):
        box = view.get_position()
        assert (box.width * width_in) / (box.height * height_in) == pytest.approx(extent_mm[0] / extent_mm[1])


def test_base_crops_are_pulled_apart_and_keep_their_proportions() -> None:
    apart = _figure(scene()).axes[1]
    assert apart.get_xlim()[0] > apart.get_xlim()[1]
    extents = [shown.get_extent() for shown in apart.images]
    gap = 0.02 * 32  # of the larger edge of the grid, 20 x 32 mm
    assert extents[0] == pytest.approx((0, 10, 0, 16))
    assert extents[3] == pytest.approx((10 + gap, 20 + gap, 16 + gap, 32 + gap))
    assert [text.get_text() for text in apart.texts] == ["1", "2", "3", "4"]
    assert apart.get_aspect() == 1


def test_bars_are_the_label() -> None:
    ax = Figure().add_subplot()
    draw_bars(ax, scene(), 0, last=True)
    assert [bar.get_height() for bar in ax.patches] == pytest.approx([0.4, 0.4, 0.1, 0.1])
    texts = [text.get_text() for text in ax.texts]
    assert texts == ["0.40", "0.40", "0.10", "0.10", "sum 1.000"]


def test_three_axes_many_crops_and_augmented_ones_fit_on_the_page(tmp_path: Path) -> None:
    one = scene((2, 2, 2))
    many = replace(
        one,
        starts_S3=np.repeat(one.starts_S3, 12, axis=0),
        labels_SK=np.repeat(one.labels_SK, 12, axis=0),
        augmented=AugmentedCrops(np.zeros((20, 8, 8, 4), dtype=np.float32), ("flip x",) * 20),
    )
    figure = _figure(many)
    for ax in figure.axes:
        box = ax.get_position()
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= 1
        assert box.y1 <= 1
    texts = [text.get_text() for text in figure.texts]
    assert any("(8 of 12 drawn)" in text for text in texts)
    draw_label_preview(one, tmp_path / "three.pdf")
    assert (tmp_path / "three.pdf").read_bytes().startswith(b"%PDF")


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ResourceError, match="cannot be written"):
        draw_label_preview(scene(), tmp_path / "file" / "out.png")
