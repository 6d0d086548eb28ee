"""Text that other programs wrote, on Windows too: lists, tables and names of labels."""

from __future__ import annotations

import codecs
from pathlib import Path

UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_text(path: Path) -> str:
    """Read UTF-8 with or without a byte order mark, or UTF-16 with one, as PowerShell and Excel write it.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is neither, so no text.
    """
    return decode_text(path.read_bytes())


def decode_text(content: bytes) -> str:
    """Decode what `read_text` reads.

    Raises:
        ValueError: it is no text in these encodings.
    """
    encoding = "utf-16" if content.startswith(UTF16_MARKS) else "utf-8-sig"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not text in {encoding.removesuffix('-sig').upper()}") from error
