"""Which scans some weights were trained on: ``seen.json`` beside them, so that an evaluation can tell old friends.

Identities of patients and DICOM objects are kept as digests: weights are given away, and such names are private. The
hash of a scan's voxels is a digest already.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from voco_cli.dataset.datalist import Entry
from voco_cli.errors import DataError
from voco_cli.whole_files import write_whole

FORMAT = "voco-seen/1"
SEEN_FILE = "seen.json"
COLUMNS = ("patient", "voxel_hash", "series_uid", "study_uid")
DIGEST_BYTES = 8
"""Among 160,000 scans and 1,000 that are evaluated, two digests agree by chance once in 10^11 lists."""
LIKE_WEIGHTS = (".safetensors", ".pt", ".pth", ".ckpt")

Stage = Literal["pre-training", "fine-tuning"]


@dataclass(frozen=True)
class ScanIdentity:
    """By what a scan is known again.

    Attributes:
        case: what messages call it; scans of several channels share it.
        patient: as the data file has it.
        voxel_hash: of the decoded voxels, see `scans.content`; none where they were not read.
        series_uid, study_uid: of DICOM, where known.
    """

    case: str
    patient: str
    voxel_hash: str | None = None
    series_uid: str | None = None
    study_uid: str | None = None


@dataclass(frozen=True)
class SeenScans:
    """The scans of one training.

    Attributes:
        stage: what was trained.
        dataset: name of the dataset.
        patient, series_uid, study_uid: digests, one a scan; none where unknown.
        voxel_hash: one a scan; none where unknown.
    """

    stage: Stage
    dataset: str
    patient: tuple[str | None, ...]
    voxel_hash: tuple[str | None, ...]
    series_uid: tuple[str | None, ...]
    study_uid: tuple[str | None, ...]

    def __len__(self) -> int:
        return len(self.patient)

    @cached_property
    def sets(self) -> dict[str, frozenset[str]]:
        """What occurs in each column."""
        return {name: frozenset(value for value in getattr(self, name) if value) for name in COLUMNS}


@dataclass(frozen=True)
class Seen:
    """All that went into some weights.

    Attributes:
        stages: trainings, the first first.
        unknown: weights in the chain that do not say what they were trained on.
    """

    stages: tuple[SeenScans, ...] = ()
    unknown: tuple[str, ...] = ()

    def followed_by(self, stage: SeenScans) -> Seen:
        """The chain with one more training."""
        return Seen((*self.stages, stage), self.unknown)


def digest(value: str | None) -> str | None:
    """16 hexadecimal digits of a name; none of none."""
    return hashlib.blake2b(value.encode(), digest_size=DIGEST_BYTES).hexdigest() if value else None


def seen_scans(stage: Stage, dataset: str, scans: Iterable[ScanIdentity]) -> SeenScans:
    """The scans of a training, by column."""
    listed = list(scans)
    return SeenScans(
        stage=stage,
        dataset=dataset,
        patient=tuple(digest(scan.patient) for scan in listed),
        voxel_hash=tuple(scan.voxel_hash for scan in listed),
        series_uid=tuple(digest(scan.series_uid) for scan in listed),
        study_uid=tuple(digest(scan.study_uid) for scan in listed),
    )


def identity_of(entry: Entry, voxel_hash: str | None) -> ScanIdentity:
    """The identity of an entry's image, or of one of its channels."""
    return ScanIdentity(entry.name, entry.patient, voxel_hash, entry.series_uid, entry.study_uid)


def write_seen(seen: Seen, path: Path) -> None:
    """Write ``seen.json``, whole or not at all: about 55 bytes a scan, 92 of a DICOM series.

    Raises:
        ResourceError: the disk is full.
    """
    stages = [{"stage": one.stage, "dataset": one.dataset, "scans": len(one), **_columns(one)} for one in seen.stages]
    found = {"format": FORMAT, "unknown": list(seen.unknown), "stages": stages}
    write_whole(path, json.dumps(found, separators=(",", ":")).encode() + b"\n")


def read_seen(path: Path) -> Seen:
    """Read what `write_seen` wrote.

    Raises:
        DataError: missing, damaged or of another format.
    """
    try:
        found = json.loads(path.read_bytes())
        if found["format"] != FORMAT:
            raise ValueError(f"its format is {found['format']!r}, not {FORMAT!r}")
        return Seen(tuple(map(_stage, found["stages"])), tuple(map(str, found["unknown"])))
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        OverflowError,
        MemoryError,
        RecursionError,
    ) as error:
        words = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise DataError(
            f"{path} cannot be read as a list of scans that were seen: {words}.",
            "without the file, the weights do not say what they were trained on",
        ) from error


def seen_by(weights: str | Path) -> Seen | None:
    """What some weights were trained on.

    Args:
        weights: a run folder or a part of one, or a file of weights, beside which ``NAME.seen.json`` or ``seen.json``
            may lie; or anything else that names weights.
    Returns:
        None where the weights do not say.
    Raises:
        DataError: the list is damaged.
    """
    path = next((place for place in _places(Path(weights)) if place.is_file()), None)
    return None if path is None else read_seen(path)


def seen_before(weights: str | None) -> Seen:
    """What a training that starts from these weights has seen already: nothing where it starts from none.

    Raises:
        DataError: the list beside the weights is damaged.
    """
    if weights is None:
        return Seen()
    return seen_by(weights) or Seen(unknown=(weights,))


def seen_name(weights: Path) -> Path:
    """Where the list of a file of weights lies that is on its own: ``model.pt`` has ``model.seen.json``."""
    return weights.with_suffix(f".{SEEN_FILE}")


def copy_seen(weights: str | Path, exported: Path) -> list[Path]:
    """Let a copy of weights say what they were trained on; one that was left by other weights there is removed.

    Returns:
        the file that was written, if there was something to say.
    Raises:
        DataError: the list beside the weights is damaged.
        ResourceError: the disk is full.
    """
    seen, target = seen_by(weights), seen_name(exported)
    if seen is None:
        target.unlink(missing_ok=True)
        return []
    write_seen(seen, target)
    return [target]


def _places(weights: Path) -> list[Path]:
    """Where a list could lie; a run's own folder of weights speaks for all of its checkpoints."""
    if weights.suffix in LIKE_WEIGHTS:
        places = [seen_name(weights), weights.parent / SEEN_FILE]
    else:
        places = [weights / "weights" / SEEN_FILE, weights / SEEN_FILE]
    absolute = weights.absolute()
    runs = [folder.parent for folder in (absolute, *absolute.parents) if folder.name == "checkpoints"]
    return [*places, *(run / "weights" / SEEN_FILE for run in runs[:1])]


def _columns(scans: SeenScans) -> dict[str, Sequence[str | None] | None]:
    """Columns that say nothing of any scan are left out as null."""
    return {name: getattr(scans, name) if any(getattr(scans, name)) else None for name in COLUMNS}


def _stage(raw: Any) -> SeenScans:
    count = int(raw["scans"])
    columns = {name: tuple(raw[name]) if raw[name] is not None else (None,) * count for name in COLUMNS}
    uneven = [name for name, values in columns.items() if len(values) != count]
    if uneven:
        raise ValueError(f"the column {uneven[0]} has not {count} scans")
    if raw["stage"] not in ("pre-training", "fine-tuning"):
        raise ValueError(f"{raw['stage']!r} is no stage")
    return SeenScans(raw["stage"], str(raw["dataset"]), **columns)
