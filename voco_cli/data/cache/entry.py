"""What is known of a cached volume before it is made: its name and its size at most.

The name is a hash of the scan's content and of the settings that change a voxel.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from voco_cli.config.schema import Cache, Preprocess
from voco_cli.data.cache.preprocess import preprocessed_shape
from voco_cli.data.index.datalist import Entry
from voco_cli.data.io.reader import image_files, read_header
from voco_cli.data.io.scratch import local_copy
from voco_cli.errors import DataError, ResourceError, VocoError
from voco_cli.object_stores import RemotePath, facts, is_remote

FORMAT_VERSION = 2
"""Raised whenever the same scan and settings would give other voxels, or the file another layout."""

KEY_BYTES = 16
ONE_FILE = (".nii", ".nii.gz", ".mha", ".npy")
"""Endings of images that are never spread over two files."""

SAMPLES = 5
SAMPLE_BYTES = 4096


def volume_key(image: Path, files: Sequence[Path], fingerprint: str, full_hash: bool) -> str:
    """Return 32 hexadecimal digits that name the preprocessed volume of a scan.

    Args:
        image: the scan, as `read_scan` takes it.
        files: those of a DICOM series that no folder tells apart, else empty.
        fingerprint: of the settings, see `settings_fingerprint`.
        full_hash: know the scan by all its bytes, not by size, time and samples.
    Raises:
        DataError: the scan is missing, or a file that its header names.
    """
    digest = hashlib.blake2b(content_identity(image, full_hash, files), digest_size=KEY_BYTES)
    digest.update(fingerprint.encode())
    return digest.hexdigest()


def label_key(volume: str, label: Path, full_hash: bool) -> str:
    """Return 32 hexadecimal digits that name the label map of a cached volume, on the volume's grid."""
    digest = hashlib.blake2b(content_identity(label, full_hash), digest_size=KEY_BYTES)
    digest.update(volume.encode())
    return digest.hexdigest()


def voxel_settings(preprocess: Preprocess, cache: Cache) -> dict[str, Any]:
    """Return the settings that change a voxel; codec, chunks and the kind of intensity that is not in use do not."""
    settings = preprocess.model_dump(mode="json")
    del settings["percentiles" if preprocess.intensity == "window" else "window_hu"]
    return {"format": FORMAT_VERSION, "dtype": cache.dtype, "preprocess": settings}


def settings_fingerprint(preprocess: Preprocess, cache: Cache) -> str:
    """Return the settings that change a voxel, as text."""
    return json.dumps(voxel_settings(preprocess, cache), sort_keys=True)


def content_identity(path: Path, full_hash: bool, files: Sequence[Path] = ()) -> bytes:
    """Return what tells a scan's content from another's without decoding it; its name and place do not count.

    Size, modification time and five samples of each file (the first holds the header): uncompressed scans of a
    series share size and header, and unpacked archives share whole seconds of time. With ``full_hash`` all bytes
    and no time, so that a copy is recognised. Of a file in an object store, its size and what the store says changes
    with it (its hash, most likely), so that nothing is fetched.
    """
    digest = hashlib.blake2b()
    for file in files or _files(path):
        if isinstance(file, RemotePath):
            digest.update(_remote_identity(file, full_hash))
            continue
        if not file.is_file():
            raise DataError(f"{file} does not exist.")
        stat = file.stat()
        digest.update(f"{stat.st_size}|".encode())
        if full_hash:
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
        else:
            digest.update(f"{stat.st_mtime_ns}|".encode())
            digest.update(_samples(file, stat.st_size))
    return digest.digest()


def _remote_identity(path: RemotePath, full_hash: bool) -> bytes:
    try:
        known = facts(path)
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist.") from error
    if known.stamp and not full_hash:
        return f"{known.size}|{known.stamp}|".encode()
    with local_copy(path) as local, local.open("rb") as stream:
        return f"{known.size}|".encode() + hashlib.file_digest(stream, "sha256").digest()


def _files(path: Path) -> list[Path]:
    """List every file that holds a part of the scan."""
    if is_remote(path):
        return [path]
    if path.is_dir():
        return sorted(child for child in path.rglob("*") if child.is_file())
    if path.name.lower().endswith(ONE_FILE) or not path.is_file():
        return [path]
    return sorted({path, *image_files(path)})


def _samples(file: Path, size: int) -> bytes:
    last = max(0, size - SAMPLE_BYTES)
    with file.open("rb", buffering=0) as stream:
        parts = []
        for sample in range(SAMPLES):
            stream.seek(last * sample // (SAMPLES - 1))
            parts.append(stream.read(SAMPLE_BYTES))
    return b"".join(parts)


LEAST_RATIO = {"zstd": 1.9, "lz4": 1.3}
"""Compression that even a window of 1500 HU reached on real CT; a window of 425 HU had 3.9 and 3.0."""

SPARE_BYTES = 64 * 2**20
"""Left free on the disk, so that a run beside the cache can still write its state."""

RAS_AXIS = {"R": 0, "L": 0, "A": 1, "P": 1, "S": 2, "I": 2}


def largest_voxel_bytes(entry: Entry, preprocess: Preprocess, cache: Cache) -> int:
    """Return the uncompressed bytes of a preprocessed volume, at most: from the header, before foreground is cut.

    The header is read where the list does not say the shape; an unreadable scan takes no space.
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
