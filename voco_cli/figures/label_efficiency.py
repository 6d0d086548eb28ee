"""One picture of a study: score by number of labelled cases, and the differences from the baseline."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from voco_cli.figures.comparison import DPI, FIRST_COLOUR, RUN_COLOURS
from voco_cli.figures.style import FAINT, INK, figure_style, image_bytes, safe_text
from voco_cli.study.analysis import LabelEfficiency, verdict

WIDTH_IN, HEIGHT_IN = 9.0, 4.1
ARM_STEP = 0.5
"""What the arms of one number of labelled cases share of the room between two numbers."""
MOST_NUMBERS = 6
"""Differences that are written beside their marks; more would cover one another."""
MARKERS = ("o", "s", "^", "D", "v", "P")
"""Shapes too, for those who see no colours and for grey print."""


def draw_label_efficiency(found: LabelEfficiency, file_format: str = "png") -> bytes:
    """Draw a study: on the left every seed, the mean and its interval, on the right the paired differences.

    Args:
        found: with one arm at least; without differences the right half says so.
        file_format: png, pdf or svg.
    Returns:
        The file's content.
    """
    with figure_style():
        return image_bytes(_compose(found), file_format, DPI)


def _compose(found: LabelEfficiency) -> Figure:
    metric = found.text.metric
    figure = Figure(figsize=(WIDTH_IN, HEIGHT_IN))
    figure.text(0.03, 0.965, f"{metric} by number of labelled cases", size=13, weight="bold", va="top")
    figure.text(0.03, 0.895, _about(found), size=7.5, color=FAINT, va="top")
    _draw_scores(figure.add_axes((0.1, 0.22, 0.36, 0.57)), found, metric)
    _draw_gains(figure.add_axes((0.58, 0.22, 0.4, 0.57)), found, metric)
    looks: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0.025, 0.005), "frameon": False, "fontsize": 8}
    handles = [_handle(found, arm) for arm in found.arms]
    figure.legend(handles, [safe_text(arm, 24) for arm in found.arms], ncols=min(len(handles), 4), **looks)
    return figure


def _about(found: LabelEfficiency) -> str:
    """Return what the picture is of, in a line."""
    seeds = sorted({len(one.seeds) for one in found.scores})
    number = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    bars = "bars: bootstrap 95 % intervals, patients and seeds resampled"
    return (
        f"{found.cases} cases of {found.patients} patients measured in every run; {number} "
        f"seed{'s' if seeds[-1] > 1 else ''} each; {bars if seeds[-1] > 1 else 'no intervals of a single seed'}"
    )


def _draw_scores(axes: Axes, found: LabelEfficiency, metric: str) -> None:
    """Draw a line an arm through its means, with intervals, and a small dot for each seed."""
    for arm in found.arms:
        colour, marker = _look(found, arm)
        aside = _aside(arm, found.arms)
        scores = [one for one in found.scores if one.arm == arm]
        x = [found.sizes.index(one.labelled) + aside for one in scores]
        for one, at in zip(scores, x, strict=True):
            _interval(axes, at, one.low, one.high, colour)
            # Beside the mean, so that neither hides the other.
            left = np.full(len(one.seed_means), at - 0.018 * len(found.sizes))
            axes.scatter(left, one.seed_means, s=9, color=colour, alpha=0.55, linewidths=0)
        axes.plot(x, [one.mean for one in scores], "-", color=colour, linewidth=1.3, zorder=3)
        axes.plot(x, [one.mean for one in scores], marker, color=colour, ms=5.5, mec="white", mew=0.6, zorder=5)
    _name_sizes(axes, found)
    axes.set_ylabel(metric)
    axes.set_title("Score (small dots: seeds)")


def _draw_gains(axes: Axes, found: LabelEfficiency, metric: str) -> None:
    """Draw differences with intervals about a line at zero; a filled mark is a difference that is shown."""
    axes.axhline(0, color=INK, linewidth=0.9, zorder=2)
    others = [arm for arm in found.arms if arm != found.baseline]
    for one in found.gains:
        colour, marker = _look(found, one.run)
        x = found.sizes.index(one.labelled) + _aside(one.run, others)
        _interval(axes, x, one.low, one.high, colour)
        for difference in one.seed_differences:
            axes.plot(x, difference, "_", color=colour, ms=7, mew=1, alpha=0.75, zorder=3)
        filled = verdict(one) in ("higher", "lower")
        axes.plot(x, one.difference, marker, ms=6, mfc=colour if filled else "white", mec=colour, mew=1.3, zorder=5)
        if len(found.gains) <= MOST_NUMBERS and not math.isnan(one.difference):
            text = f"{one.difference:+.3f}".replace("-", "\N{MINUS SIGN}")
            top = float(np.nanmax([one.difference, one.high, *one.seed_differences]))
            looks: dict[str, Any] = {"textcoords": "offset points", "size": 6.5, "ha": "center", "zorder": 6}
            axes.annotate(text, (x, top), (0, 4), color=colour, **looks)
    if not found.gains:
        words = f"no run to compare with {safe_text(found.baseline, 20)} yet"
        axes.text(0.5, 0.5, words, transform=axes.transAxes, ha="center")
    _name_sizes(axes, found)
    _keep_zero_in_view(axes)
    axes.set_ylabel(f"{metric} minus {safe_text(found.baseline, 20)}'s")
    axes.set_title("Paired difference (dashes: seeds; filled: shown)")


def _aside(arm: str, arms: Sequence[str]) -> float:
    """Return the sidewards shift that keeps the arms of one number apart."""
    return ARM_STEP * ((arms.index(arm) + 0.5) / len(arms) - 0.5)


def _look(found: LabelEfficiency, arm: str) -> tuple[str, str]:
    """Return colour and marker of an arm; the baseline is grey."""
    if arm == found.baseline:
        return FIRST_COLOUR, MARKERS[0]
    index = [other for other in found.arms if other != found.baseline].index(arm)
    return RUN_COLOURS[index % len(RUN_COLOURS)], MARKERS[(index + 1) % len(MARKERS)]


def _handle(found: LabelEfficiency, arm: str) -> Line2D:
    colour, marker = _look(found, arm)
    return Line2D([], [], color=colour, marker=marker, ms=5, linewidth=1.3)


def _interval(axes: Axes, x: float, low: float, high: float, colour: str) -> None:
    if not math.isnan(low):
        axes.plot((x, x), (low, high), color=colour, linewidth=1.4, alpha=0.8, solid_capstyle="butt", zorder=2)


def _name_sizes(axes: Axes, found: LabelEfficiency) -> None:
    axes.set_xlim(-0.5, len(found.sizes) - 0.5)
    axes.set_xticks(range(len(found.sizes)), [str(size) for size in found.sizes])
    axes.set_xlabel("labelled cases")
    axes.grid(axis="y")
    axes.spines[["top", "right"]].set_visible(False)


def _keep_zero_in_view(axes: Axes, least: float = 0.005) -> None:
    """Leave room on both sides of zero, so that a tiny difference does not fill the picture."""
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, -least), max(high, least))
