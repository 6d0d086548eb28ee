"""The cache of preprocessed volumes: one folder, one file a volume, named by content and settings.

```
<folder>/volumes/3f/3f…e1.b2nd     the volume
<folder>/labels/a0/a0…9c.b2nd      its label map on the same grid, where labels are asked for
```
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from voco_cli.atomic_files import UNFINISHED, unfinished_files, write_atomic
from voco_cli.config.schema import Cache, Preprocess
from voco_cli.data.cache.entry import (
    FORMAT_VERSION,
    LEAST_RATIO,
    label_key,
    largest_voxel_bytes,
    require_space,
    settings_fingerprint,
    volume_key,
    voxel_settings,
)
from voco_cli.data.cache.preprocess import preprocess, preprocess_label
from voco_cli.data.cache.volume import (
    StoredVolume,
    VolumeMetadata,
    compress,
    damage,
    quantise,
    stored_hash,
    to_file_bytes,
)
from voco_cli.data.index.datalist import Entry, read_entry
from voco_cli.data.io.image import voxel_hash, whole_labels
from voco_cli.data.io.reader import read_scan
from voco_cli.data.io.scratch import scratch
from voco_cli.data.parallel import run_jobs
from voco_cli.errors import DataError, ResourceError, VocoError
from voco_cli.object_stores import (
    RemotePath,
    is_remote,
    know_all_below,
    location,
    objects_below,
    require_writable,
)

SUFFIX = ".b2nd"
PROBES = 3
"""Scans that are compressed for the sake of the prediction alone, where a cautious one says that they do not fit."""


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
class VerifyReport:
    """Stored arrays that were decoded, and those that are damaged, each with what is wrong."""

    checked: int
    damaged: list[tuple[Path, str]] = field(default_factory=list)


@dataclass(frozen=True)
class CacheStats:
    """The content of a cache folder.

    Attributes:
        volumes, labels: stored arrays.
        bytes: their size on disk.
        voxel_bytes: size of the volumes uncompressed.
        settings: volumes for each combination of voxel settings (as JSON text).
        unfinished: files that killed processes left behind.
        unreadable: arrays that do not open.
    """

    volumes: int
    labels: int
    bytes: int
    voxel_bytes: int
    settings: dict[str, int]
    unfinished: int
    unreadable: int


@dataclass(frozen=True)
class PruneReport:
    """Files that no kept scan needs; removed unless it was a rehearsal."""

    removed: list[Path]
    bytes: int


@dataclass(frozen=True)
class BuildTask:
    """A scan, and where its volume and label map belong; paths that exist already are not written again."""

    entry: Entry
    volume_path: Path
    label_path: Path | None
    preprocess: Preprocess
    cache: Cache

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
        content = _volume_file(task)
        write_atomic(task.volume_path, content)
        written += len(content)
    label = task.entry.label
    if label is not None and task.label_path is not None and not task.label_path.exists():
        content = _label_file(task, label)
        write_atomic(task.label_path, content)
        written += len(content)
    return written


def _volume_file(task: BuildTask) -> bytes:
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
    return to_file_bytes(compress(stored, task.cache), metadata)


class VolumeCache:
    """Preprocessed volumes of one combination of settings, in a folder that many may share.

    Args:
        folder: made when the first volume is written; in an object store, it is listed now and after a build.
        preprocess: the steps; every setting that changes a voxel is part of an entry's name.
        cache: format and building.
        labels: keep the label maps of the scans beside the volumes.
    """

    def __init__(self, folder: Path, preprocess: Preprocess, cache: Cache, labels: bool = False) -> None:
        self.folder = location(folder)
        self.preprocess = preprocess
        self.cache = cache
        self.labels = labels
        self._fingerprint = settings_fingerprint(preprocess, cache)
        self._look()

    def _look(self) -> None:
        if is_remote(self.folder):
            require_writable(self.folder)
            know_all_below(self.folder)

    def lookup(self, entry: Entry) -> StoredVolume | None:
        """Return the stored volume of a scan, or None where it (or its label map) must still be built.

        Raises:
            DataError: the scan itself is missing.
        """
        task = self._task(entry)
        return StoredVolume(task.volume_path, task.label_path, entry.image) if task.is_done else None

    def build(
        self,
        entries: Sequence[Entry],
        workers: int | None = None,
        on_done: Callable[[Entry, str | None], None] | None = None,
    ) -> BuildReport:
        """Build what is missing; a scan that fails is recorded and the others go on.

        Args:
            workers: processes; None is ``cache.workers``.
            on_done: called for each scan with the reason why it failed, or None.
        Raises:
            ResourceError: it cannot fit (nothing was written), or the disk filled up (what was written is kept).
            KeyboardInterrupt: Ctrl-C; volumes that were being written are finished first.
        """
        failed: list[tuple[Path, str]] = []
        counts: Counter[str] = Counter()
        done = on_done or (lambda entry, reason: None)
        waiting: dict[BuildTask, None] = {}

        def fail(entry: Entry, reason: str) -> None:
            failed.append((entry.image, reason))
            done(entry, reason)

        for entry in entries:
            try:
                task = self._task(entry)
            except (VocoError, OSError) as error:
                fail(entry, str(error))
                continue
            if task.is_done or task in waiting:
                counts["reused"] += 1
                done(entry, None)
            else:
                waiting[task] = None
        self._require_space([task.entry for task in waiting])

        def finished(task: BuildTask, outcome: int | Exception) -> None:
            if isinstance(outcome, ResourceError):
                raise outcome
            if isinstance(outcome, Exception):
                fail(task.entry, _reason(outcome))
                return
            counts["built"] += 1
            counts["bytes"] += outcome
            done(task.entry, None)

        run_jobs(build_one, waiting, min(workers or self.workers, max(len(waiting), 1)), finished)
        if waiting:
            self._look()
        return BuildReport(counts["built"], counts["reused"], failed, counts["bytes"])

    @property
    def workers(self) -> int:
        """Return the number of processes that build, as the settings have it."""
        return (os.cpu_count() or 1) if self.cache.workers == "auto" else self.cache.workers

    def predict_bytes(self, entries: Iterable[Entry], ratio: float | None = None) -> int:
        """Return the size on disk of the volumes of these scans, from their headers alone.

        Args:
            ratio: compression; None takes a cautious one that held for real CT at a window of 1500 HU.
        Returns:
            bytes; an upper estimate, for the foreground box is not known before the voxels are.
        """
        voxel_bytes = sum(largest_voxel_bytes(entry, self.preprocess, self.cache) for entry in entries)
        return int(voxel_bytes / (ratio or LEAST_RATIO[self.cache.codec]))

    def verify(self, workers: int | None = None, on_done: Callable[[], None] | None = None) -> VerifyReport:
        """Decode every stored array and compare it with the hash that was written with it."""
        damaged: list[tuple[Path, str]] = []
        paths = self._stored("volumes", "labels")

        def finished(path: Path, outcome: str | Exception | None) -> None:
            if outcome is not None:
                damaged.append((path, outcome if isinstance(outcome, str) else _reason(outcome)))
            if on_done is not None:
                on_done()

        run_jobs(damage, paths, min(workers or self.workers, max(len(paths), 1)), finished)
        return VerifyReport(len(paths), sorted(damaged))

    def remove(self, paths: Iterable[Path]) -> None:
        """Remove stored arrays, damaged ones for instance; the next build makes again what is needed."""
        for path in paths:
            path.unlink(missing_ok=True)
            if isinstance(path, RemotePath):
                scratch().drop(path)

    def stats(self) -> CacheStats:
        """Count and measure what is there."""
        volumes, labels = self._stored("volumes"), self._stored("labels")
        settings: Counter[str] = Counter()
        voxel_bytes = unreadable = 0
        for path in volumes:
            stored = StoredVolume(path)
            try:
                settings[str(stored.metadata.settings)] += 1
                x, y, z = stored.shape_xyz
                voxel_bytes += x * y * z * stored.dtype.itemsize
            except DataError:
                unreadable += 1
        return CacheStats(
            volumes=len(volumes),
            labels=len(labels),
            bytes=sum(path.stat().st_size for path in volumes + labels),
            voxel_bytes=voxel_bytes,
            settings=dict(settings),
            unfinished=len(unfinished_files(self.folder)) if self.folder.is_dir() else 0,
            unreadable=unreadable,
        )

    def prune(self, keep: Iterable[Entry], rehearse: bool = False) -> PruneReport:
        """Remove every stored array that none of these scans needs under the present settings.

        Raises:
            DataError: a scan to keep is missing, so that its volume is not known; nothing is removed.
        """
        needed = {path for task in map(self._task, keep) for path in (task.volume_path, task.label_path)}
        superfluous = [path for path in self._stored("volumes", "labels") if path not in needed]
        if self.folder.is_dir():
            superfluous += unfinished_files(self.folder)
        freed = sum(path.stat().st_size for path in superfluous)
        if not rehearse:
            self.remove(superfluous)
        return PruneReport(superfluous, freed)

    def _task(self, entry: Entry) -> BuildTask:
        volume = volume_key(entry.image, entry.files, self._fingerprint, self.cache.full_hash)
        label_path = None
        if self.labels and entry.label is not None:
            label_path = self._path("labels", label_key(volume, entry.label, self.cache.full_hash))
        return BuildTask(entry, self._path("volumes", volume), label_path, self.preprocess, self.cache)

    def _path(self, kind: str, key: str) -> Path:
        return self.folder / kind / key[:2] / f"{key}{SUFFIX}"

    def _stored(self, *kinds: str) -> list[Path]:
        if is_remote(self.folder):
            return [path for path in objects_below(self.folder) if path.parts[-3] in kinds and path.suffix == SUFFIX]
        found = (path for kind in kinds for path in sorted((self.folder / kind).glob(f"*/*{SUFFIX}")))
        return [path for path in found if not path.name.startswith(UNFINISHED)]

    def _require_space(self, entries: Sequence[Entry]) -> None:
        """Refuse what cannot fit; where the cautious prediction says so, a few scans are compressed to be sure."""
        if not entries or is_remote(self.folder):
            return
        try:
            require_space(self.folder, self.predict_bytes(entries), len(entries))
        except ResourceError:
            ratio = self._measured_ratio(entries)
            require_space(self.folder, self.predict_bytes(entries, ratio), len(entries))

    def _measured_ratio(self, entries: Sequence[Entry]) -> float | None:
        """Return the predicted bytes for each byte of file, over a few scans; none where none is readable."""
        predicted = written = 0
        for entry in entries[:: max(1, len(entries) // PROBES)][:PROBES]:
            try:
                written += len(_volume_file(self._task(entry)))
                predicted += largest_voxel_bytes(entry, self.preprocess, self.cache)
            except VocoError:
                continue  # it will be reported by the build
        return predicted / written if written else None


def _reason(error: Exception) -> str:
    """Return what a person needs of an error: our own say it themselves, others are named."""
    return str(error) if isinstance(error, VocoError) else f"{type(error).__name__}: {error}"


def cache_folder(data_file: Path, cache: Cache) -> Path:
    """Return where the volumes of a data file are kept: ``cache.dir``, or ``.voco-cache`` beside the file."""
    return cache.dir or data_file.resolve().parent / ".voco-cache"
