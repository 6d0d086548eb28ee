"""Files as a run folder of somebody else may hold them: damaged, endless or made to do harm."""

import os
import struct
import zlib
from pathlib import Path

DEEP = "[" * 100_000
"""Deeper than a reader goes."""
TOO_GREAT = "1" + "0" * 400
"""A whole number that no float holds."""


def write_pipe(path: Path) -> None:
    """Put a pipe in the place of a file: who opens it to read waits for ever."""
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def vast_png(edge: int = 50_000) -> bytes:
    """A picture of a hundred bytes that would fill 2.5 GB."""

    def chunk(name: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + check

    header = struct.pack(">IIBBBBB", edge, edge, 8, 0, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts
