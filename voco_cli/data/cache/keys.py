"""Names of cached volumes: a hash of a scan's content and of the settings that change a voxel."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from voco_cli.config.schema import Cache, Preprocess
from voco_cli.data.io.reader import image_files
from voco_cli.errors import DataError

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
    and no time, so that a copy is recognised.
    """
    digest = hashlib.blake2b()
    for file in files or _files(path):
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


def _files(path: Path) -> list[Path]:
    """List every file that holds a part of the scan."""
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
