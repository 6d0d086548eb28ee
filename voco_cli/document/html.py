"""Blocks as HTML: a page is one file that needs nothing else and can run nothing but its own script."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from voco_cli.document import charts
from voco_cli.document.blocks import Block, ReportPage
from voco_cli.foreign_text import visible

TEMPLATES = Path(__file__).parent / "templates"
DRAWING = {
    "width": charts.WIDTH,
    "height": charts.HEIGHT,
    "left": charts.LEFT,
    "right": charts.RIGHT,
    "top": charts.TOP,
    "bottom": charts.BOTTOM,
}


def render(page: ReportPage) -> str:
    """Return the whole HTML file: texts of the page are escaped, their unseen characters spelled out.

    Style and script are ours, and known by their hashes.
    """
    style, script = (_text(name) for name in ("style.css", "script.js"))
    return (
        _environment()
        .get_template("page.html.j2")
        .render(page=page, style=Markup(style), script=Markup(script), policy=content_policy(style, script))
    )


def render_readers(crops: Sequence[tuple[str, bytes]], width_mm: float, window: str) -> str:
    """Return a page that asks a reader of each crop whether it is real, and gives the answers as CSV.

    Args:
        crops: name without a meaning, and PNG, of each; in the order in which they are shown.
        width_mm: of a view.
        window: in words.
    """
    style, script = (_text(name) for name in ("readers.css", "readers.js"))
    pictures = [
        {"token": token, "picture": f"data:image/png;base64,{base64.b64encode(png).decode()}"} for token, png in crops
    ]
    return (
        _environment()
        .get_template("readers.html.j2")
        .render(
            crops=pictures,
            width=f"{width_mm:g}",
            window=window,
            style=Markup(style),
            script=Markup(script),
            policy=content_policy(style, script),
        )
    )


def to_html(blocks: Sequence[Block], part: str = "block") -> str:
    """Return blocks as a part of a page, escaped.

    Args:
        part: what the ids of the blocks begin with.
    """
    macros: Any = _environment().get_template("blocks.html.j2").module
    return str(macros.blocks(blocks, part))


def content_policy(style: str, script: str) -> str:
    """Return what a browser may load and run: pictures inside the page, this style and this script."""
    return (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_visible,
        loader=FileSystemLoader(TEMPLATES),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals["drawing"] = DRAWING
    return environment


def _visible(value: Any) -> Any:
    """Spell unseen characters out; markup is ours, or went through here before."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _text(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
