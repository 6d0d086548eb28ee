"""The pages that people read, and what stands in them: links, headings, blocks of code."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "examples" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
FENCE = re.compile(r"^ *```(\w*)\s*$")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
INLINE_CODE = re.compile(r"`([^`\n]+)`")


class Block(NamedTuple):
    """A block of code: where it stands, in which language, and its text."""

    place: str
    language: str
    text: str


def name_of(page: Path) -> str:
    """A page from the root of the project."""
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[Block]:
    """Fenced blocks of a page."""
    found, start, language, lines = [], 0, "", list[str]()
    for number, line in enumerate(page.read_text().splitlines(), start=1):
        fence = FENCE.match(line)
        if fence and not start:
            start, language, lines = number, fence[1], []
        elif fence:
            found.append(Block(f"{name_of(page)}:{start}", language, "\n".join(lines)))
            start = 0
        else:
            lines.append(line)
    assert not start, f"{name_of(page)}:{start}: the block does not end"
    return found


def prose(page: Path) -> Iterator[tuple[int, str]]:
    """Lines of a page outside its blocks, with their numbers."""
    inside = False
    for number, line in enumerate(page.read_text().splitlines(), start=1):
        if FENCE.match(line):
            inside = not inside
        elif not inside:
            yield number, line


def links(page: Path) -> list[tuple[str, str]]:
    """Targets of links and pictures, with their places."""
    return [
        (f"{name_of(page)}:{number}", target)
        for number, line in prose(page)
        for target in LINK.findall(INLINE_CODE.sub("", line))
    ]


def anchors(page: Path) -> set[str]:
    """What a link to a heading may say after #, by GitHub's rule."""
    seen: Counter[str] = Counter()
    found = set()
    for _, line in prose(page):
        if heading := re.match(r"#{1,6} +(.*?) *#*$", line):
            text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading[1])
            slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
            found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
            seen[slug] += 1
    return found


def shell_lines(text: str) -> Iterator[list[str]]:
    """Words of each command of a shell block: continued lines joined, comments and empty lines left out."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        ends = [at for at, word in enumerate(words) if word in ("&&", "||", "|", ";")]
        for start, end in zip([0, *(at + 1 for at in ends)], [*ends, len(words)], strict=True):
            if start < end:
                yield words[start:end]


def voco_arguments(words: list[str]) -> list[str] | None:
    """What a command gives to voco, however voco is called; None where it does not call it."""
    before = [word for word in words if "=" in word.split(" ")[0] or word == "exec"]
    first = next((at for at, word in enumerate(words) if word not in before), len(words))
    if first < len(words) and Path(words[first]).name == "voco":
        return words[first + 1 :]
    for at, word in enumerate(words):
        if (words[at - 1], word) == ("-m", "voco_cli"):
            return words[at + 1 :]
        if (words[at - 1], words[0]) == ("-c", "srun"):
            return voco_arguments(shlex.split(word))
    return None
