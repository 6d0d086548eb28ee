"""One picture of a comparison: the difference of each class with its interval, and every case as a line."""

from __future__ import annotations

import io

import numpy as np
from matplotlib.figure import Figure

from voco_cli.evaluation.comparison import OVERALL, Comparison
from voco_cli.evaluation.results import LOWER_IS_BETTER
from voco_cli.evaluation.tables import metric_title
from voco_cli.figures.paired_runs import (
    DPI,
    MOST_DOTS,
    SIGNIFICANT,
    ForestMark,
    draw_forest,
    draw_paired_dots,
    head,
    name_runs,
    note,
    two_panels,
)
from voco_cli.figures.style import figure_style, safe_text


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
    others = comparison.runs[1:]
    title = metric_title(metric, tolerance_mm)
    lower = metric in LOWER_IS_BETTER
    marks = [
        ForestMark(one.structure, one.run, one.difference, one.low, one.high, one.p_holm, one.structure == OVERALL)
        for one in comparison.of_metric(metric)
    ]
    figure, forest, dots = two_panels(list(dict.fromkeys(one.row for one in marks)), len(others))
    who = f"{safe_text(others[0], 30)} " if len(others) == 1 else ""
    head(
        figure,
        f"{title}: {who}compared with {safe_text(comparison.runs[0], 30)}",
        f"{comparison.cases} cases of {comparison.patients} patients, paired; bootstrap 95 % intervals by patient; "
        f"{'lower' if lower else 'higher'} is better",
    )
    draw_forest(forest, marks, others, digits=2 if lower else 3)
    forest.set_xlabel(f"difference of {title} (filled: p < {SIGNIFICANT:g} after Holm's correction)")
    forest.set_title("By class", loc="left", size=9, weight="bold")
    draw_paired_dots(dots, comparison.case_means[metric], comparison.runs, -1.0 if lower else 1.0)
    dots.set_ylabel(title)
    dots.set_title("By case: mean over classes", loc="left", size=9, weight="bold")
    note(figure, _gains(comparison, metric))
    if len(others) > 1:
        name_runs(figure, others)
    return figure


def _gains(comparison: Comparison, metric: str) -> str:
    """How many cases got better from the first set to the last."""
    values = comparison.case_means[metric]
    gains = (-1.0 if metric in LOWER_IS_BETTER else 1.0) * (values[-1] - values[0])
    better, worse, equal = (int(np.sum(test)) for test in (gains > 0, gains < 0, gains == 0))
    words = f"better {better} (blue), worse {worse} (orange), equal {equal}"
    if len(comparison.runs) > 2:
        words = f"{safe_text(comparison.runs[-1], 20)}: better {better}, worse {worse}, equal {equal}"
    if values.shape[1] > MOST_DOTS:
        words += f"; {MOST_DOTS} of {values.shape[1]} cases drawn"
    return words
