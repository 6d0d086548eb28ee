"""How a report is divided: a page has sections, one a run; a section has parts under a heading; a part has blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from voco_cli.report.blocks import Block, Table, Tone


@dataclass(frozen=True)
class Part:
    """Blocks under a heading.

    Attributes:
        anchor: of the heading in the page.
    """

    anchor: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Section:
    """One run, or what several have in common.

    Attributes:
        kind: for people: pre-training, study ...
        status, tone: how it stands, in a word; empty where that means nothing.
        lead: the one sentence to read.
        result: the same for a row of the overview.
        place: folder.
        when: last word of it.
    """

    anchor: str
    title: str
    kind: str
    parts: tuple[Part, ...]
    status: str = ""
    tone: Tone = "plain"
    lead: str = ""
    lead_tone: Tone = "plain"
    result: str = ""
    place: str = ""
    when: str = ""


@dataclass(frozen=True)
class Page:
    """All of a report.

    Attributes:
        overview: table of the sections where there are several.
        written: when and by which version.
    """

    title: str
    written: str
    sections: Sequence[Section]
    overview: Table | None = None
