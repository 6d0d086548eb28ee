"""Where a network believes crops to lie: the picture of `voco locate` and the picture of a validation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib import image
from matplotlib.colors import to_hex

from tests.figures.test_crops import scene
from tests.figures.test_heat_map import proportion, seen
from voco_cli.errors import ResourceError
from voco_cli.figures import locate
from voco_cli.figures.locate import LocatedScan, LocationPanel, draw_located_scan, draw_location
from voco_cli.figures.style import CROP_COLOURS, FigurePage, figure_style
from voco_cli.objectives.voco.objective import LocatedCrop


def inside_page(page: FigurePage) -> bool:
    boxes = [ax.get_position() for ax in page.figure.axes]
    return all(min(box.x0, box.y0) >= 0 and max(box.x1, box.y1) <= 1 for box in boxes)


def located(grid: tuple[int, int, int] = (2, 2, 1), start: tuple[int, int, int] = (3, 1, 2)) -> LocatedScan:
    """One crop, most of it in base crops 1 and 2 (0.4 each), believed to lie in the last one."""
    shown = scene(grid, start)
    logits = np.zeros(np.prod(grid))
    logits[-1] = 0.5
    return LocatedScan("runs/x", 100, shown, None, logits[None], np.array([2.0]))


def scan_page(shown: LocatedScan) -> FigurePage:
    with figure_style():
        return locate._compose_scan(shown)


def test_answers_are_in_numbers() -> None:
    (answer,) = located().answers
    assert answer.centre == (10, 9, 4)  # [5, 15) x [5, 13) x [2, 6)
    assert (answer.likely, answer.logit, answer.label) == (3, 0.5, 0.1)
    assert (answer.true, answer.rank) == (0, 2.0)
    assert (located().mean_rank, located().chance_rank) == (2.0, 1.5)


def test_colours_lie_over_the_grid_in_the_body() -> None:
    axial, coronal, answer, label, _ = scan_page(located()).figure.axes
    body, colours = answer.images
    assert tuple(body.get_extent()) == (0, 25, 0, 40)
    assert (answer.get_xlim(), answer.get_ylim()) == ((25, 0), (0, 40))  # patient's right on the left
    # The grid begins at voxel (3, 1) and has 20 x 16 voxels of 1 x 2 mm.
    assert tuple(colours.get_extent()) == (3, 23, 2, 34)
    opacity = np.asarray(colours.get_array())[..., 3]
    np.testing.assert_allclose(opacity, [[0.2, 0.2], [0.2, 0.45]])  # rows are y from below
    assert [text.get_position() for text in answer.texts if text.get_text() == ".50"] == [(18, 26)]
    (frame,) = answer.patches
    assert (frame.get_xy(), frame.get_width(), frame.get_height()) == ((3, 2), 10, 16)
    assert to_hex(frame.get_edgecolor()).upper() == CROP_COLOURS[0]
    assert "axial 4" in [text.get_text() for text in axial.texts]
    assert "coronal 9" in [text.get_text() for text in coronal.texts]
    assert seen(label) == [[0.1, 0.4], [0.1, 0.4]]
    expected = (25 / 40, 25 / 35, 25 / 40, 20 / 32)
    assert [proportion(ax) for ax in (axial, coronal, answer, label)] == pytest.approx(expected)


def test_another_scans_body_is_under_the_colours() -> None:
    other = replace(
        scene(), name="other", volume_xyz=np.ones((20, 16, 8), dtype=np.float32), spacing_mm=(2.0, 2.0, 2.0)
    )
    page = scan_page(replace(located(), target=other))
    answer = page.figure.axes[2]
    assert tuple(answer.images[0].get_extent()) == (0, 40, 0, 32)
    assert tuple(answer.images[1].get_extent()) == (0, 40, 0, 32)
    assert "Where crops of scan are believed to lie in other" in [text.get_text() for text in page.figure.texts]


def test_a_grid_with_a_third_axis_is_shown_layer_by_layer() -> None:
    views = scan_page(located((2, 2, 2))).figure.axes
    assert len(views) == 2 + 2 + 2 + 1  # two cuts, the answer's and the label's layers, the scale
    upper, lower = views[2:4]  # the layer nearest to the head first
    assert np.asarray(upper.images[1].get_array())[1, 1, 3] == pytest.approx(0.45)
    assert np.asarray(lower.images[1].get_array())[..., 3].max() == pytest.approx(0.2)


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
    page = scan_page(replace(many, target=replace(many.scene, name="W" * 300)))
    assert any("8 of 12 crops drawn" in text.get_text() for text in page.figure.texts)
    assert inside_page(page)
    title = next(text for text in page.figure.texts if text.get_text().startswith("Where"))
    assert title.get_window_extent().x1 <= page.width * page.figure.dpi


def panel(grid: tuple[int, int, int] = (2, 2, 1), count: int = 1, scan: str = "one") -> LocationPanel:
    """A crop that lies right and in front (the last base crop of layer 0), and is believed to lie left and behind."""
    label, logits = np.zeros(grid), np.zeros(grid)
    label[-1, -1, 0], logits[0, 0, 0] = 0.75, 0.5
    slice_XY = np.zeros((4, 6))
    slice_XY[3, 5] = 1  # right, front
    crop = LocatedCrop(scan, slice_XY, (2.0, 1.0), label.reshape(-1), logits.reshape(-1), 2.0)
    return LocationPanel(100, 1.234, 0.567, grid, (8.0, 6.0), [crop] * count)


def panel_page(shown: LocationPanel) -> FigurePage:
    with figure_style():
        return locate._compose_panel(shown)


def test_slice_label_and_logits_lie_as_the_patient_does() -> None:
    cut, label, logits, _ = panel_page(panel()).figure.axes
    assert np.argwhere(np.array(seen(cut)) == 1).tolist() == [[0, 0]]
    assert seen(label) == [[0.75, 0], [0, 0]]
    assert seen(logits) == [[0, 0], [0, 0.5]]
    assert label.images[0].norm is logits.images[0].norm
    # Both frames are at the base crop with the largest label.
    assert [ax.patches[0].get_xy() for ax in (label, logits)] == [(0.5, 0.5)] * 2


def test_cells_and_pixels_keep_their_proportions() -> None:
    cut, label, logits, _ = panel_page(panel()).figure.axes
    assert [proportion(ax) for ax in (cut, label, logits)] == pytest.approx([4 * 2.0 / (6 * 1.0), 8 / 6, 8 / 6])


def test_layers_are_shown_one_by_one_the_head_on_top() -> None:
    page = panel_page(panel((2, 2, 3)))
    maps = page.figure.axes[1:-1]
    assert len(maps) == 6
    tops = [ax.get_position().y1 for ax in maps]
    assert tops == sorted(tops, reverse=True)
    assert [number for number, ax in enumerate(maps) if np.any(seen(ax))] == [2, 5]  # layer 0 is the lowest of both
    names = [text.get_text() for text in page.figure.texts if text.get_text().startswith("layer")]
    assert names == ["layer 3", "layer 2", "layer 1"] * 2


def test_the_title_states_step_rank_and_correlation() -> None:
    figure = panel_page(panel((4, 4, 1))).figure
    texts = [text.get_text() for text in figure.texts]
    assert "Step 100: where held-out crops are believed to lie" in texts
    assert "all held-out crops: mean rank 1.23 (0 is first, guessing 7.5), correlation 0.57" in texts
    assert "true base crop: rank 2" in [ax.get_xlabel() for ax in figure.axes]


@pytest.mark.parametrize(("grid", "printed"), [((4, 4, 1), True), ((8, 8, 1), False)])
def test_values_that_nobody_could_read_are_left_to_the_colours(grid: tuple[int, int, int], printed: bool) -> None:
    texts = [text.get_text() for ax in panel_page(panel(grid)).figure.axes for text in ax.texts]
    assert (".75" in texts) is printed


@pytest.mark.parametrize("name", [r"$a_b$<x>", "[red]x", "\u65e5\u672c", "a" * 300])
@pytest.mark.parametrize("count", [1, 6])
def test_any_name_and_number_of_crops_fit_on_the_page(tmp_path: Path, name: str, count: int) -> None:
    shown = panel(count=count, scan=name)
    draw_location(shown, tmp_path / "figures" / "step-000100.png")
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["step-000100.png"]
    height, width, _ = image.imread(tmp_path / "figures" / "step-000100.png").shape
    assert (width, height) > (500, 300)
    assert inside_page(panel_page(shown))


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ResourceError, match="cannot be written"):
        draw_location(replace(panel(), step=1), tmp_path / "file" / "x.png")
