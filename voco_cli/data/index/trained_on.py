"""The manifest of training scans, ``seen.json`` beside weights: it shows data leakage into a later evaluation.

Weights are given away, and names of patients are private: the file holds salted digests. docs/reference/files.md says
what they protect against, and what not.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

from voco_cli.atomic_files import write_atomic
from voco_cli.data.index.datalist import Entry
from voco_cli.errors import DataError

FORMAT = "voco-seen/3"
WITHOUT_COLLECTIONS = "voco-seen/2"
UNSALTED_FORMAT = "voco-seen/1"
MANIFEST_FILE = "seen.json"
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


@dataclass(frozen=True, slots=True)
class ScanIdentity:
    """What a scan is recognised by.

    Attributes:
        case: what messages call it; scans of several channels share it.
        patient: as the data file has it.
        voxel_hash: of the decoded voxels, see `voxel_hash` in data/io/image.py; none where they were not read.
        series_uid, study_uid: of DICOM, where known.
        file: its path, by which a list of names may know it.
        labels_used: its label map, or labels of the whole scan, were learned from.
    """

    case: str
    patient: str
    voxel_hash: str | None = None
    series_uid: str | None = None
    study_uid: str | None = None
    file: Path = Path()
    labels_used: bool = False


@dataclass(frozen=True)
class TrainingScans:
    """The scans of one training.

    Attributes:
        stage: what was trained.
        dataset: name of the dataset.
        salt: what goes before a name into its digest, another in each training, so that no table made in advance tells
            names and two lists do not tell whom they share.
        patient, voxel_hash, series_uid, study_uid: digests, one a scan; none where unknown.
        classes: learned from labels; empty where a training names none.
        labels_used: of each scan, whether its labels were learned from; empty where classes are.
    """

    stage: Stage
    dataset: str
    salt: bytes
    patient: tuple[str | None, ...]
    voxel_hash: tuple[str | None, ...]
    series_uid: tuple[str | None, ...]
    study_uid: tuple[str | None, ...]
    classes: tuple[str, ...] = ()
    labels_used: tuple[bool, ...] = ()

    def __len__(self) -> int:
        return len(self.patient)

    @cached_property
    def sets(self) -> dict[str, frozenset[str]]:
        """Return the digests that occur in each column."""
        return {name: frozenset(value for value in getattr(self, name) if value) for name in COLUMNS}

    @property
    def labelled(self) -> TrainingScans:
        """Return the scans whose label maps were learned from."""
        places = [place for place, used in enumerate(self.labels_used) if used]
        columns = {name: tuple(getattr(self, name)[place] for place in places) for name in COLUMNS}
        return TrainingScans(self.stage, self.dataset, self.salt, **columns)

    def known(self, column: str, values: Iterable[str | None]) -> frozenset[str]:
        """Return those of some names (or hashes of voxels) that occur in a column."""
        if not self.sets[column]:
            return frozenset()
        found = digests(column, values, self.salt)
        return frozenset(value for value, digest in found.items() if digest in self.sets[column])


@dataclass(frozen=True)
class TrainingCollection:
    """Weights of others of which the scans are known by name.

    Attributes:
        weights: file or address.
        collection: name of what `voco collections` lists, or a YAML file.
        evidence: how that is known, in words.
        surely: False where other weights may be alike.
        labels: whether labels were used, in words; empty where that is not known.
        besides: what they were trained on beside the collection, of which no names are known; empty where nothing.
    """

    weights: str
    collection: str
    evidence: str
    surely: bool = True
    labels: str = ""
    besides: str = ""


@dataclass(frozen=True)
class TrainingManifest:
    """All scans that some weights were trained on.

    Attributes:
        stages: trainings, the first first.
        unknown: weights in the chain that do not say what they were trained on.
        collections: weights in the chain that say it neither, and of which it is known.
    """

    stages: tuple[TrainingScans, ...] = ()
    unknown: tuple[str, ...] = ()
    collections: tuple[TrainingCollection, ...] = ()

    def followed_by(self, stage: TrainingScans) -> TrainingManifest:
        """Return the manifest with one more training."""
        return replace(self, stages=(*self.stages, stage))


def digests(column: str, values: Iterable[str | None], salt: bytes) -> dict[str, str]:
    """Return 16 hexadecimal digits for each different name; names that can be guessed are made slow to try out."""
    distinct = list(dict.fromkeys(value for value in values if value))
    named = [f"{column}\0{value}".encode(errors="surrogateescape") for value in distinct]
    if column not in GUESSABLE:
        found = [hashlib.blake2b(one, key=salt, digest_size=DIGEST_BYTES).hexdigest() for one in named]
        return dict(zip(distinct, found, strict=True))
    slow = partial(hashlib.scrypt, salt=salt, n=SCRYPT_COST, r=8, p=1, dklen=DIGEST_BYTES)
    with ThreadPoolExecutor() as pool:  # scrypt lets other threads run
        return {value: digest.hex() for value, digest in zip(distinct, pool.map(slow, named), strict=True)}


def training_scans(
    stage: Stage,
    dataset: str,
    scans: Iterable[ScanIdentity],
    salt: bytes | None = None,
    classes: Sequence[str] = (),
) -> TrainingScans:
    """Return the digests of a training's scans, by column.

    Args:
        salt: drawn where there is none.
        classes: that were learned from labels, as a pre-training names them.
    """
    listed = list(scans)
    salt = salt or secrets.token_bytes(SALT_BYTES)
    columns = {}
    for name in COLUMNS:
        found = digests(name, (getattr(scan, name) for scan in listed), salt)
        columns[name] = tuple(found.get(getattr(scan, name) or "") for scan in listed)
    used = tuple(scan.labels_used for scan in listed) if classes else ()
    return TrainingScans(stage, dataset, salt, **columns, classes=tuple(classes), labels_used=used)


def scan_identity(entry: Entry, voxel_hash: str | None) -> ScanIdentity:
    """Return what an entry's image, or one of its channels, is recognised by."""
    return ScanIdentity(entry.name, entry.patient, voxel_hash, entry.series_uid, entry.study_uid, entry.image)


