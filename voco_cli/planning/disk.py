"""What has to fit on which file system."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from voco_cli.cache.space import SPARE_BYTES
from voco_cli.planning.places import existing_parent, mount_point
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


def free_disk_bytes(folder: Path) -> int:
    """What may be written where an existing folder lies; a little is always left."""
    return max(0, shutil.disk_usage(folder).free - SPARE_BYTES)
