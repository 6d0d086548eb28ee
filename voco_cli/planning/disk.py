"""What has to fit on which file system."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from voco_cli.cache.space import SPARE_BYTES
from voco_cli.planning.quantities import Need, Part


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


def existing_parent(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())


def mount_point(folder: Path) -> Path:
    """The top folder of the file system that a folder lies on."""
    resolved = folder.resolve()
    return next((one for one in (resolved, *resolved.parents) if os.path.ismount(one)), resolved)


def free_disk_bytes(folder: Path) -> int:
    """What may be written where an existing folder lies; a little is always left."""
    return max(0, shutil.disk_usage(folder).free - SPARE_BYTES)


def bytes_below(folder: Path) -> int:
    """Size of all files below a folder; 0 where there is none."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else 0
