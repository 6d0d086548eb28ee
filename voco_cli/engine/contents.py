"""What a run began with, by content: its starting weights and its scans, wherever they lie now.

contents.json
  weights    SHA-256 of the file that the run started from; null where it started fresh
  scans      split to one text a scan, in the order of data.json; null until they are known, and for a scan left out
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from voco_cli.cache.volume import StoredVolume
from voco_cli.engine.faults import full_disk_told
from voco_cli.errors import DataError
from voco_cli.networks.weights.sources import find_file
from voco_cli.settings.sections import Model
from voco_cli.whole_files import write_whole

FORMAT = "voco-contents/1"
Scans = Mapping[str, Sequence[str | None]]
"""Split to what tells the content of each of its scans."""


@dataclass(frozen=True)
class Contents:
    """What a run began with.

    Attributes:
        weights: digest of the starting weights; none where it started fresh.
        scans: as training sees them; none until they are known.
    """

    weights: str | None = None
    scans: Scans | None = None


def weights_digest(model: Model) -> str | None:
    """SHA-256 of the file that ``model.weights`` names; none where it names nothing.

    Raises:
        DataError, UsageError: as `find_file`.
    """
    if model.weights is None:
        return None
    path = find_file(model.weights, model.weights_branch)
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error


def scan_content(volumes: Sequence[StoredVolume]) -> str:
    """What tells the channels and the label map of a case from others: hashes of voxels, and the scans' spacing."""
    parts = []
    for volume in volumes:
        spacing_mm = np.linalg.norm(np.asarray(volume.metadata.record.source_affine)[:3, :3], axis=0)
        parts.append(":".join([volume.voxel_hash, *(f"{mm:.3g}" for mm in spacing_mm)]))
    if (label := volumes[0].label_hash) is not None:
        parts.append(label)
    return "/".join(parts)


def read_contents(path: Path) -> Contents:
    """Read what `write_contents` wrote.

    Raises:
        DataError: missing or damaged.
    """
    try:
        held = json.loads(path.read_bytes())
        scans = held["scans"]
        if held["format"] != FORMAT or not isinstance(scans, dict | None):
            raise ValueError(f"it is not of the format {FORMAT}")
        return Contents(held["weights"], scans)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        words = error.strerror if isinstance(error, OSError) else error
        raise DataError(
            f"{path}, which says what the run began with, cannot be read: {words}.", "start anew in another run.dir"
        ) from error


def write_contents(path: Path, contents: Contents) -> None:
    """Write contents.json, whole or not at all.

    Raises:
        ResourceError: the disk is full.
    """
    held: dict[str, Any] = {"format": FORMAT, "weights": contents.weights, "scans": contents.scans}
    with full_disk_told(path.parent, f"{path.name} could not be written"):
        write_whole(path, json.dumps(held, separators=(",", ":")).encode() + b"\n")
