"""What has to fit on which file system, and how large label maps will be there."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from voco_cli.cache.space import SPARE_BYTES
from voco_cli.planning.places import existing_parent, mount_point
from voco_cli.planning.quantities import Amount, Need, Part
from voco_cli.settings import Settings

PACKED, LEAST_PACKED, MOST_PACKED = 40, 4, 220
"""Voxels of a compressed label map in a byte: 37 to 220 for a few organs, 12 for 61 structures at 3 mm, and 4 for the
noise of a network that has hardly been trained."""
MOST_IN_A_BYTE = 255


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


def label_map_bytes(source_vox: Iterable[int], settings: Settings) -> Amount:
    """Bytes of predicted label maps on the scans' own grids; known exactly where they are not compressed."""
    largest = max((value for one in settings.task.classes for value in one.values), default=1)
    raw = float(sum(source_vox) * (1 if largest <= MOST_IN_A_BYTE else 2))
    if settings.predict.suffix == ".nii":
        return Amount.of(raw, "estimated")
    return Amount(raw / PACKED, "estimated", raw / MOST_PACKED, raw / LEAST_PACKED)
