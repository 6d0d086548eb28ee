"""Files that are there whole or not at all."""

from __future__ import annotations

import errno
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from voco_cli.errors import ResourceError
from voco_cli.object_stores import RemotePath, require_writable, upload

UNFINISHED = ".unfinished-"
"""How the names of files begin that are still being written, or were when a process was killed."""
STALE_AFTER_S = 3600.0


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a name beside the target to write to; after the block it is flushed to disk and takes the target's name.

    The name ends like the target's, for writers that go by the ending. It is removed on any failure. For a URL it is
    in a folder for temporary files, and sent off after the block.

    Yields:
        the name to write to; the file does not exist yet, its folder does.
    Raises:
        ResourceError: the disk or the quota is full, or the place cannot be written to.
    """
    if isinstance(path, RemotePath):
        require_writable(path)
        with TemporaryDirectory(prefix="voco-") as folder:
            file = Path(folder, path.name)
            with whole_file(file) as beside:
                yield beside
            upload(file, path)
        return
    beside = path.with_name(f"{UNFINISHED}{os.getpid()}-{uuid.uuid4().hex[:8]}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        with beside.open("rb") as stream:
            os.fsync(stream.fileno())
        beside.replace(path)
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise ResourceError(
                f"The disk is full: {path} could not be written.",
                "free some space or write to another disk; what was written before is kept",
            ) from error
        raise ResourceError(f"{path} cannot be written: {error.strerror or error}.") from error
    finally:
        if os.path.isfile(beside):  # noqa: PTH113 (unlike Path.is_file, it bears a name that no disk takes)
            beside.unlink()


def write_atomic(path: Path, content: bytes) -> None:
    """Write bytes as a whole file.

    Raises:
        ResourceError: as :func:`whole_file`.
    """
    if isinstance(path, RemotePath):
        upload(content, path)
        return
    with whole_file(path) as beside:
        beside.write_bytes(content)


def unfinished_files(folder: Path) -> list[Path]:
    """List what killed processes left behind; files younger than an hour may belong to a process at work."""
    oldest = time.time() - STALE_AFTER_S
    return [path for path in folder.rglob(f"{UNFINISHED}*") if path.stat().st_mtime < oldest]
