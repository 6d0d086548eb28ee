"""The cache of preprocessed volumes: one folder, one file a volume, named by content and settings.

```
<folder>/volumes/3f/3f…e1.b2nd     the volume
<folder>/labels/a0/a0…9c.b2nd      its label map on the same grid, where labels are asked for
```
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from voco_cli.atomic_files import UNFINISHED, unfinished_files, write_atomic
from voco_cli.config.schema import Cache, Preprocess
from voco_cli.data.cache.disk_space import (
    LEAST_RATIO,
    BuildReport,
    CacheStats,
    PruneReport,
    VerifyReport,
    largest_voxel_bytes,
    require_space,
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
from voco_cli.data.io.reader import image_files, read_scan
from voco_cli.data.parallel import run_jobs
from voco_cli.errors import DataError, ResourceError, VocoError

FORMAT_VERSION = 2
"""Raised whenever the same scan and settings would give other voxels, or the file another layout."""

KEY_BYTES = 16
ONE_FILE = (".nii", ".nii.gz", ".mha", ".npy")
"""Endings of images that are never spread over two files."""

SAMPLES = 5
SAMPLE_BYTES = 4096


def volume_key(image: Path, files: Sequence[Path], fingerprint: str, full_hash: bool) -> str:
    """32 hexadecimal digits that name the preprocessed volume of a scan.

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
    """32 hexadecimal digits that name the label map of a cached volume, on the volume's grid."""
    digest = hashlib.blake2b(content_identity(label, full_hash), digest_size=KEY_BYTES)
    digest.update(volume.encode())
    return digest.hexdigest()


def voxel_settings(preprocess: Preprocess, cache: Cache) -> dict[str, Any]:
    """The settings that change a voxel; codec, chunks and the kind of intensity that is not in use do not."""
    settings = preprocess.model_dump(mode="json")
    del settings["percentiles" if preprocess.intensity == "window" else "window_hu"]
    return {"format": FORMAT_VERSION, "dtype": cache.dtype, "preprocess": settings}


def settings_fingerprint(preprocess: Preprocess, cache: Cache) -> str:
    """The settings that change a voxel, as text."""
    return json.dumps(voxel_settings(preprocess, cache), sort_keys=True)


