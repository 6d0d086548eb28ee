"""The picture of a validation: the same scale for labels and logits, and everything as the patient lies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib import image

from voco_cli.errors import ResourceError
from voco_cli.figures import location
from voco_cli.figures.location import LocatedCrop, LocationPanel, draw_location
from voco_cli.figures.style import figure_style


def panel(grid: tuple[int, int, int] = (2, 2, 1), count: int = 1, scan: str = "one") -> LocationPanel:
    """A crop that lies right and in front (the last base crop of layer 0), and is believed to lie left and behind."""
    label, logits = np.zeros(grid), np.zeros(grid)
    label[-1, -1, 0], logits[0, 0, 0] = 0.75, 0.5
    slice_XY = np.zeros((4, 6))
    slice_XY[3, 5] = 1  # right, front
    crop = LocatedCrop(scan, slice_XY, (2.0, 1.0), label.reshape(-1), logits.reshape(-1), 2.0)
    return LocationPanel(100, 1.234, 0.567, grid, (8.0, 6.0), [crop] * count)


def composed(shown: LocationPanel):
    with figure_style():
        return location._compose(shown)


def test_slice_label_and_logits_lie_as_the_patient_does() -> None:
    (canvas,) = composed(panel()).figure.axes
    cut, label, logits, _ = canvas.images
    assert np.argwhere(np.asarray(cut.get_array()) == 1).tolist() == [[0, 0]]
    assert np.asarray(label.get_array()).tolist() == [[0.75, 0], [0, 0]]
    assert np.asarray(logits.get_array()).tolist() == [[0, 0], [0, 0.5]]
    assert label.norm is logits.norm
    # Both frames are at the base crop with the largest label.
    corners = [frame.get_xy() for frame in canvas.patches]
    assert corners == [(shown.get_extent()[0], shown.get_extent()[3]) for shown in (label, logits)]


def test_cells_and_pixels_keep_their_proportions() -> None:
    (canvas,) = composed(panel()).figure.axes
    for shown, proportion in zip(canvas.images, (4 * 2.0 / (6 * 1.0), 8 / 6, 8 / 6), strict=False):
        left, right, bottom, top = shown.get_extent()
        assert (right - left) / (bottom - top) == pytest.approx(proportion)


def test_layers_are_shown_one_by_one_the_head_on_top() -> None:
    page = composed(panel((2, 2, 3)))
    images = page.figure.axes[0].images[1:-1]
    assert len(images) == 6
    tops = [shown.get_extent()[3] for shown in images]
    assert tops == sorted(tops)
    hot = [number for number, shown in enumerate(images) if np.asarray(shown.get_array()).any()]
    assert hot == [2, 5]  # layer 0 is the lowest of both
    names = [text.get_text() for text in page.figure.texts if text.get_text().startswith("layer")]
    assert names == ["layer 3", "layer 2", "layer 1"] * 2


def test_the_title_states_step_rank_and_correlation() -> None:
    texts = [text.get_text() for text in composed(panel((4, 4, 1))).figure.texts]
    assert "Step 100: where held-out crops are believed to lie" in texts
    assert "all held-out crops: mean rank 1.23 (0 is first, guessing 7.5), correlation 0.57" in texts
    assert "true base crop: rank 2" in texts


@pytest.mark.parametrize(("grid", "values"), [((4, 4, 1), True), ((8, 8, 1), False)])
def test_values_that_nobody_could_read_are_left_to_the_colours(grid: tuple[int, int, int], values: bool) -> None:
    (canvas,) = composed(panel(grid)).figure.axes
    assert (".75" in [text.get_text() for text in canvas.texts]) is values


@pytest.mark.parametrize("name", [r"$a_b$<x>", "[red]x", "\u65e5\u672c", "a" * 300])
@pytest.mark.parametrize("count", [1, 6])
def test_any_name_and_number_of_crops_fit_on_the_page(tmp_path: Path, name: str, count: int) -> None:
    shown = panel(count=count, scan=name)
    draw_location(shown, tmp_path / "figures" / "step-000100.png")
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["step-000100.png"]
    height, width, _ = image.imread(tmp_path / "figures" / "step-000100.png").shape
    assert (width, height) > (500, 300)
    page = composed(shown)
    for panel_shown in page.figure.axes[0].images:
        left, right, bottom, top = panel_shown.get_extent()
        assert 0 <= left < right <= page.width
        assert 0 <= top < bottom <= page.height


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ResourceError, match="cannot be written"):
        draw_location(replace(panel(), step=1), tmp_path / "file" / "x.png")
