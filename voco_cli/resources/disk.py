"""File systems: what is free where a folder lies, what adds up there, and a temporary folder on the same disk."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

from voco_cli.data.cache.entry import SPARE_BYTES
from voco_cli.resources.amounts import Need, Part

TEMPORARY = ".voco-temporary-"
LEAST_BYTES = 200_000_000
"""On a disk with less there is no room to try anything: the recipe debug writes 75 MB beside its cache."""
STALE_AFTER_S = 24 * 3600.0
"""A temporary folder this old was left by a process that was killed."""


def existing_parent(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that exists."""
    return next(parent for parent in (folder, *folder.absolute().parents) if parent.is_dir())


def mount_point(folder: Path) -> Path:
    """Return the top folder of the file system that a folder lies on."""
    resolved = folder.resolve()
    return next((one for one in (resolved, *resolved.parents) if os.path.ismount(one)), resolved)


def bytes_below(folder: Path) -> int:
    """Return the size of all files below a folder; 0 where there is none."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else 0


def free_disk_bytes(folder: Path) -> int:
    """Return what may be written where an existing folder lies; a little is always left."""
    return max(0, shutil.disk_usage(folder).free - SPARE_BYTES)


def disk_needs(wanted: Sequence[tuple[Path, Part]]) -> tuple[Need, ...]:
    """Add up what lies on the same file system, in the order in which file systems come.

    Args:
        wanted: folders, which need not exist yet, and what will lie there.
    """
    by_device: dict[int, tuple[Path, list[Part]]] = {}
    for folder, part in wanted:
        existing = existing_parent(folder)
        by_device.setdefault(existing.stat().st_dev, (existing, []))[1].append(part)
    return tuple(
        Need("disk", str(mount_point(existing)), tuple(parts), free_disk_bytes(existing))
        for existing, parts in by_device.values()
    )


@contextmanager
def temporary_folder(beside: Path) -> Iterator[Path]:
    """Make a folder on the disk of another, or where temporary files go if that is full; remove it whatever happens."""
    existing = existing_parent(beside)
    usable = os.access(existing, os.W_OK) and shutil.disk_usage(existing).free >= LEAST_BYTES
    place = existing if usable else Path(gettempdir())
    for left in place.glob(f"{TEMPORARY}*"):
        if left.is_dir() and time.time() - left.stat().st_mtime > STALE_AFTER_S:
            shutil.rmtree(left, ignore_errors=True)
    with TemporaryDirectory(prefix=TEMPORARY, dir=place, ignore_cleanup_errors=True) as folder:
        yield Path(folder)
