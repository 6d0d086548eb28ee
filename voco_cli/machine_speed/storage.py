"""How fast a disk takes and gives bytes."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import numpy as np

from voco_cli.operating_system import drop_cached_pages

FILE_BYTES = 256 << 20
BLOCK_BYTES = 16 << 20
DISK_SHARE = 0.05
"""Of the free disk, at most."""
ROUNDS = 3


def time_disk(folder: Path, budget_s: float, file_bytes: int = FILE_BYTES) -> tuple[list[float], list[float]]:
    """Write and read a file of noise, as often as time allows; the system's copy in memory is dropped in between.

    Returns:
        MB/s of each write, until the disk has it, and of each read.
    Raises:
        OSError: the disk is full or does not allow it.
    """
    most = min(file_bytes, int(DISK_SHARE * shutil.disk_usage(folder).free))
    size = max(1, most // BLOCK_BYTES) * BLOCK_BYTES
    noise = np.random.default_rng(0).bytes(BLOCK_BYTES)
    path, began_s = folder / "noise", time.perf_counter()
    written: list[float] = []
    read: list[float] = []
    while len(written) < ROUNDS and (not written or time.perf_counter() - began_s < budget_s):
        written.append(size / 1e6 / _write_s(path, noise, size))
        read.append(size / 1e6 / _read_s(path))
        path.unlink()
    return written, read


def _write_s(path: Path, noise: bytes, size: int) -> float:
    start_s = time.perf_counter()
    with path.open("wb", buffering=0) as file:
        for _ in range(size // len(noise)):
            file.write(noise)
        os.fsync(file.fileno())
    return time.perf_counter() - start_s


def _read_s(path: Path) -> float:
    buffer = bytearray(BLOCK_BYTES)
    drop_cached_pages(path)
    with path.open("rb", buffering=0) as file:
        start_s = time.perf_counter()
        while file.readinto(buffer):
            pass
    return time.perf_counter() - start_s
