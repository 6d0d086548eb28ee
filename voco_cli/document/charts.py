"""Curves over steps as places in a drawing of fixed size; the style decides on colours, the script on reading."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.ticker import MaxNLocator

from voco_cli.document.blocks import Cell, Chart, Column, Level, Line, Table, Tick, Value
from voco_cli.foreign_text import visible

WIDTH, HEIGHT = 400, 240
LEFT, RIGHT, TOP, BOTTOM = 48, 390, 10, 212
"""Edges of the plot in the drawing; what is left holds the axes' numbers. The template has the same numbers."""
ROUNDING = 1e-6
"""What lies so little below 0, as a share of the highest value, is 0 but for rounding."""
GREATEST = 1e300
"""Beyond it, axes would overflow."""
MOST_POINTS = 400
MOST_DOTS = 30
FEWEST_DENSE = 150
MOST_VALUES = 60
COLOURS = 8

Point = tuple[int, float]


@dataclass(frozen=True)
class Curve:
    """Values of one name by step, in order of the steps.

    Attributes:
        number: which colour and dash it has, from 1.
    """

    name: str
    points: tuple[Point, ...]
    number: int = 1


@dataclass(frozen=True)
class _Frame:
    """The scales that turn steps and values into places."""

    steps: tuple[float, float]
    values: tuple[float, float]

    def x(self, step: float) -> float:
        low, high = self.steps
        return round(LEFT + (step - low) / (high - low) * (RIGHT - LEFT), 1)

    def y(self, value: float) -> float:
        low, high = self.values
        return round(BOTTOM - (value - low) / (high - low) * (BOTTOM - TOP), 1)


def draw_chart(
    title: str, curves: Sequence[Curve], levels: Sequence[tuple[float, str]] = (), *, zero: bool = False
) -> Chart | None:
    """Lay out curves in one drawing.

    Args:
        levels: values with a name that are drawn across, such as chance.
        zero: the axis begins at 0 where no value lies below, but for rounding.
    Returns:
        None where no curve has a point.
    """
    there = [Curve(one.name, _finite(one.points), one.number) for one in curves]
    thin = [Curve(one.name, thinned(one.points), one.number) for one in there if one.points]
    if not thin:
        return None
    values = [value for one in thin for _, value in one.points] + [value for value, _ in levels]
    low, high = min(values), max(values)
    if zero and low > -ROUNDING * high:
        low = 0.0
    y_ticks = _ticks(low, high)
    steps = sorted({step for one in thin for step, _ in one.points})
    first, last = float(steps[0]), float(steps[-1])
    frame = _Frame(
        (first, last) if last > first else (first - 1, last + 1), (min(low, y_ticks[0]), max(high, y_ticks[-1]))
    )
    x_ticks = [tick for tick in _ticks(*frame.steps, whole=True) if frame.steps[0] <= tick <= frame.steps[1]]
    return Chart(
        title=title,
        description=" ".join(_in_words(one) for one in there if one.points),
        lines=tuple(_line(one, frame) for one in thin),
        x_ticks=tuple(Tick(frame.x(tick), text) for tick, text in zip(x_ticks, _step_texts(x_ticks), strict=True)),
        y_ticks=tuple(Tick(frame.y(tick), short(tick)) for tick in y_ticks),
        levels=tuple(Level(frame.y(value), text) for value, text in levels),
        readings=_readings(thin, steps, frame),
        values=_value_table(title, [one for one in there if one.points]),
    )


