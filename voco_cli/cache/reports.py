"""How building, checking, counting and pruning a cache went."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class BuildReport:
    """How a build went.

    Attributes:
        built: volumes that were written.
        reused: volumes that were there.
        failed: scans that gave none, and why.
        bytes: size of what was written.
    """

    built: int = 0
    reused: int = 0
    failed: list[tuple[Path, str]] = field(default_factory=list)
    bytes: int = 0


@dataclass(frozen=True)
class VerifyReport:
    """Stored arrays that were decoded, and those that are damaged, each with what is wrong."""

    checked: int
    damaged: list[tuple[Path, str]] = field(default_factory=list)


@dataclass(frozen=True)
class CacheStats:
    """What lies in a cache folder.

    Attributes:
        volumes, labels: stored arrays.
        bytes: their size on disk.
        voxel_bytes: size of the volumes uncompressed.
        settings: volumes for each combination of voxel settings (as JSON text).
        unfinished: files that killed processes left behind.
        unreadable: arrays that do not open.
    """

    volumes: int
    labels: int
    bytes: int
    voxel_bytes: int
    settings: dict[str, int]
    unfinished: int
    unreadable: int


@dataclass(frozen=True)
class PruneReport:
    """Files that no kept scan needs; removed unless it was a rehearsal."""

    removed: list[Path]
    bytes: int
