"""Disks: room, the right to write, and how fast a cache of volumes is written and read there."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

from voco_cli.operating_system import drop_cached_pages
from voco_cli.planning.doctor.check import Check
from voco_cli.planning.places import LEAST_BYTES, existing_parent, mount_point, temporary_folder

SMALL_BYTES = 20_000_000_000
"""The checkpoints of the recipe cvpr take 5 GB, the cache of a thousand CTs some 8 GB more."""
VOLUMES = 6
TILES = (4, 4, 4)
PHANTOM_VOX = (96, 96, 24)
SLOW_VOLUMES_PER_S = 20.0
"""What keeps the fastest card busy that was measured: an H100 takes seventeen with the recipe cvpr."""


def room(name: str, folder: Path) -> Check:
    """Whether a folder, which need not exist yet, can be written to, and how much is free there."""
    existing = existing_parent(folder)
    free = shutil.disk_usage(existing).free
    values = {"folder": str(folder), "free_bytes": free, "mount": str(mount_point(existing))}
    found = f"{folder}: {free / 1e9:.1f} GB free on the disk of {mount_point(existing)}"
    key = "cache.dir" if name == "cache folder" else "run.dir"
    reason = _refusal(existing)
    if reason is not None:
        return Check(name, "problem", f"{folder}: {reason}", f"choose another folder: --set {key}=FOLDER", values)
    if free < LEAST_BYTES:
        return Check(name, "problem", found, f"free some space, or choose another disk: --set {key}=FOLDER", values)
    if free < SMALL_BYTES:
        return Check(name, "warning", found, "voco plan DATA says what a run will need", values)
    return Check(name, "ok", found, values=values)


def _refusal(existing: Path) -> str | None:
    """Why nothing can be written into a folder; none where it can."""
    if not os.access(existing, os.W_OK | os.X_OK):
        return f"{existing} may not be written to"
    probe = existing / f".voco-probe-{os.getpid()}"
    try:
        probe.write_bytes(b"voco")
    except OSError as error:
        return f"{existing} cannot be written to ({error.strerror or error})"
    finally:
        probe.unlink(missing_ok=True)
    return None


def throughput(folder: Path) -> Check:
    """Write some compressed volumes as the cache does, and read them back from the disk."""
    import numpy as np

    from voco_cli.cache.encoding import compress
    from voco_cli.cache.volume import StoredVolume
    from voco_cli.phantom.generate import generate_phantom
    from voco_cli.settings.sections import Cache
    from voco_cli.whole_files import write_whole

    hu = generate_phantom(0, PHANTOM_VOX).image_hu_xyz.astype(np.float32)
    stored = np.tile(np.rint(np.clip((hu + 175) / 425, 0, 1) * 255).astype(np.uint8), TILES)
    content = bytes(compress(stored, Cache()).to_cframe())
    with temporary_folder(folder) as beside:
        paths = [beside / f"{number}.b2nd" for number in range(VOLUMES)]
        start_s = time.perf_counter()
        for path in paths:
            write_whole(path, content)
        written_s = time.perf_counter() - start_s
        for path in paths:
            drop_cached_pages(path)
        start_s = time.perf_counter()
        for path in paths:
            StoredVolume(path).read((0, 0, 0), stored.shape)
        read_s = time.perf_counter() - start_s
    megabytes = VOLUMES * len(content) / 1e6
    values = {
        "write_mb_per_s": megabytes / written_s,
        "read_mb_per_s": megabytes / read_s,
        "write_volumes_per_s": VOLUMES / written_s,
        "read_volumes_per_s": VOLUMES / read_s,
        "shape": list(stored.shape),
        "volume_bytes": len(content),
    }
    size = "x".join(map(str, stored.shape))
    found = (
        f"writes {megabytes / written_s:.0f} MB/s ({VOLUMES / written_s:.1f} volumes/s), reads "
        f"{megabytes / read_s:.0f} MB/s ({VOLUMES / read_s:.1f} volumes/s) of {size} voxels on one core"
    )
    if VOLUMES / read_s < SLOW_VOLUMES_PER_S:
        advice = "steps on a GPU will wait for data: --set cache.dir=FOLDER on a local disk"
        return Check("cache throughput", "warning", found, advice, values)
    return Check("cache throughput", "ok", found, values=values)
