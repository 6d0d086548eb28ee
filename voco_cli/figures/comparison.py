"""One picture of a comparison: the difference of each class with its interval, and every case as a line."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from voco_cli.evaluate.compared_runs import Comparison, ComparisonPanels
from voco_cli.evaluate.comparison import Difference
from voco_cli.evaluate.tables import p_value
from voco_cli.figures.style import FAINT, INK, figure_style, image_bytes, safe_text

DPI = 200
WIDTH_IN = 9.0
ROW_IN = 0.26
RUN_STEP = 0.8
"""What the runs of one row share of it."""
SIGNIFICANT = 0.05
RUN_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
FIRST_COLOUR = "#5F5F5F"
MOST_DOTS = 400
MOST_LETTERS = 28
"""Of the name of a row."""


def draw_forest(axes: Axes, panels: ComparisonPanels, others: Sequence[str]) -> None:
    """Draw one row a name, in the order in which they come, one mark a run; rows of whole runs are shaded and bold."""
    rows = list(dict.fromkeys(row for row, _ in panels.marks))
    whole = {rows.index(row) for row, one in panels.marks if one.part is None}
    axes.axvline(0, color=INK, linewidth=0.8, zorder=1)
    for y in whole:
        axes.axhspan(y - 0.5, y + 0.5, color="#F0F0F0", zorder=0, linewidth=0)
    for row, one in panels.marks:
        index = others.index(one.run)
        y_mark = rows.index(row) + RUN_STEP * ((index + 0.5) / len(others) - 0.5)
        _draw_mark(axes, one, y_mark, RUN_COLOURS[index % len(RUN_COLOURS)], panels.digits)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks(range(len(rows)), [safe_text(name, MOST_LETTERS) for name in rows])
    for y in whole:
        axes.get_yticklabels()[y].set_fontweight("bold")
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    axes.spines[["top", "right", "left"]].set_visible(False)


def _draw_mark(axes: Axes, one: Difference, y: float, colour: str, digits: int) -> None:
    """Draw a difference with its interval, filled where its corrected p is below `SIGNIFICANT`."""
    if not math.isnan(one.low):
        axes.plot((one.low, one.high), (y, y), color=colour, linewidth=1.4, solid_capstyle="butt", zorder=2)
    filled = one.p_holm < SIGNIFICANT  # false for NaN
    marker = "D" if one.part is None else "o"
    axes.plot(one.difference, y, marker, ms=5, mfc=colour if filled else "white", mec=colour, mew=1.2, zorder=3)
    if not math.isnan(one.difference):
        axes.annotate(
            f"{one.difference:+.{digits}f}  p {p_value(one.p_holm).replace('<', '< ')}",
            (1.02, y),
            xycoords=("axes fraction", "data"),
            size=6.5,
            va="center",
            color=colour,
            annotation_clip=False,
        )


def draw_paired_dots(axes: Axes, values_RN: NDArray[np.float64], runs: Sequence[str], better: float = 1.0) -> None:
    """Draw every case's value in each run, joined by a line, and the runs' means as bars.

    Between two runs, better is blue and worse is orange.

    Args:
        values_RN: by run and case.
        better: 1 where higher values are better, else -1.
    """
    columns = np.arange(len(runs))
    shown = np.flatnonzero(~np.isnan(values_RN).all(axis=0))[:MOST_DOTS]
    # A slight sidewards shift by rank keeps equal dots apart without a random draw.
    shift = 0.10 * (np.argsort(np.argsort(shown * 7919 % 101)) / max(len(shown) - 1, 1) - 0.5)
    for n, aside in zip(shown, shift, strict=True):
        gain = better * (values_RN[-1, n] - values_RN[0, n])
        colour = RUN_COLOURS[0] if gain > 0 else RUN_COLOURS[1] if gain < 0 else FAINT
        dots = [colour] * 2
        if len(columns) > 2:  # the colours tell the runs apart then
            colour, dots = FAINT, [FIRST_COLOUR, *(RUN_COLOURS[i % len(RUN_COLOURS)] for i in range(len(columns) - 1))]
        axes.plot(columns + aside, values_RN[:, n], color=colour, linewidth=0.6, alpha=0.45, zorder=1)
        axes.scatter(columns + aside, values_RN[:, n], s=7, color=dots, alpha=0.7, linewidths=0, zorder=2)
    for column, of_run in zip(columns, values_RN, strict=True):
        there = of_run[~np.isnan(of_run)]
        if there.size:
            axes.plot((column - 0.2, column + 0.2), (there.mean(),) * 2, color=INK, linewidth=2, zorder=3)
    axes.set_xlim(-0.45, len(columns) - 0.55)
    axes.set_xticks(columns, [safe_text(run, 14 if len(columns) > 2 else 20) for run in runs])
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y")


def draw_comparison(comparison: Comparison, metric: str = "", file_format: str = "png") -> bytes:
    """Draw a comparison: a forest plot by class or by figure, and paired dots of every case.

    Args:
        comparison: of two runs or more.
        metric: one of ``comparison.metrics``; by default the first.
        file_format: png, pdf or svg.
    Returns:
        The file's content.
    """
    panels = comparison.panels(metric or next(iter(comparison.metrics)))
    with figure_style():
        return image_bytes(compose(comparison, panels), file_format, DPI)


def compose(comparison: Comparison, panels: ComparisonPanels) -> Figure:
    """Put the title, both halves and what became of the cases on one figure."""
    first, *others = comparison.runs
    figure, forest, dots = two_panels(list(dict.fromkeys(row for row, _ in panels.marks)), len(others))
    height, num_cases = figure.get_figheight(), panels.values_RN.shape[1]
    who = f"{safe_text(others[0], 30)} " if len(others) == 1 else ""
    about = (
        f"{comparison.cases} cases of {comparison.patients} patients, paired; bootstrap 95 % intervals by patient; "
        f"{'lower' if panels.lower_is_better else 'higher'} is better"
    )
    title = f"{panels.title}: {who}compared with {safe_text(first, 30)}"
    figure.text(0.3 / WIDTH_IN, 1 - 0.28 / height, title, size=13, weight="bold", va="top")
    figure.text(0.3 / WIDTH_IN, 1 - 0.57 / height, about, size=7.5, color=FAINT, va="top")
    draw_forest(forest, panels, others)
    forest.set_xlabel(f"{panels.difference_label} (filled: p < {SIGNIFICANT:g} after Holm's correction)")
    forest.set_title(panels.forest_title)
    draw_paired_dots(dots, panels.values_RN, comparison.runs, -1.0 if panels.lower_is_better else 1.0)
    if panels.limits is not None:
        dots.set_ylim(*panels.limits)
    dots.set_ylabel(panels.dots_label)
    dots.set_title(panels.dots_title)
    drawn = f"; {MOST_DOTS} of {num_cases} cases drawn" if num_cases > MOST_DOTS else ""
    corner = (1 - 0.2 / WIDTH_IN, 0.1 / height)
    whose = f"{safe_text(others[-1], 20)}: " if len(others) > 1 else ""
    figure.text(*corner, f"{whose}{panels.footnote}{drawn}", size=6.5, color=FAINT, ha="right", va="bottom")
    if len(others) > 1:
        name_runs(figure, others)
    return figure


def name_runs(figure: Figure, others: Sequence[str]) -> None:
    """Draw a legend of the runs, in the line below the title, from the right."""
    handles = [Line2D([], [], marker="o", color=RUN_COLOURS[i % len(RUN_COLOURS)], ms=5) for i in range(len(others))]
    figure.legend(
        handles,
        [safe_text(run, 24) for run in others],
        loc="upper right",
        bbox_to_anchor=(1 - 0.2 / WIDTH_IN, 1 - 0.15 / figure.get_figheight()),
        ncols=min(len(others), 4),
        frameon=False,
        fontsize=7.5,
    )


def two_panels(rows: Sequence[str], num_others: int) -> tuple[Figure, Axes, Axes]:
    """Return a figure as high as its rows need, with axes for a forest on the left and dots on the right.

    Args:
        rows: names of the forest's rows.
        num_others: marks of each row.
    """
    body_in = max(2.6, len(rows) * ROW_IN * max(1.0, 0.6 * num_others) + 0.2)
    height = body_in + 1.75
    figure = Figure(figsize=(WIDTH_IN, height))
    bottom, share = 0.62 / height, body_in / height
    names_in = 0.45 + 0.062 * max(len(safe_text(name, MOST_LETTERS)) for name in rows)
    dots_in = 2.6
    forest_in = WIDTH_IN - names_in - dots_in - 2.15
    forest = figure.add_axes((names_in / WIDTH_IN, bottom, forest_in / WIDTH_IN, share))
    dots = figure.add_axes(((WIDTH_IN - dots_in - 0.2) / WIDTH_IN, bottom, dots_in / WIDTH_IN, share))
    return figure, forest, dots