def write_manifest(manifest: TrainingManifest, path: Path) -> None:
    """Write ``seen.json``, whole or not at all: about 38 bytes a scan, 76 of a DICOM series.

    Raises:
        ResourceError: the disk is full.
    """
    stages = [
        {
            "stage": one.stage,
            "dataset": one.dataset,
            "scans": len(one),
            "salt": one.salt.hex(),
            **_columns(one),
            **({"classes": list(one.classes), "labels_used": list(map(int, one.labels_used))} if one.classes else {}),
        }
        for one in manifest.stages
    ]
    collections = [asdict(one) for one in manifest.collections]
    found = {"format": FORMAT, "unknown": list(manifest.unknown), "collections": collections, "stages": stages}
    write_atomic(path, json.dumps(found, separators=(",", ":")).encode() + b"\n")


def read_manifest(path: Path) -> TrainingManifest:
    """Read a manifest.

    Raises:
        DataError: missing, damaged or of another format.
    """
    try:
        found = json.loads(path.read_bytes())
        if found["format"] == UNSALTED_FORMAT:
            raise _unsalted(path)
        if found["format"] not in (FORMAT, WITHOUT_COLLECTIONS):
            raise ValueError(f"its format is {found['format']!r}, not {FORMAT!r}")
        stages, unknown = tuple(map(_stage, found["stages"])), tuple(map(str, found["unknown"]))
        return TrainingManifest(stages, unknown, tuple(map(_collection, found.get("collections", ()))))
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
            f"{path} cannot be read as a manifest of training scans: {words}.",
            "without the file, the weights do not say what they were trained on",
        ) from error


def _unsalted(path: Path) -> DataError:
    return DataError(
        f"{path} is of an older version of voco, whose hashes were not salted and can be looked up: it is not read.",
        f"remove it (rm {path}), and do not give it away; the weights then do not say what they were trained on",
    )


def manifest_of(weights: str | Path) -> TrainingManifest | None:
    """Find and read the manifest of some weights.

    Args:
        weights: a run folder or a part of one, or a file of weights, beside which ``NAME.seen.json`` or ``seen.json``
            may lie; or anything else that names weights.
    Returns:
        None where the weights do not say.
    Raises:
        DataError: the list is damaged.
    """
    path = next((place for place in _places(Path(weights)) if place.is_file()), None)
    return None if path is None else read_manifest(path)


def manifest_path(weights: Path) -> Path:
    """Return where the manifest of a lone file of weights lies: ``model.pt`` has ``model.seen.json``."""
    return weights.with_suffix(f".{MANIFEST_FILE}")


def copy_manifest(weights: str | Path, exported: Path, known: TrainingManifest | None = None) -> list[Path]:
    """Write the manifest of weights beside a copy of them; one that other weights left there is removed.

    Args:
        known: what is known of weights that have no manifest of their own.
    Returns:
        the file that was written, if there was something to say.
    Raises:
        DataError: the list beside the weights is damaged.
        ResourceError: the disk is full.
    """
    manifest, target = manifest_of(weights) or known, manifest_path(exported)
    if manifest is None:
        target.unlink(missing_ok=True)
        return []
    write_manifest(manifest, target)
    return [target]


def _places(weights: Path) -> list[Path]:
    """List where a manifest could lie; a run's own folder of weights speaks for all of its checkpoints."""
    if weights.suffix in LIKE_WEIGHTS:
        places = [manifest_path(weights), weights.parent / MANIFEST_FILE]
    else:
        places = [weights / "weights" / MANIFEST_FILE, weights / MANIFEST_FILE]
    absolute = weights.absolute()
    runs = [folder.parent for folder in (absolute, *absolute.parents) if folder.name == "checkpoints"]
    return [*places, *(run / "weights" / MANIFEST_FILE for run in runs[:1])]


def _columns(scans: TrainingScans) -> dict[str, Sequence[str | None] | None]:
    """Return the columns; one that says nothing of any scan is null."""
    return {name: getattr(scans, name) if any(getattr(scans, name)) else None for name in COLUMNS}


def _collection(raw: Any) -> TrainingCollection:
    texts = {name: str(raw[name]) for name in ("weights", "collection", "evidence", "labels", "besides")}
    return TrainingCollection(**texts, surely=bool(raw["surely"]))


def _stage(raw: Any) -> TrainingScans:
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
    used = tuple(map(bool, raw.get("labels_used", ())))
    if used and len(used) != count:
        raise ValueError(f"the column labels_used has not {count} scans")
    classes = tuple(map(str, raw.get("classes", ())))
    return TrainingScans(raw["stage"], str(raw["dataset"]), salt, **columns, classes=classes, labels_used=used)
