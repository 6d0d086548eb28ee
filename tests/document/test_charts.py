"""Places of points and ticks, worked out by hand, and what a long curve keeps."""

import json

import pytest

from voco_cli.document.charts import Curve, draw_chart, short, thinned


def test_points_lie_where_steps_and_values_say() -> None:
    # The plot is 342 wide from 48 and 202 high from 212 upwards; the axis runs from 0 to 4.
    chart = draw_chart("Loss", [Curve("loss", ((0, 4.0), (10, 1.0), (20, 0.0)))])
    assert chart is not None
    assert chart.lines[0].path == "M48 10 L219 161.5 L390 212"
    assert chart.lines[0].dots == ((48.0, 10.0), (219.0, 161.5), (390.0, 212.0))
    assert [(tick.place, tick.text) for tick in chart.y_ticks] == [
        (212.0, "0"),
        (161.5, "1"),
        (111.0, "2"),
        (60.5, "3"),
        (10.0, "4"),
    ]
    assert [tick.text for tick in chart.x_ticks] == ["0", "5", "10", "15", "20"]
    assert chart.description == "loss: 4 at step 0, 0 at step 20; least 0 at step 20, greatest 4 at step 0."


def test_readings_hold_every_step_of_every_line() -> None:
    chart = draw_chart("x", [Curve("a", ((0, 0.0), (10, 2.0))), Curve("b", ((5, 1.0),), 2)])
    assert chart is not None
    assert json.loads(chart.readings) == {
        "steps": [0, 5, 10],
        "x": [48.0, 219.0, 390.0],
        "lines": [
            {"name": "a", "number": 1, "values": ["0", None, "2"], "y": [212.0, None, 10.0]},
            {"name": "b", "number": 2, "values": [None, "1", None], "y": [None, 111.0, None]},
        ],
    }
    assert [[cell.text for cell in row.cells] for row in chart.values.rows] == [
        ["0", "0", "-"],
        ["5", "-", "1"],
        ["10", "2", "-"],
    ]


def test_chance_widens_the_axis() -> None:
    chart = draw_chart("rank", [Curve("rank", ((0, 2.0), (1, 1.0)))], [(8.0, "chance")], zero=True)
    assert chart is not None
    assert (chart.levels[0].place, chart.levels[0].text) == (10.0, "chance")
    assert chart.y_ticks[0].text == "0"


def test_rounding_below_zero_does_not_lower_the_axis() -> None:
    for least, text in ((-2e-9, "0"), (-0.1, "\N{MINUS SIGN}0.25")):
        chart = draw_chart("distance", [Curve("d", ((0, least), (1, 1.0)))], zero=True)
        assert chart is not None
        assert chart.y_ticks[0].text == text


def test_many_steps_are_written_short_and_drawn_thin() -> None:
    few = draw_chart("x", [Curve("a", ((0, 0.0), (9000, 1.0)))])
    many = draw_chart("x", [Curve("a", tuple((1000 * n, 1.0) for n in range(251)))])
    assert few is not None
    assert many is not None
    assert [tick.text for tick in few.x_ticks] == ["0", "2,000", "4,000", "6,000", "8,000"]
    assert [tick.text for tick in many.x_ticks] == ["0", "50k", "100k", "150k", "200k", "250k"]
    assert (few.lines[0].dense, many.lines[0].dense) == (False, True)


def test_values_that_are_not_finite_are_left_out_and_nothing_is_no_chart() -> None:
    nan, inf = float("nan"), float("inf")
    chart = draw_chart("x", [Curve("a", ((0, nan), (1, 3.0), (2, inf), (3, -1e305))), Curve("b", ((0, nan),))])
    assert chart is not None
    assert [line.name for line in chart.lines] == ["a"]
    assert chart.description == "a: 3 at step 1."
    assert draw_chart("x", [Curve("a", ((0, nan),))]) is None
    assert draw_chart("x", []) is None


def test_a_long_curve_keeps_its_ends_and_its_extremes() -> None:
    points = [(step, float(step % 7)) for step in range(10_000)]
    points[5_003], points[7_777] = (5_003, -50.0), (7_777, 90.0)
    kept = thinned(points)
    assert len(kept) <= 400
    assert kept[0] == points[0]
    assert kept[-1] == points[-1]
    assert {points[5_003], points[7_777]} <= set(kept)
    assert list(kept) == sorted(set(kept))
    assert thinned(points[:400]) == tuple(points[:400])


def test_a_long_curve_is_no_long_table() -> None:
    chart = draw_chart("x", [Curve("a", tuple((step, 1.0) for step in range(1000)))])
    assert chart is not None
    assert len(chart.values.rows) == 60
    assert (chart.values.rows[0].cells[0].text, chart.values.rows[-1].cells[0].text) == ("0", "999")
    assert chart.values.caption == "x: values, 60 of 1000 steps"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.39412, "0.3941"),
        (2e-5, "2e-5"),
        (-1.5, "\N{MINUS SIGN}1.5"),
        (12345.0, "12,345"),
        (0.0, "0"),
        (1.5e-7, "1.5e-7"),
    ],
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert short(value) == text
