"""What all figures share: colours that colour-blind readers tell apart, and text that cannot break the drawing."""

from __future__ import annotations

import contextlib
import textwrap
from collections.abc import Iterator
from functools import cache

import matplotlib
from matplotlib import font_manager
from matplotlib.patheffects import AbstractPathEffect, withStroke

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
