"""What all figures share: colours that colour-blind readers tell apart, and text that cannot break the drawing."""

from __future__ import annotations

import contextlib
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import matplotlib
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
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
    """Colour of random crop ``index``; repeats after seven, where the name still tells them apart."""
    return CROP_COLOURS[index % len(CROP_COLOURS)]


def safe_text(text: str, most: int = 80) -> str:
    """A name from outside as one line that the figure font can draw: what it lacks becomes ``?``, the middle is cut."""
    glyphs = _glyphs()
    shown = "".join(letter if letter.isprintable() and ord(letter) in glyphs else "?" for letter in text)
    return shown if len(shown) <= most else f"{shown[: most // 2]}…{shown[-(most - most // 2 - 1) :]}"


def fitting(text: str, width_in: float, size: float, weight: str = "normal") -> str:
    """A text from outside as one line that is no wider than told; its middle is cut."""
    most = len(text)
    while most > 1 and text_width_in(safe_text(text, most), size, weight) > width_in:
        most -= 1 + most // 50
    return safe_text(text, most)


def wrapped(text: str, width_in: float, size: float, weight: str = "normal") -> list[str]:
    """A text from outside as lines that are no wider than told; lines after the first are indented."""
    shown = safe_text(text, 1000)
    most = len(shown)
    while True:
        lines = textwrap.wrap(shown, most, subsequent_indent="    ", break_on_hyphens=False)
        if most < 10 or all(text_width_in(line, size, weight) <= width_in for line in lines):
            return lines
        most -= 1 + most // 50


def text_width_in(text: str, size: float, weight: str = "normal") -> float:
    """Width of a line in the figure font, inches; ``size`` in points."""
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
    """Settings of a figure for a page; ``$`` and ``_`` in names are letters, not formulas."""
    settings = {
        "font.family": FONT,
        "font.size": 8,
        "text.parse_math": False,
        "text.color": INK,
        "axes.edgecolor": FAINT,
        "axes.labelcolor": INK,
        "axes.linewidth": 0.6,
        "xtick.color": INK,
        "ytick.color": INK,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
    }
    with matplotlib.rc_context(settings):
        yield


def outline(width: float = 1.8, colour: str = "black") -> list[AbstractPathEffect]:
    """Path effect that keeps text and lines legible on any grey."""
    return [withStroke(linewidth=width, foreground=colour)]


@dataclass
class Page:
    """A figure filled from top to bottom.

    Attributes:
        width, height: of the whole, inches.
        top: where the next thing goes, inches from the top; for the caller's use.
    """

    width: float
    height: float
    top: float = 0.0
    figure: Figure = field(init=False)

    def __post_init__(self) -> None:
        self.figure = Figure(figsize=(self.width, self.height))

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Axes with their upper left corner at (left, top) from the upper left corner of the page."""
        bottom = self.height - top - height
        return self.figure.add_axes(
            (left / self.width, bottom / self.height, width / self.width, height / self.height), label=str((left, top))
        )

    def canvas(self) -> Axes:
        """Axes over the whole page, in inches from its upper left corner: a panel in it costs no axes of its own."""
        ax = self.figure.add_axes((0, 0, 1, 1))
        ax.set_axis_off()
        ax.set_xlim(0, self.width)
        ax.set_ylim(self.height, 0)
        ax.set_autoscale_on(False)
        return ax

    def text(
        self,
        left: float,
        top: float,
        text: str,
        size: float,
        weight: str = "normal",
        colour: str = INK,
        centred: bool = False,
    ) -> None:
        """Text whose upper left corner, or the middle of whose upper edge, is at (left, top)."""
        at = (left / self.width, 1 - top / self.height)
        side = "center" if centred else "left"
        self.figure.text(*at, text, size=size, weight=weight, color=colour, va="top", ha=side, wrap=False)

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
