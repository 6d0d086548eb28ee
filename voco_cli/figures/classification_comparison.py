"""One picture of compared classifications: each figure's difference with its interval, and every case as a line."""

from __future__ import annotations

import io
from collections import Counter

from matplotlib.figure import Figure

from voco_cli.evaluation.classification_comparison import ClassificationComparison
from voco_cli.evaluation.classification_tables import figure_title
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


def draw_classification_comparison(comparison: ClassificationComparison, file_format: str = "png") -> bytes:
    """Draw a forest plot of all figures, and paired dots of what each run says of the true category of every case.

    Args:
        comparison: of two runs or more.
        file_format: png, pdf or svg.
    Returns:
        The file's content.
    """
    with figure_style():
        figure = _compose(comparison)
        content = io.BytesIO()
        figure.savefig(content, format=file_format, dpi=DPI, facecolor="white")
    return content.getvalue()


def _compose(comparison: ClassificationComparison) -> Figure:
    others = comparison.runs[1:]
    marks = [
        ForestMark(figure_title(one), one.run, one.difference, one.low, one.high, one.p_holm, one.category is None)
        for one in comparison.differences
    ]
    figure, forest, dots = two_panels(list(dict.fromkeys(one.row for one in marks)), len(others))
    who = f"{safe_text(others[0], 30)} " if len(others) == 1 else ""
    head(
        figure,
        f"Classification: {who}compared with {safe_text(comparison.runs[0], 30)}",
        f"{comparison.cases} cases of {comparison.patients} patients, paired; bootstrap 95 % intervals by patient; "
        "higher is better",
    )
    draw_forest(forest, marks, others)
    forest.set_xlabel(f"difference (filled: p < {SIGNIFICANT:g} after Holm's correction)")
    forest.set_title("By figure", loc="left", size=9, weight="bold")
    draw_paired_dots(dots, comparison.true_probabilities, comparison.runs)
    dots.set_ylim(-0.03, 1.03)
    dots.set_ylabel("probability")
    dots.set_title("By case: p(true category)", loc="left", size=9, weight="bold")
    note(figure, _changes(comparison))
    if len(others) > 1:
        name_runs(figure, others)
    return figure


def _changes(comparison: ClassificationComparison) -> str:
    """What became of cases from the first run to the last."""
    last = comparison.runs[-1]
    kinds = Counter(change.kind for change in comparison.changes if change.run == last)
    words = f"now right {kinds['now right']}, now wrong {kinds['now wrong']}, another error {kinds['other error']}"
    words = f"{safe_text(last, 20)}: {words}" if len(comparison.runs) > 2 else f"{words}; blue: higher, orange: lower"
    if comparison.cases > MOST_DOTS:
        words += f"; {MOST_DOTS} of {comparison.cases} cases drawn"
    return words
