"""Files that are there whole or not at all."""

from __future__ import annotations

import errno
import os
import time
import uuid
from pathlib import Path

from voco_cli.errors import ResourceError

UNFINISHED = ".unfinished"
STALE_AFTER_S = 3600.0


def write_whole(path: Path, content: bytes) -> None:
    """Write beside the target, flush to the disk, then rename; the unfinished file is removed on any failure.

    Raises:
        ResourceError: the disk or the quota is full.
    """
    beside = path.with_name(f"{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}{UNFINISHED}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(path)
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise ResourceError(
                f"The disk is full: {path} ({len(content) / 1e6:.1f} MB) could not be written.",
                hint="free some space or set cache.dir to another disk; what was written before is kept",
            ) from error
        raise
    finally:
        beside.unlink(missing_ok=True)


def unfinished_files(folder: Path) -> list[Path]:
    """What killed processes left behind; files younger than an hour may belong to a process at work."""
    oldest = time.time() - STALE_AFTER_S
    return [path for path in folder.rglob(f"*{UNFINISHED}") if path.stat().st_mtime < oldest]
