"""One picture of a comparison: the difference of each class with its interval, and every case as a line."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from voco_cli.evaluation.comparison import OVERALL, Comparison, Difference
from voco_cli.evaluation.results import LOWER_IS_BETTER
from voco_cli.evaluation.tables import metric_title, p_value
from voco_cli.report.style import FAINT, INK, figure_style, safe_text

DPI = 200
WIDTH_IN = 9.0
ROW_IN = 0.26
RUN_STEP = 0.8
"""What the sets of one class share of its row."""
SIGNIFICANT = 0.05
RUN_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
FIRST_COLOUR = "#5F5F5F"
MOST_DOTS = 400


def draw_comparison(comparison: Comparison, metric: str, tolerance_mm: float, file_format: str = "png") -> bytes:
    """Draw one metric of a comparison: a forest plot by class, and paired dots of every case's mean over classes.

    Args:
        comparison: of two sets or more.
        metric: one of `METRICS`.
        tolerance_mm: of the normalised surface Dice, for its name.
        file_format: png, pdf or svg.
    Returns:
        The file's content.
    """
    with figure_style():
        figure = _compose(comparison, metric, tolerance_mm)
        content = io.BytesIO()
        figure.savefig(content, format=file_format, dpi=DPI, facecolor="white")
    return content.getvalue()


def _compose(comparison: Comparison, metric: str, tolerance_mm: float) -> Figure:
    differences = comparison.of_metric(metric)
    others = comparison.runs[1:]
    rows = len(differences) // len(others)
    body_in = max(2.6, rows * ROW_IN * max(1.0, 0.6 * len(others)) + 0.2)
    height = body_in + 1.75
    figure = Figure(figsize=(WIDTH_IN, height))
    title = metric_title(metric, tolerance_mm)
    first = safe_text(comparison.runs[0], 30)
    who = f"{safe_text(others[0], 30)} " if len(others) == 1 else ""
    figure.text(
        0.3 / WIDTH_IN, 1 - 0.28 / height, f"{title}: {who}compared with {first}", size=13, weight="bold", va="top"
    )
    better = "lower is better" if metric in LOWER_IS_BETTER else "higher is better"
    figure.text(
        0.3 / WIDTH_IN,
        1 - 0.57 / height,
        f"{comparison.cases} cases of {comparison.patients} patients, paired; bootstrap 95 % intervals by patient; "
        f"{better}",
        size=7.5,
        color=FAINT,
        va="top",
    )
    bottom, share = 0.62 / height, body_in / height
    names_in = 0.45 + 0.062 * max(len(safe_text(one.structure, 28)) for one in differences)
    dots_in = 2.6
    forest_in = WIDTH_IN - names_in - dots_in - 2.15
    forest = figure.add_axes((names_in / WIDTH_IN, bottom, forest_in / WIDTH_IN, share))
    _draw_forest(forest, differences, others, title, metric)
    dots = figure.add_axes(((WIDTH_IN - dots_in - 0.2) / WIDTH_IN, bottom, dots_in / WIDTH_IN, share))
    _draw_dots(dots, comparison, metric, title)
    _note_gains(figure, comparison, metric)
    if len(others) > 1:
        _name_runs(figure, others, height)
    return figure


def _draw_forest(axes: Axes, differences: Sequence[Difference], others: Sequence[str], title: str, metric: str) -> None:
    """One row a structure, one mark a set; filled where the corrected test is significant."""
    structures = [one.structure for one in differences if one.run == others[0]]
    axes.axvline(0, color=INK, linewidth=0.8, zorder=1)
    axes.axhspan(len(structures) - 1.5, len(structures) - 0.5, color="#F0F0F0", zorder=0, linewidth=0)
    for one in differences:
        index = others.index(one.run)
        y = structures.index(one.structure) + RUN_STEP * ((index + 0.5) / len(others) - 0.5)
        colour = RUN_COLOURS[index % len(RUN_COLOURS)]
        if not math.isnan(one.low):
            axes.plot((one.low, one.high), (y, y), color=colour, linewidth=1.4, solid_capstyle="butt", zorder=2)
        filled = one.p_holm < SIGNIFICANT  # false for NaN
        marker = "D" if one.structure == OVERALL else "o"
        axes.plot(one.difference, y, marker, ms=5, mfc=colour if filled else "white", mec=colour, mew=1.2, zorder=3)
        digits = 2 if metric in LOWER_IS_BETTER else 3
        if not math.isnan(one.difference):
            words = f"{one.difference:+.{digits}f}  p {p_value(one.p_holm).replace('<', '< ')}"
            axes.annotate(
                words,
                (1.02, y),
                xycoords=("axes fraction", "data"),
                size=6.5,
                va="center",
                color=colour,
                annotation_clip=False,
            )
    axes.set_ylim(len(structures) - 0.5, -0.5)
    axes.set_yticks(range(len(structures)), [safe_text(name, 28) for name in structures])
    axes.get_yticklabels()[-1].set_fontweight("bold")
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#E4E4E4", linewidth=0.5)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.set_xlabel(f"difference of {title} (filled: p < {SIGNIFICANT:g} after Holm's correction)")
    axes.set_title("By class", loc="left", size=9, weight="bold")


def _draw_dots(axes: Axes, comparison: Comparison, metric: str, title: str) -> None:
    """Every case's mean over classes in each set, joined by a line, and the sets' means as bars.

    Between two sets, better is blue and worse is orange.
    """
    values = comparison.case_means[metric]
    columns = np.arange(len(comparison.runs))
    better = -1.0 if metric in LOWER_IS_BETTER else 1.0
    shown = np.flatnonzero(~np.isnan(values).all(axis=0))[:MOST_DOTS]
    # A slight sidewards shift by rank keeps equal dots apart without a random draw.
    shift = 0.10 * (np.argsort(np.argsort(shown * 7919 % 101)) / max(len(shown) - 1, 1) - 0.5)
    for n, aside in zip(shown, shift, strict=True):
        gain = better * (values[-1, n] - values[0, n])
        colour = RUN_COLOURS[0] if gain > 0 else RUN_COLOURS[1] if gain < 0 else FAINT
        dots = [colour] * 2
        if len(columns) > 2:  # the colours tell the sets apart then
            colour, dots = FAINT, [FIRST_COLOUR, *(RUN_COLOURS[i % len(RUN_COLOURS)] for i in range(len(columns) - 1))]
        axes.plot(columns + aside, values[:, n], color=colour, linewidth=0.6, alpha=0.45, zorder=1)
        axes.scatter(columns + aside, values[:, n], s=7, color=dots, alpha=0.7, linewidths=0, zorder=2)
    for column, of_run in zip(columns, values, strict=True):
        there = of_run[~np.isnan(of_run)]
        if there.size:
            axes.plot((column - 0.2, column + 0.2), (there.mean(),) * 2, color=INK, linewidth=2, zorder=3)
    axes.set_xlim(-0.45, len(columns) - 0.55)
    axes.set_xticks(columns, [safe_text(run, 14 if len(columns) > 2 else 20) for run in comparison.runs])
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.set_ylabel(title)
    axes.grid(axis="y", color="#E4E4E4", linewidth=0.5)
    axes.set_axisbelow(True)
    axes.set_title("By case: mean over classes", loc="left", size=9, weight="bold")


def _note_gains(figure: Figure, comparison: Comparison, metric: str) -> None:
    """How many cases got better from the first set to the last, in the corner."""
    values = comparison.case_means[metric]
    gains = (-1.0 if metric in LOWER_IS_BETTER else 1.0) * (values[-1] - values[0])
    better, worse, equal = (int(np.sum(test)) for test in (gains > 0, gains < 0, gains == 0))
    note = f"better {better} (blue), worse {worse} (orange), equal {equal}"
    if len(comparison.runs) > 2:
        note = f"{safe_text(comparison.runs[-1], 20)}: better {better}, worse {worse}, equal {equal}"
    if values.shape[1] > MOST_DOTS:
        note += f"; {MOST_DOTS} of {values.shape[1]} cases drawn"
    figure.text(1 - 0.2 / WIDTH_IN, 0.1 / figure.get_figheight(), note, size=6.5, color=FAINT, ha="right", va="bottom")


def _name_runs(figure: Figure, others: Sequence[str], height: float) -> None:
    """A legend of the sets, in the line below the title, from the right."""
    handles = [Line2D([], [], marker="o", color=RUN_COLOURS[i % len(RUN_COLOURS)], ms=5) for i in range(len(others))]
    figure.legend(
        handles,
        [safe_text(run, 24) for run in others],
        loc="upper right",
        bbox_to_anchor=(1 - 0.2 / WIDTH_IN, 1 - 0.15 / height),
        ncols=min(len(others), 4),
        frameon=False,
        fontsize=7.5,
    )
