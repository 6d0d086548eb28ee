"""Text from outside (names of files, cells, headers, messages of libraries) on its way to people.

A file name may hold characters that steer a terminal, turn the direction of writing or cannot be seen. Where text
leaves for a terminal, a page or a table to read, they are shown as Python writes them: ``\\x1b``, ``\\u202e``. Files
for machines keep names as they are.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable
from functools import cache

MOST_QUOTED = 100
MOST_IN_LINE = 1000
MOST_NAMED = 5
UNSEEN = frozenset({"Cc", "Cf", "Zl", "Zp", "Cs"})
"""Unicode's controls, formats (zero width, direction of writing), separators of lines and halves of characters."""
# Not of these categories, and yet nothing to be seen: fillers of Hangul and the joiner of graphemes.
BLANKS = frozenset("\u034f\u115f\u1160\u3164\uffa0")
# Almost all text passes here, without a look at single characters.
HARMLESS = re.compile(r"[ -~\n\t]*")
SECRETS = (
    (re.compile(r"(\w:/{1,2})[^/@\s'\"]*:[^/@\s'\"]*@"), r"\1***@"),  # user:password@
    (re.compile(r"(\w:/[^\s'\"?]*\?)[^\s'\"]+"), r"\1***"),  # what follows ?, such as a signature
)


def blanked(text: str) -> str:
    """Return a text with passwords and queries of its URLs blanked."""
    for pattern, instead in SECRETS:
        text = pattern.sub(instead, text)
    return text


def visible(text: str) -> str:
    """Return the text with every unseen character spelled out; newlines and tabs, which lay out our own texts, stay."""
    if HARMLESS.fullmatch(text):
        return text
    return "".join(_spelled(letter) for letter in text)


def one_line(text: str) -> str:
    """Return `visible` text with newlines and tabs spelled out, too: a name cannot look like a line of ours."""
    return visible(text).replace("\n", "\\n").replace("\t", "\\t")


def sentence_lines(text: str) -> str:
    """Return an error for the terminal: one line, or our lists, whose lines after the first are indented.

    Lines without end lose their middle.
    """
    lines = re.split(r"\n(?=  )", text)
    return "\n".join(shortened(one_line(line.rstrip("\n")), MOST_IN_LINE) for line in lines)


def quoted(value: object, most: int = MOST_QUOTED) -> str:
    """Return a value from a file as an error quotes it: in quotation marks if text, and never longer than a line."""
    return shortened(repr(value), most)


def shortened(text: str, most: int = MOST_QUOTED) -> str:
    """Return the text, or its two ends where it is longer than ``most`` characters."""
    return text if len(text) <= most else f"{text[: most // 2]}…{text[-(most - most // 2 - 1) :]}"


def named(names: Iterable[str], shown: int = MOST_NAMED) -> str:
    """Return the first of many names, and how many more there are."""
    listed = list(names)
    more = f" and {len(listed) - shown} more" if len(listed) > shown else ""
    return ", ".join(listed[:shown]) + more


def visible_json(text: str) -> str:
    """Return JSON text of the same meaning, its unseen characters written as JSON's escapes."""
    if HARMLESS.fullmatch(text):
        return text
    return "".join(json.dumps(letter)[1:-1] if _spelled(letter) != letter else letter for letter in text)


@cache
def _spelled(letter: str) -> str:
    if letter in "\n\t" or not (letter in BLANKS or unicodedata.category(letter) in UNSEEN):
        return letter
    return letter.encode("unicode_escape").decode("ascii")
