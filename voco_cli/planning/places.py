"""Folders and the file systems that they lie on; imports nothing that could be broken."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

TEMPORARY = ".voco-plan-"
LEAST_BYTES = 200_000_000
"""On a disk with less there is no room to try anything: the recipe debug writes 75 MB beside its cache."""
STALE_AFTER_S = 24 * 3600.0
"""A temporary folder this old was left by a process that was killed."""


def existing_parent(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(parent for parent in (folder, *folder.absolute().parents) if parent.is_dir())


def mount_point(folder: Path) -> Path:
    """The top folder of the file system that a folder lies on."""
    resolved = folder.resolve()
    return next((one for one in (resolved, *resolved.parents) if os.path.ismount(one)), resolved)


def bytes_below(folder: Path) -> int:
    """Size of all files below a folder; 0 where there is none."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else 0


@contextmanager
def temporary_folder(beside: Path) -> Iterator[Path]:
    """A folder on the disk of another one, or where temporary files go if that is full; removed whatever happens."""
    existing = existing_parent(beside)
    usable = os.access(existing, os.W_OK) and shutil.disk_usage(existing).free >= LEAST_BYTES
    place = existing if usable else Path(gettempdir())
    for left in place.glob(f"{TEMPORARY}*"):
        if left.is_dir() and time.time() - left.stat().st_mtime > STALE_AFTER_S:
            shutil.rmtree(left, ignore_errors=True)
    with TemporaryDirectory(prefix=TEMPORARY, dir=place, ignore_cleanup_errors=True) as folder:
        yield Path(folder)
