"""Which scans some weights were trained on: ``seen.json`` beside them, so that an evaluation can tell old friends.

Weights are given away, and names of patients are private: the file holds salted digests. What they protect against,
and what not, is said in docs/reference/files.md.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from voco_cli.atomic_files import write_atomic
from voco_cli.data.index.datalist import Entry
from voco_cli.errors import DataError

FORMAT = "voco-seen/2"
UNSALTED_FORMAT = "voco-seen/1"
SEEN_FILE = "seen.json"
COLUMNS = ("patient", "voxel_hash", "series_uid", "study_uid")
GUESSABLE = ("patient",)
"""Names that are short enough to be tried out; hashes of voxels and UIDs are too long for that."""
DIGEST_BYTES = 8
"""Among 160,000 scans and 1,000 that are evaluated, two digests agree by chance once in 10^11 lists."""
SALT_BYTES = 16
SCRYPT_COST = 2**12
"""7 ms and 4 MiB for a name on one core: 100,000 patients take 12 minutes of one, and ten million guesses 19 hours."""
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
        salt: what goes before a name into its digest, another in each training, so that no table made in advance tells
            names and two lists do not tell whom they share.
        patient, voxel_hash, series_uid, study_uid: digests, one a scan; none where unknown.
    """

    stage: Stage
    dataset: str
    salt: bytes
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

    def known(self, column: str, values: Iterable[str | None]) -> frozenset[str]:
        """Those of some names (or hashes of voxels) that occur in a column."""
        if not self.sets[column]:
            return frozenset()
        found = digests(column, values, self.salt)
        return frozenset(value for value, digest in found.items() if digest in self.sets[column])


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


def digests(column: str, values: Iterable[str | None], salt: bytes) -> dict[str, str]:
    """16 hexadecimal digits for each different name; names that can be guessed are made slow to try out."""
    distinct = list(dict.fromkeys(value for value in values if value))
    if column not in GUESSABLE:
        return {value: _fast_digest(column, value, salt) for value in distinct}
    with ThreadPoolExecutor() as pool:  # scrypt lets other threads run
        return dict(zip(distinct, pool.map(lambda value: _slow_digest(column, value, salt), distinct), strict=True))


def _fast_digest(column: str, value: str, salt: bytes) -> str:
    return hashlib.blake2b(_bytes(column, value), key=salt, digest_size=DIGEST_BYTES).hexdigest()


def _slow_digest(column: str, value: str, salt: bytes) -> str:
    return hashlib.scrypt(_bytes(column, value), salt=salt, n=SCRYPT_COST, r=8, p=1, dklen=DIGEST_BYTES).hex()


def _bytes(column: str, value: str) -> bytes:
    return f"{column}\0{value}".encode(errors="surrogateescape")


def seen_scans(stage: Stage, dataset: str, scans: Iterable[ScanIdentity], salt: bytes | None = None) -> SeenScans:
    """The scans of a training, by column.

    Args:
        salt: drawn where there is none.
    """
    listed = list(scans)
    salt = salt or secrets.token_bytes(SALT_BYTES)
    columns = {}
    for name in COLUMNS:
        found = digests(name, (getattr(scan, name) for scan in listed), salt)
        columns[name] = tuple(found.get(getattr(scan, name) or "") for scan in listed)
    return SeenScans(stage, dataset, salt, **columns)


def identity_of(entry: Entry, voxel_hash: str | None) -> ScanIdentity:
    """The identity of an entry's image, or of one of its channels."""
    return ScanIdentity(entry.name, entry.patient, voxel_hash, entry.series_uid, entry.study_uid)


def write_seen(seen: Seen, path: Path) -> None:
    """Write ``seen.json``, whole or not at all: about 38 bytes a scan, 76 of a DICOM series.

    Raises:
        ResourceError: the disk is full.
    """
    stages = [
        {"stage": one.stage, "dataset": one.dataset, "scans": len(one), "salt": one.salt.hex(), **_columns(one)}
        for one in seen.stages
    ]
    found = {"format": FORMAT, "unknown": list(seen.unknown), "stages": stages}
    write_atomic(path, json.dumps(found, separators=(",", ":")).encode() + b"\n")


def read_seen(path: Path) -> Seen:
    """Read what `write_seen` wrote.

    Raises:
        DataError: missing, damaged or of another format.
    """
    try:
        found = json.loads(path.read_bytes())
        if found["format"] == UNSALTED_FORMAT:
            raise _unsalted(path)
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


def _unsalted(path: Path) -> DataError:
    return DataError(
        f"{path} is of an older version of voco, whose hashes were not salted and can be looked up: it is not read.",
        f"remove it (rm {path}), and do not give it away; the weights then do not say what they were trained on",
    )


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
    salt = bytes.fromhex(raw["salt"])
    if len(salt) != SALT_BYTES:
        raise ValueError(f"its salt is not of {SALT_BYTES} bytes")
    return SeenScans(raw["stage"], str(raw["dataset"]), salt, **columns)
