"""Names and colours of figures."""

from __future__ import annotations

from voco_cli.figures.labels.scene import crop_name
from voco_cli.figures.style import CROP_COLOURS, crop_colour, safe_text


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
