"""The building of volumes: from a scan, and its label map, to what is stored of them, and how a build of many went."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from voco_cli.atomic_files import write_atomic
from voco_cli.config.schema import Cache, Preprocess
from voco_cli.data.cache.entry import FORMAT_VERSION, voxel_settings
from voco_cli.data.cache.manifest import VolumeFacts
from voco_cli.data.cache.preprocess import preprocess, preprocess_label
from voco_cli.data.cache.volume import (
    StoredVolume,
    VolumeMetadata,
    compress,
    quantise,
    stored_hash,
    to_file_bytes,
    values_of,
)
from voco_cli.data.index.datalist import Entry, read_entry
from voco_cli.data.io.image import voxel_hash, whole_labels
from voco_cli.data.io.reader import read_scan
from voco_cli.data.shards import files_of
from voco_cli.errors import DataError


@dataclass(frozen=True)
class BuildTask:
    """A scan, and where its volume and label map belong; paths that exist already are not written again."""

    entry: Entry
    volume_path: Path
    label_path: Path | None
    preprocess: Preprocess
    cache: Cache

    @property
    def files(self) -> tuple[Path, ...]:
        """Return the files that are read."""
        return files_of(self.entry)

    @property
    def is_done(self) -> bool:
        """Return whether everything is there."""
        return self.volume_path.is_file() and (self.label_path is None or self.label_path.is_file())


def build_one(task: BuildTask) -> int:
    """Read, preprocess and write what is missing of one scan.

    Returns:
        bytes that were written.
    Raises:
        DataError: the scan or its label map cannot be used.
        ResourceError: the disk is full.
    """
    written = 0
    if not task.volume_path.exists():
        content = volume_file(task)
        write_atomic(task.volume_path, content)
        written += len(content)
    label = task.entry.label
    if label is not None and task.label_path is not None and not task.label_path.exists():
        content = _label_file(task, label)
        write_atomic(task.label_path, content)
        written += len(content)
    return written


def volume_file(task: BuildTask) -> bytes:
    """Return the content of the file that a scan is cached as."""
    scan = read_entry(task.entry)
    volume = preprocess(scan, task.preprocess)
    stored = quantise(volume.array_xyz, task.cache.dtype)
    metadata = VolumeMetadata(
        format=FORMAT_VERSION,
        key=task.volume_path.stem,
        voxel_hash=voxel_hash(scan),
        stored_hash=stored_hash(stored),
        settings=voxel_settings(task.preprocess, task.cache),
        record=volume.record,
        notes=scan.notes,
    )
    return to_file_bytes(compress(stored, task.cache), metadata)


def _label_file(task: BuildTask, label: Path) -> bytes:
    of_volume = StoredVolume(task.volume_path).metadata
    scan = read_scan(label)
    try:
        whole = whole_labels(scan.array_zyx)
    except ValueError as error:
        raise DataError(f"{label} {error}.", "give a label map with one whole number a structure") from error
    scan = replace(scan, array_zyx=whole)
    stored = preprocess_label(scan, of_volume.record)
    metadata = of_volume.model_copy(update={"voxel_hash": voxel_hash(scan), "stored_hash": stored_hash(stored)})
    return to_file_bytes(compress(stored, task.cache), metadata, values_of(stored))


@dataclass(frozen=True)
class BuildReport:
    """The outcome of a build.

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
class PreparedCache:
    """What a cache holds of some scans, after all that was missing was built.

    Attributes:
        facts: what is known of each scan's volume, in the order of the scans, or why there is none.
        report: what was built.
        notes: what was not as it should be, one sentence each.
    """

    facts: list[VolumeFacts | str]
    report: BuildReport
    notes: tuple[str, ...]


@dataclass
class BuildProgress:
    """A build under way.

    Attributes:
        entries: the scans.
        done: told of each scan that ended, with the reason where it failed.
        found: what is known of each scan's volume, or why there is none.
        waiting: what is to be built, and for which places in the list.
        remade: volumes among it that did not open.
    """

    entries: Sequence[Entry]
    done: Callable[[Entry, str | None], None]
    waiting: dict[BuildTask, list[int]] = field(default_factory=dict)
    remade: int = 0
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.found: list[VolumeFacts | str | None] = [None] * len(self.entries)

    def end(self, place: int, found: VolumeFacts | str) -> None:
        """Keep what is known of a scan."""
        self.found[place] = found
        self.counts["reused"] += isinstance(found, VolumeFacts)
        self.done(self.entries[place], found if isinstance(found, str) else None)

    def built(self, task: BuildTask, found: VolumeFacts | str, written: int) -> None:
        """Keep what was built, for each of the scans that are the same."""
        for place in self.waiting[task]:
            self.end(place, found)
        if isinstance(found, VolumeFacts):
            self.counts.update(built=1, reused=-1, bytes=written)

    def report(self) -> BuildReport:
        """Return how it went."""
        failed = [
            (entry.image, one) for entry, one in zip(self.entries, self.found, strict=True) if isinstance(one, str)
        ]
        return BuildReport(self.counts["built"], self.counts["reused"], failed, self.counts["bytes"])
