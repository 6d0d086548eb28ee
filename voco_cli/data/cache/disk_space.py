"""How large a cache will be, before it is built."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from voco_cli.config.schema import Cache, Preprocess
from voco_cli.data.cache.preprocess import preprocessed_shape
from voco_cli.data.index.datalist import Entry
from voco_cli.data.io.reader import read_header
from voco_cli.errors import ResourceError, VocoError

LEAST_RATIO = {"zstd": 1.9, "lz4": 1.3}
"""Compression that even a window of 1500 HU reached on real CT; a window of 425 HU had 3.9 and 3.0."""

SPARE_BYTES = 64 * 2**20
"""Left free on the disk, so that a run beside the cache can still write its state."""

RAS_AXIS = {"R": 0, "L": 0, "A": 1, "P": 1, "S": 2, "I": 2}


def largest_voxel_bytes(entry: Entry, preprocess: Preprocess, cache: Cache) -> int:
    """Return the uncompressed bytes of a preprocessed volume, at most: from the header, before foreground is cut.

    A list that does not say shapes costs a look into each header; an unreadable scan takes no space.
    """
    if entry.shape is not None and entry.spacing_mm is not None:
        shape_xyz, spacing_xyz_mm, orientation = entry.shape, entry.spacing_mm, entry.orientation or "RAS"
    else:
        try:
            header = read_header(entry.image, entry.files)
        except (VocoError, OSError):
            return 0  # the build names what is wrong with it
        shape_xyz, spacing_xyz_mm = header.shape_xyz, header.placement.spacing_xyz_mm
        orientation = header.orientation
    largest = largest_shape(shape_xyz, spacing_xyz_mm, orientation, preprocess)
    return int(np.prod(largest, dtype=np.int64)) * np.dtype(cache.dtype).itemsize


def largest_shape(
    shape_xyz: tuple[int, int, int],
    spacing_xyz_mm: tuple[float, float, float],
    orientation: str,
    preprocess: Preprocess,
) -> tuple[int, int, int]:
    """Return the voxels of a preprocessed volume, at most, by its scan's header (``orientation`` such as LPS)."""
    shape, spacing = [1, 1, 1], [1.0, 1.0, 1.0]
    for own_axis, letter in enumerate(orientation):
        shape[RAS_AXIS[letter]] = shape_xyz[own_axis]
        spacing[RAS_AXIS[letter]] = spacing_xyz_mm[own_axis]
    return preprocessed_shape((shape[0], shape[1], shape[2]), (spacing[0], spacing[1], spacing[2]), preprocess)


def require_space(folder: Path, needed_bytes: int, volumes: int) -> None:
    """Refuse to begin what cannot fit.

    Raises:
        ResourceError: the disk that holds ``folder`` has less room than is needed.
    """
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(existing).free - SPARE_BYTES
    if needed_bytes > free:
        raise ResourceError(
            f"{volumes} volume{'s need' if volumes > 1 else ' needs'} about {gigabytes(needed_bytes)} in {folder}, "
            f"where {gigabytes(max(free, 0))} are free.",
            hint="set cache.dir to a larger disk, or free some space (voco cache prune)",
        )


def gigabytes(size: float) -> str:
    """Return a number of bytes in words."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
