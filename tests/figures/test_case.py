"""The picture of a case: window, proportions, sides, overlays, volumes, warnings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import image
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tests.figures.test_case_scene import ct, labelled, made, scene_of
from voco_cli.errors import ResourceError
from voco_cli.evaluate.patient_case import PatientCase
from voco_cli.figures import case as case_preview
from voco_cli.figures.case import default_window, draw_case_preview, ml_text, window_words
from voco_cli.figures.case_scene import CaseScene
from voco_cli.figures.style import figure_style


def test_window_by_modality() -> None:
    assert default_window(made(ct(), labelled())) == ((-175.0, 250.0), "-175 to 250 HU")
    assert default_window(made(ct() * 0 + 7), "CT")[0] == (-175.0, 250.0)
    lung = ct()
    lung[labelled() > 0] = -800
    assert default_window(made(lung, labelled())) == ((-1000.0, 400.0), "-1000 to 400 HU")
    ramp = np.arange(1001, dtype=np.float32).reshape(7, 11, 13)
    assert default_window(made(ramp)) == ((5.0, 995.0), "5 to 995 (percentiles 0.5 and 99.5)")
    ramp[0, 0, 0] = np.nan
    assert default_window(made(ramp))[0] == pytest.approx((6.0, 995.0), abs=0.01)
    assert default_window(made(np.full((4, 4, 4), 3.0)))[0] == (2.0, 4.0)


@pytest.mark.parametrize(
    ("window", "words"),
    [
        ((-175.0, 250.0), "-175 to 250"),
        ((3.14159, 812.7182), "3 to 813"),
        ((-0.3, 1234567.8), "0 to 1234568"),
        ((0.001234, 0.9), "0.001 to 0.9"),
        ((2.0, 4.0), "2 to 4"),
        ((-1.0, 12.3456), "-1 to 12.3"),
        ((5.0, 5.0), "5 to 5"),
    ],
)
def test_window_in_round_numbers(window: tuple[float, float], words: str) -> None:
    assert window_words(*window) == words


def figure_of(scene: CaseScene) -> Figure:
    with figure_style():
        return case_preview._compose(scene).figure


def panels(figure: Figure) -> list[Axes]:
    return [ax for ax in figure.axes if ax.images]


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in (*figure.texts, *(text for one in figure.legends for text in one.get_texts()))]


def pixels(ax: Axes) -> np.ndarray[Any, Any]:
    return np.asarray(ax.images[0].get_array())


def test_views_keep_true_proportions_and_have_one_scale() -> None:
    scene = scene_of(made(ct(), labelled()))
    figure = figure_of(scene)
    width_in, height_in = figure.get_size_inches()
    x_mm, y_mm, z_mm = scene.shown_mm
    scales = []
    for ax, (across_mm, up_mm) in zip(panels(figure)[:3], ((x_mm, y_mm), (x_mm, z_mm), (y_mm, z_mm)), strict=True):
        box = ax.get_position()
        scales += [box.width * width_in / across_mm, box.height * height_in / up_mm]
    assert scales == pytest.approx([scales[0]] * 6)
    for ax in panels(figure):
        box = ax.get_position()
        assert min(box.x0, box.y0, 1 - box.x1, 1 - box.y1) >= 0


def test_sides_of_the_patient_are_at_the_edges() -> None:
    figure = figure_of(scene_of(made(ct(), labelled())))
    for ax, (left, right, top, bottom) in zip(panels(figure)[:3], ("RLAP", "RLSI", "APSI"), strict=True):
        places = {text.get_text(): text.get_position() for text in ax.texts if text.get_transform() == ax.transAxes}
        assert places[left][0] < 0.1 < 0.9 < places[right][0]
        assert places[bottom][1] < 0.1 < 0.9 < places[top][1]


def test_voxels_lie_where_the_letters_say() -> None:
    # An MR, shown whole: bright where the patient is right, front and up.
    values = np.zeros((20, 20, 20), np.float32)
    values[10:, 10:, 10:] = 250
    case = PatientCase(values, None, None, (1.0, 1.0, 1.0), (False, False, False))
    scene = replace(scene_of(case), planes=(15, 15, 15), window=(0.0, 250.0))
    for ax in panels(figure_of(scene))[:3]:
        shown = pixels(ax)[..., 0]
        half = len(shown) // 2
        assert shown[: half - 20, : half - 20].min() > 250  # top left: right and front, right and up, front and up
        assert shown[half + 20 :].max() < 5
        assert shown[:, half + 20 :].max() < 5


def test_label_is_filled_and_prediction_outlined() -> None:
    values = np.zeros((20, 20, 20), np.float32)
    label = np.zeros((20, 20, 20), np.uint8)
    label[4:16, 4:16, 4:16] = 1
    colour = np.array([0xE6, 0x9F, 0x00])
    black = (0.0, 250.0)
    scene = scene_of(PatientCase(values, label, label, (1.0, 1.0, 1.0), (False, False, False)))
    shown = pixels(panels(figure_of(replace(scene, window=black)))[0])
    middle = len(shown) // 2
    assert np.abs(shown[middle, middle] - colour * 110 / 255).max() <= 1  # half transparent on black
    border = int(np.ceil(len(shown) * 4 / 20))
    assert shown[middle, border].tolist() == colour.tolist()  # opaque
    alone = scene_of(PatientCase(values, None, label, (1.0, 1.0, 1.0), (False, False, False)))
    shown = pixels(panels(figure_of(replace(alone, window=black)))[0])
    assert shown[middle, middle].tolist() == [0, 0, 0]
    assert shown[middle, border].tolist() == colour.tolist()


def test_legend_tells_volumes_values_of_no_class_and_warnings() -> None:
    found = texts(figure_of(scene_of(made(ct(), labelled()))))
    assert "liver  2.00 ml" in found
    assert "spleen  0.160 ml" in found
    assert "Values of no class, not coloured: 9 (1 voxels)." in found
    assert "Warning: a warning" in found
    moved = np.roll(labelled(), 1, axis=0)
    both = texts(figure_of(scene_of(made(ct(), labelled(), moved))))
    assert "spleen  0.160 ml · 0.160 ml · Dice 0.750" in both  # 24 of 32 voxels are the same


@pytest.mark.parametrize(
    ("volume", "text"),
    [
        (0.0, "0 ml"),
        (1523.4, "1520 ml"),
        (999.9, "1000 ml"),
        (15.24, "15.2 ml"),
        (0.0152, "0.0152 ml"),
        (2.0, "2.00 ml"),
    ],
)
def test_volumes_have_three_digits(volume: float, text: str) -> None:
    assert ml_text(volume) == text


def test_slices_carry_the_number_of_the_file() -> None:
    case = replace(made(ct(), labelled()), turned=(False, False, True))
    figure = figure_of(scene_of(case))
    corners = [text.get_text() for ax in panels(figure) for text in ax.texts]
    assert "axial, slice 12" in corners  # slice 7 of 20 from the other end
    assert {"15", "14", "12", "11"} <= set(corners)


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg"])
def test_written_whole_whatever_the_name(tmp_path: Path, suffix: str) -> None:
    scene = replace(scene_of(made(ct(), labelled())), name=r"$\frac{ [red]x 日本")
    draw_case_preview(scene, tmp_path / f"out{suffix}")
    assert [path.name for path in tmp_path.iterdir()] == [f"out{suffix}"]
    if suffix == ".png":
        assert image.imread(tmp_path / "out.png").shape[1] == 2000


def test_one_slice_and_no_label_make_a_picture(tmp_path: Path) -> None:
    draw_case_preview(scene_of(made(ct()), 1), tmp_path / "out.png")
    assert (tmp_path / "out.png").exists()


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ResourceError, match="cannot be written"):
        draw_case_preview(scene_of(made(ct())), tmp_path / "file" / "out.png")
