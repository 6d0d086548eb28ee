"""Colours for colour-blind readers too, text that cannot break the drawing, pages: what all figures share."""

from __future__ import annotations

import contextlib
import io
import textwrap
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.patheffects import AbstractPathEffect, withStroke

from voco_cli.atomic_files import whole_file
from voco_cli.errors import ResourceError

# M. Okabe and K. Ito, Color Universal Design (2008); black and the bluish green come last, as they are hard to see
# on dark tissue.
CROP_COLOURS = ("#E69F00", "#56B4E9", "#F0E442", "#CC79A7", "#D55E00", "#009E73", "#0072B2")
INK = "#222222"
FAINT = "#8A8A8A"
FONT = "DejaVu Sans"


def crop_colour(index: int) -> str:
    """Return the colour of random crop ``index``; it repeats after seven, where the name still tells them apart."""
    return CROP_COLOURS[index % len(CROP_COLOURS)]


def safe_text(text: str, most: int = 80) -> str:
    """Return a name from outside as one line that the figure font can draw: ``?`` for what it lacks, the middle cut."""
    glyphs = _glyphs()
    shown = "".join(letter if letter.isprintable() and ord(letter) in glyphs else "?" for letter in text)
    return shown if len(shown) <= most else f"{shown[: most // 2]}…{shown[-(most - most // 2 - 1) :]}"


def fitting(text: str, width_in: float, size: float, weight: str = "normal") -> str:
    """Return a text from outside as one line of at most this width; its middle is cut."""
    most = len(text)
    while most > 1 and text_width_in(safe_text(text, most), size, weight) > width_in:
        most -= 1 + most // 50
    return safe_text(text, most)


def wrapped(text: str, width_in: float, size: float, weight: str = "normal") -> list[str]:
    """Return a text from outside as lines of at most this width; lines after the first are indented."""
    shown = safe_text(text, 1000)
    most = len(shown)
    while True:
        lines = textwrap.wrap(shown, most, subsequent_indent="    ", break_on_hyphens=False)
        if most < 10 or all(text_width_in(line, size, weight) <= width_in for line in lines):
            return lines
        most -= 1 + most // 50


def text_width_in(text: str, size: float, weight: str = "normal") -> float:
    """Return the width of a line in the figure font, inches; ``size`` in points."""
    font = font_manager.get_font(_font_file(weight))
    font.set_size(size, 72)
    font.set_text(text, 0.0)
    return float(font.get_width_height()[0]) / 64 / 72


@cache
def _font_file(weight: str) -> str:
    return font_manager.findfont(font_manager.FontProperties(family=FONT, weight=weight))


@cache
def _glyphs() -> frozenset[int]:
    return frozenset(font_manager.get_font(font_manager.findfont(FONT)).get_charmap())


@contextlib.contextmanager
def figure_style() -> Iterator[None]:
    """Set matplotlib up for a figure on a page; ``$`` and ``_`` in names are letters, not formulas."""
    settings = {
        "font.family": FONT,
        "font.size": 8,
        "text.parse_math": False,
        "text.color": INK,
        "axes.edgecolor": FAINT,
        "axes.labelcolor": INK,
        "axes.linewidth": 0.6,
        "axes.axisbelow": True,
        "axes.titlelocation": "left",
        "axes.titlesize": 9,
        "axes.titleweight": "bold",
        "grid.color": "#E4E4E4",
        "grid.linewidth": 0.5,
        "xtick.color": INK,
        "ytick.color": INK,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
    }
    with matplotlib.rc_context(settings):
        yield


def outline(width: float = 1.8, colour: str = "black") -> list[AbstractPathEffect]:
    """Return the path effect that keeps text and lines legible on any grey."""
    return [withStroke(linewidth=width, foreground=colour)]


def write_sides(ax: Axes, letters: str, size: float, colour: str = "white", **looks: Any) -> None:
    """Write the letters of the patient's sides at the left, right, lower and upper edge of a view."""
    places = ((0.015, 0.54), (0.985, 0.54), (0.47, 0.015), (0.47, 0.985))
    sides = (("left", "center"), ("right", "center"), ("center", "bottom"), ("center", "top"))
    for letter, (x, y), (ha, va) in zip(letters, places, sides, strict=True):
        where: dict[str, Any] = {"transform": ax.transAxes, "ha": ha, "va": va, "path_effects": outline()}
        ax.text(x, y, letter, color=colour, size=size, **where, **looks)


def write_corner(ax: Axes, text: str, size: float, va: str = "bottom", **looks: Any) -> None:
    """Write a text into the lower or upper right corner of a view."""
    where: dict[str, Any] = {"transform": ax.transAxes, "ha": "right", "va": va, "path_effects": outline()}
    ax.text(0.99, 0.01 if va == "bottom" else 0.985, text, color="white", size=size, **where, **looks)


def bare(ax: Axes) -> None:
    """Take ticks and frame away."""
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


def image_bytes(figure: Figure, file_format: str, dpi: int) -> bytes:
    """Return the content of a file of a figure: png, pdf or svg."""
    content = io.BytesIO()
    figure.savefig(content, format=file_format, dpi=dpi, facecolor="white")
    return content.getvalue()


class FigurePage:
    """A figure whose parts are placed in inches from its upper left corner.

    Args:
        width_in, height_in: of the whole figure.
    """

    def __init__(self, width_in: float, height_in: float) -> None:
        self.width, self.height = width_in, height_in
        self.figure = Figure(figsize=(width_in, height_in))

    def text(self, left: float, top: float, text: str, size: float, **looks: Any) -> None:
        """Write a text whose upper left corner is at (left, top); ``looks`` are matplotlib's: weight, color, ha."""
        self.figure.text(left / self.width, 1 - top / self.height, text, size=size, **{"va": "top", **looks})

    def grid(
        self,
        left: float,
        top: float,
        widths: Sequence[float],
        heights: Sequence[float],
        gap: tuple[float, float] = (0.0, 0.0),
    ) -> GridSpec:
        """Return rows and columns of cells of these sizes, a gap across and down between them."""
        across, down = ((len(sizes) - 1) * step for sizes, step in zip((widths, heights), gap, strict=True))
        return self.figure.add_gridspec(
            len(heights),
            len(widths),
            left=left / self.width,
            right=(left + sum(widths) + across) / self.width,
            top=1 - top / self.height,
            bottom=1 - (top + sum(heights) + down) / self.height,
            width_ratios=widths,
            height_ratios=heights,
            wspace=gap[0] * len(widths) / sum(widths),
            hspace=gap[1] * len(heights) / sum(heights),
        )

    def save(self, path: Path, dpi: int) -> None:
        """Write the file whole or not at all; the format follows the suffix.

        Raises:
            ResourceError: it cannot be written.
        """
        try:
            with whole_file(path) as beside:
                self.figure.savefig(beside, dpi=dpi, facecolor="white")
        except ValueError as error:  # a format that matplotlib does not know
            raise ResourceError(f"{path} cannot be written: {error}.") from error
