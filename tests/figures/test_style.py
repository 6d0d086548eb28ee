"""Names and colours of figures."""

from __future__ import annotations

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from voco_cli.figures.crops import crop_name
from voco_cli.figures.style import CROP_COLOURS, crop_colour, figure_style, fitting, safe_text, wrapped


def test_text_from_outside_is_one_drawable_line() -> None:
    assert safe_text("$a_b$<x>.nii.gz") == "$a_b$<x>.nii.gz"
    assert safe_text("a\nb\tc\x00\u65e5\udcff") == "a?b?c???"
    assert safe_text("Größe") == "Größe"


def test_long_text_keeps_both_ends() -> None:
    short = safe_text("begin" + "x" * 200 + "end.nii.gz", 40)
    assert len(short) == 40
    assert short.startswith("begin")
    assert short.endswith("end.nii.gz")


def test_crops_have_names_and_distinct_colours() -> None:
    assert [crop_name(index) for index in (0, 1, 9)] == ["r1", "r2", "r10"]
    assert len(set(CROP_COLOURS)) == 7
    assert crop_colour(7) == crop_colour(0)


@pytest.mark.parametrize(
    "text", ["W" * 300, "a case " * 90, "i" * 300, "x_" * 150, "\N{CJK UNIFIED IDEOGRAPH-4E00}" * 200]
)
def test_lines_are_no_wider_than_told(text: str) -> None:
    # As the drawing itself measures them.
    lines = [fitting(text, 3.0, 9.0, "bold"), *wrapped(text, 3.0, 9.0, "bold")]
    with figure_style():
        figure = Figure()
        renderer = FigureCanvasAgg(figure).get_renderer()
        for line in lines:
            width_px = figure.text(0, 0, line, size=9.0, weight="bold").get_window_extent(renderer).width
            assert 0 < width_px / figure.dpi < 3.03
    assert len(lines) > 2
    assert all(len(line) > 5 for line in lines[:2])


def test_short_lines_stay_as_they_are() -> None:
    assert fitting("a case", 3.0, 9.0) == "a case"
    assert wrapped("a case", 3.0, 9.0) == ["a case"]