def content_identity(path: Path, full_hash: bool, files: Sequence[Path] = ()) -> bytes:
    """What tells the content of a scan from another's without decoding it; its name and place do not count.

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
    """Every file that holds a part of the scan."""
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


@dataclass(frozen=True)
class BuildTask:
    """A scan, and where its volume and label map belong; paths that exist already are not written again."""

    entry: Entry
    volume_path: Path
    label_path: Path | None
    preprocess: Preprocess
    cache: Cache


@dataclass(frozen=True)
class Built:
    """What a job wrote."""

    bytes: int


def build_one(job: BuildTask) -> Built:
    """Read, preprocess and write what is missing of one scan.

    Raises:
        DataError: the scan or its label map cannot be used.
        ResourceError: the disk is full.
    """
    written = 0
    if not job.volume_path.exists():
        content = volume_bytes(job)
        write_atomic(job.volume_path, content)
        written += len(content)
    label = job.entry.label
    if label is not None and job.label_path is not None and not job.label_path.exists():
        content = _label_bytes(job, label)
        write_atomic(job.label_path, content)
        written += len(content)
    return Built(written)


def volume_bytes(job: BuildTask) -> bytes:
    """The file that a scan would be cached as."""
    scan = read_entry(job.entry)
    volume = preprocess(scan, job.preprocess)
    stored = quantise(volume.array_xyz, job.cache.dtype)
    metadata = VolumeMetadata(
        format=FORMAT_VERSION,
        key=job.volume_path.stem,
        voxel_hash=voxel_hash(scan),
        stored_hash=stored_hash(stored),
        settings=voxel_settings(job.preprocess, job.cache),
        record=volume.record,
        notes=scan.notes,
    )
    return to_file_bytes(compress(stored, job.cache), metadata)


def _label_bytes(job: BuildTask, label: Path) -> bytes:
    of_volume = StoredVolume(job.volume_path).metadata
    scan = read_scan(label)
    try:
        whole = whole_labels(scan.array_zyx)
    except ValueError as error:
        raise DataError(f"{label} {error}.", "give a label map with one whole number a structure") from error
    scan = replace(scan, array_zyx=whole)
    stored = preprocess_label(scan, of_volume.record)
    metadata = of_volume.model_copy(
        update={"voxel_hash": voxel_hash(scan), "stored_hash": stored_hash(stored)},
    )
    return to_file_bytes(compress(stored, job.cache), metadata)


SUFFIX = ".b2nd"
PROBES = 3
"""Scans that are compressed for the sake of the prediction alone, where a cautious one says that they do not fit."""


class VolumeCache:
    """Preprocessed volumes of one combination of settings, in a folder that many may share.

    Args:
        folder: made when the first volume is written.
        preprocess: the steps; every setting that changes a voxel is part of an entry's name.
        cache: format and building.
        labels: keep the label maps of the scans beside the volumes.
    """

    def __init__(self, folder: Path, preprocess: Preprocess, cache: Cache, labels: bool = False) -> None:
        self.folder = folder
        self.preprocess = preprocess
        self.cache = cache
        self.labels = labels
        self._fingerprint = settings_fingerprint(preprocess, cache)

    def lookup(self, entry: Entry) -> StoredVolume | None:
        """The stored volume of a scan, or None where it (or its label map) must still be built.

        Raises:
            DataError: the scan itself is missing.
        """
        volume, label = self._paths(entry)
        if not volume.is_file() or (label is not None and not label.is_file()):
            return None
        return StoredVolume(volume, label, entry.image)

    def build(
        self,
        entries: Sequence[Entry],
        workers: int | None = None,
        on_done: Callable[[Entry, str | None], None] | None = None,
    ) -> BuildReport:
        """Make what is missing; a scan that fails is recorded and the others go on.

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
                job = self._job(entry)
            except (VocoError, OSError) as error:
                fail(entry, str(error))
                continue
            if self._is_built(job) or job in waiting:
                counts["reused"] += 1
                done(entry, None)
            else:
                waiting[job] = None
        self._require_space([job.entry for job in waiting])

        def finished(job: BuildTask, outcome: Built | Exception) -> None:
            if isinstance(outcome, ResourceError):
                raise outcome
            if isinstance(outcome, Exception):
                fail(job.entry, _reason(outcome))
                return
            counts["built"] += 1
            counts["bytes"] += outcome.bytes
            done(job.entry, None)

        run_jobs(build_one, waiting, min(workers or self.workers, max(len(waiting), 1)), finished)
        return BuildReport(counts["built"], counts["reused"], failed, counts["bytes"])

    @property
    def workers(self) -> int:
        """Processes that build, as the settings have it."""
        return (os.cpu_count() or 1) if self.cache.workers == "auto" else self.cache.workers

    def predict_bytes(self, entries: Iterable[Entry], ratio: float | None = None) -> int:
        """Size on disk of the volumes of these scans, from their headers alone.

        Args:
            ratio: compression; None takes a cautious one that held for real CT at a window of 1500 HU.
        Returns:
            bytes; an upper estimate, for the foreground box is not known before the voxels are.
        """
        return int(sum(map(self._voxel_bytes, entries)) / (ratio or LEAST_RATIO[self.cache.codec]))

    def verify(self, workers: int | None = None, on_done: Callable[[], None] | None = None) -> VerifyReport:
        """Decode every stored array and compare it with the hash that was written with it."""
        damaged: list[tuple[Path, str]] = []
        paths = self._stored("volumes") + self._stored("labels")

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
            DataError: a scan to keep is missing, so that its volume cannot be told; nothing is removed.
        """
        needed = {path for entry in keep for path in self._paths(entry) if path is not None}
        superfluous = [path for path in self._stored("volumes") + self._stored("labels") if path not in needed]
        if self.folder.is_dir():
            superfluous += unfinished_files(self.folder)
        freed = sum(path.stat().st_size for path in superfluous)
        if not rehearse:
            for path in superfluous:
                path.unlink(missing_ok=True)
        return PruneReport(superfluous, freed)

    def _paths(self, entry: Entry) -> tuple[Path, Path | None]:
        volume = volume_key(entry.image, entry.files, self._fingerprint, self.cache.full_hash)
        volume_path = self._path("volumes", volume)
        if not self.labels or entry.label is None:
            return volume_path, None
        return volume_path, self._path("labels", label_key(volume, entry.label, self.cache.full_hash))

    def _path(self, kind: str, key: str) -> Path:
        return self.folder / kind / key[:2] / f"{key}{SUFFIX}"

    def _stored(self, kind: str) -> list[Path]:
        found = (self.folder / kind).glob(f"*/*{SUFFIX}")
        return sorted(path for path in found if not path.name.startswith(UNFINISHED))

    def _job(self, entry: Entry) -> BuildTask:
        volume, label = self._paths(entry)
        return BuildTask(entry, volume, label, self.preprocess, self.cache)

    def _is_built(self, job: BuildTask) -> bool:
        return job.volume_path.is_file() and (job.label_path is None or job.label_path.is_file())

    def _voxel_bytes(self, entry: Entry) -> int:
        return largest_voxel_bytes(entry, self.preprocess, self.cache)

    def _require_space(self, entries: Sequence[Entry]) -> None:
        """Refuse what cannot fit; where the cautious prediction says so, a few scans are compressed to be sure."""
        if not entries:
            return
        try:
            require_space(self.folder, self.predict_bytes(entries), len(entries))
        except ResourceError:
            ratio = self._measured_ratio(entries)
            require_space(self.folder, self.predict_bytes(entries, ratio), len(entries))

    def _measured_ratio(self, entries: Sequence[Entry]) -> float | None:
        """Predicted bytes for each byte of file, over a few scans spread over the list; none where none is readable."""
        predicted = written = 0
        for entry in entries[:: max(1, len(entries) // PROBES)][:PROBES]:
            try:
                written += len(volume_bytes(self._job(entry)))
                predicted += self._voxel_bytes(entry)
            except VocoError:
                continue  # it will be reported by the build
        return predicted / written if written else None


def _reason(error: Exception) -> str:
    """What a person needs of an error: our own say it themselves, others are named."""
    return str(error) if isinstance(error, VocoError) else f"{type(error).__name__}: {error}"


def cache_folder(data_file: Path, cache: Cache) -> Path:
    """Where the volumes of a data file are kept: ``cache.dir``, or ``.voco-cache`` beside the file."""
    return cache.dir or data_file.resolve().parent / ".voco-cache"
