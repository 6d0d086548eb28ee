"""One picture of several studies: each arm's paired differences from the baseline, task by task."""

from __future__ import annotations

import io
import math

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from voco_cli.figures.comparison import DPI, RUN_COLOURS
from voco_cli.figures.label_efficiency import MARKERS
from voco_cli.figures.style import FAINT, INK, figure_style, safe_text
from voco_cli.study.analysis import verdict
from voco_cli.study.overview import Overview

WIDTH_IN, ROW_IN, AROUND_IN = 8.0, 0.17, 1.6


def draw_overview(found: Overview, file_format: str = "png") -> bytes:
    """Draw a row for each task, number of labelled cases and arm: difference, interval, filled where it is shown.

    Args:
        file_format: png, pdf or svg.
    Returns:
        The file's content.
    """
    with figure_style():
        figure = _compose(found)
        content = io.BytesIO()
        figure.savefig(content, format=file_format, dpi=DPI, facecolor="white")
    return content.getvalue()


def _compose(found: Overview) -> Figure:
    baseline, *arms = [one.arm for one in found.standings]
    styles = {arm: (RUN_COLOURS[i % len(RUN_COLOURS)], MARKERS[(i + 1) % len(MARKERS)]) for i, arm in enumerate(arms)}
    groups = [
        (
            f"{safe_text(task, 24)}: {size} labelled",
            [one for one in study.gains if one.labelled == size and one.run in styles],
        )
        for task, study in found.studies.items()
        for size in study.sizes
    ]
    rows = sum(len(gains) + 1 for _, gains in groups)
    height = AROUND_IN + ROW_IN * rows
    figure = Figure(figsize=(WIDTH_IN, height))
    axes = figure.add_axes((0.3, 0.95 / height, 0.66, (height - AROUND_IN) / height))
    figure.text(0.03, 1 - 0.15 / height, "Paired difference by task", size=13, weight="bold", va="top")
    about = f"score minus {safe_text(baseline, 20)}'s; bars: bootstrap 95 % intervals; filled: a difference is shown"
    figure.text(0.03, 1 - 0.42 / height, about, size=7.5, color=FAINT, va="top")
    axes.axvline(0, color=INK, linewidth=0.9, zorder=2)
    y, ticks = 0.0, []
    for name, gains in groups:
        ticks.append((y + (len(gains) - 1) / 2, name))
        for one in gains:
            colour, marker = styles[one.run]
            if not math.isnan(one.low):
                axes.plot((one.low, one.high), (y, y), color=colour, linewidth=1.4, alpha=0.8)
            filled = verdict(one) in ("higher", "lower")
            axes.plot(one.difference, y, marker, ms=5.5, mfc=colour if filled else "white", mec=colour, mew=1.3)
            y += 1
        y += 1
    axes.set_yticks([at for at, _ in ticks], [name for _, name in ticks])
    axes.set_ylim(y - 1, -1)
    axes.set_xlabel("difference of the score (Dice, or AUC of a classification)")
    axes.grid(axis="x", color="#E4E4E4", linewidth=0.5)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0)
    ranks = {one.arm: one.rank for one in found.standings}
    handles = [Line2D([], [], color=styles[arm][0], marker=styles[arm][1], ms=5, linewidth=1.3) for arm in arms]
    labels = [f"{safe_text(arm, 24)} (mean rank {ranks[arm]:.2f})" for arm in arms]
    figure.legend(handles, labels, loc="lower left", bbox_to_anchor=(0.02, 0.0), ncols=3, frameon=False, fontsize=8)
    return figure