def thinned(points: Sequence[Point], most: int = MOST_POINTS) -> tuple[Point, ...]:
    """Return at most so many points of a curve: its ends, and the extremes of each stretch between them."""
    if len(points) <= most:
        return tuple(points)
    inner, stretches = points[1:-1], (most - 2) // 2
    kept: list[Point] = [points[0]]
    for i in range(stretches):
        part = inner[i * len(inner) // stretches : (i + 1) * len(inner) // stretches]
        extremes = {min(part, key=lambda one: one[1]), max(part, key=lambda one: one[1])}
        kept += sorted(extremes)
    return (*kept, points[-1])


def short(value: float) -> str:
    """Return a value with four digits, as an axis or a table shows it: ``0.394``, ``2e-5``, ``12,000``."""
    if abs(value) >= 10_000:
        return f"{value:,.0f}"
    text = f"{value:.4g}"
    if "e" in text:
        digits, _, power = text.partition("e")
        text = f"{digits}e{int(power)}"
    return text.replace("-", "\N{MINUS SIGN}", 1) if text.startswith("-") else text


def _finite(points: Sequence[Point]) -> tuple[Point, ...]:
    return tuple(one for one in points if abs(one[1]) < GREATEST)


def _ticks(low: float, high: float, whole: bool = False) -> list[float]:
    """Return round numbers that reach from below the lowest value to above the highest."""
    if high <= low:
        room = abs(low) * 0.1 or 1.0
        low, high = low - room, high + room
    locator = MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10], integer=whole)
    return [float(tick) for tick in locator.tick_values(low, high)]


def _step_texts(ticks: Sequence[float]) -> list[str]:
    """Return the texts of steps at an axis; tens of thousands as ``50k``."""
    if max(ticks, default=0) < 10_000 or any(tick % 1000 for tick in ticks):
        return [f"{tick:,.0f}" for tick in ticks]
    return [f"{tick / 1000:,.0f}k" if tick else "0" for tick in ticks]


def _line(one: Curve, frame: _Frame) -> Line:
    places = [(frame.x(step), frame.y(value)) for step, value in one.points]
    path = "M" + " L".join(f"{x:g} {y:g}" for x, y in places)
    dots = tuple(places) if len(places) <= MOST_DOTS else ()
    return Line(one.name, path, dots, (one.number - 1) % COLOURS + 1, dense=len(places) > FEWEST_DENSE)


def _readings(curves: Sequence[Curve], steps: Sequence[int], frame: _Frame) -> str:
    """Return as JSON what the script says of the values under the pointer; numbers with four digits."""
    lines = []
    for one in curves:
        by_step = dict(one.points)
        found = [by_step.get(step) for step in steps]
        values = [None if value is None else short(value) for value in found]
        places = [None if value is None else frame.y(value) for value in found]
        lines.append(
            {"name": visible(one.name), "number": (one.number - 1) % COLOURS + 1, "values": values, "y": places}
        )
    held = {"steps": list(steps), "x": [frame.x(step) for step in steps], "lines": lines}
    return json.dumps(held, separators=(",", ":"), allow_nan=False)


def _in_words(one: Curve) -> str:
    first, last = one.points[0], one.points[-1]
    least, most = min(one.points, key=lambda point: point[1]), max(one.points, key=lambda point: point[1])
    if len(one.points) == 1:
        return f"{one.name}: {short(first[1])} at step {first[0]}."
    return (
        f"{one.name}: {short(first[1])} at step {first[0]}, {short(last[1])} at step {last[0]}; "
        f"least {short(least[1])} at step {least[0]}, greatest {short(most[1])} at step {most[0]}."
    )


def _value_table(title: str, curves: Sequence[Curve]) -> Table:
    """Return the values of every so many steps, the first and the last among them."""
    steps = sorted({step for one in curves for step, _ in one.points})
    shown = steps
    if len(steps) > MOST_VALUES:
        shown = sorted({steps[round(i * (len(steps) - 1) / (MOST_VALUES - 1))] for i in range(MOST_VALUES)})
    by_step = [dict(one.points) for one in curves]
    rows: list[list[Value]] = []
    for step in shown:
        found = (values.get(step) for values in by_step)
        rows.append([step, *(None if value is None else Cell(short(value), value) for value in found)])
    part = "" if len(shown) == len(steps) else f", {len(shown)} of {len(steps)} steps"
    columns = [Column("step", True), *(Column(one.name, True) for one in curves)]
    return Table.of(f"{title}: values{part}", columns, rows, folded="values as a table")
