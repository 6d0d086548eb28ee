"""The cache of preprocessed volumes: one folder, one file a volume, named by content and settings.

```
<folder>/volumes/3f/3f…e1.b2nd     the volume
<folder>/labels/a0/a0…9c.b2nd      its label map on the same grid, where labels are asked for
<folder>/manifests/5b…0c.sqlite    what is known of the volumes, so that a start need not look at each; see `manifest`
```
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from voco_cli.atomic_files import UNFINISHED, unfinished_files
from voco_cli.config.schema import Cache, Preprocess
from voco_cli.data.cache.build import BuildProgress, BuildReport, BuildTask, PreparedCache, build_one, volume_file
from voco_cli.data.cache.entry import (
    LEAST_RATIO,
    label_key,
    largest_voxel_bytes,
    require_space,
    settings_fingerprint,
    volume_key,
)
from voco_cli.data.cache.manifest import (
    Rows,
    VolumeFacts,
    forget,
    manifest_file,
    read_facts,
    read_rows,
    stamp,
    stored_names,
    write_rows,
)
from voco_cli.data.cache.volume import StoredVolume, close_handles, damage
from voco_cli.data.index.datalist import Entry
from voco_cli.data.io.scratch import scratch
from voco_cli.data.parallel import HERE, Runner, map_waiting, run_jobs
from voco_cli.data.shards import digest_of, own_entries, scan_key
from voco_cli.errors import DataError, ResourceError, VocoError
from voco_cli.object_stores import (
    RemotePath,
    is_remote,
    know_all_below,
    location,
    objects_below,
    require_writable,
)
from voco_cli.object_stores import facts as ask
from voco_cli.operating_system import usable_cores

SUFFIX = ".b2nd"
PROBES = 3
"""Scans that are compressed for the sake of the prediction alone, where a cautious one says that they do not fit."""


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
        self._ask_store()

    def _ask_store(self) -> None:
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

    def volume(self, facts: VolumeFacts, scan: Path) -> StoredVolume:
        """Return the stored volume that was made of a scan, by what is known of it."""
        label = None if facts.label_key is None else stored_path(self.folder, "labels", facts.label_key)
        return StoredVolume(stored_path(self.folder, "volumes", facts.key), label, scan)

    def build(
        self,
        entries: Sequence[Entry],
        workers: int | None = None,
        on_done: Callable[[Entry, str | None], None] | None = None,
        runner: Runner = HERE,
    ) -> BuildReport:
        """Build what is missing, and say how it went; see `prepare`."""
        return self.prepare(entries, workers, on_done, runner=runner).report

    def prepare(
        self,
        entries: Sequence[Entry],
        workers: int | None = None,
        on_done: Callable[[Entry, str | None], None] | None = None,
        *,
        recheck: bool = False,
        runner: Runner = HERE,
    ) -> PreparedCache:
        """Build what is missing, and say what is there; a scan that fails is recorded and the others go on.

        Where the files of a scan are as the manifest knows them and its volume is there, neither is opened.

        Args:
            workers: processes; None is ``cache.workers``.
            on_done: called for each scan with the reason why it failed, or None.
            recheck: open all scans and volumes, whatever the manifest says.
            runner: does it; on a cluster the folder must be an absolute path.
        Raises:
            ResourceError: it cannot fit (nothing was written), or the disk filled up (what was written is kept).
            KeyboardInterrupt: Ctrl-C; volumes that were being written are finished first.
        """
        manifest = manifest_file(self.folder, f"{self._fingerprint}|{self.cache.full_hash}")
        # The state of a file is asked before it is read: what changes in between is noticed by the next start.
        stamps = map_waiting(partial(stamp, with_label=self.labels), entries)
        rows = read_rows(manifest)
        known = {} if recheck else self._known(stamps, rows or {})
        work = BuildProgress(entries, on_done or (lambda entry, reason: None))
        for place, facts in known.items():
            work.end(place, facts)
        notes = [] if rows is not None else [f"{manifest} was damaged: all scans were looked at, and it is made anew."]
        try:
            self._look(work, [place for place in range(len(entries)) if place not in known])
            self._build(work, workers, runner)
        finally:
            pairs = zip(stamps, work.found, strict=True)
            new = {one: facts for one, facts in pairs if one is not None and isinstance(facts, VolumeFacts)}
            if any((rows or {}).get(one) != facts for one, facts in new.items()):
                notes += _remember(manifest, new)
        if work.remade:
            many = (
                "1 stored volume did not open, and was"
                if work.remade == 1
                else f"{work.remade} stored volumes did not open, and were"
            )
            notes.append(f"{many} made again.")
        return PreparedCache([facts or "was not reached" for facts in work.found], work.report(), tuple(notes))

    def _known(self, stamps: Sequence[bytes | None], rows: Rows) -> dict[int, VolumeFacts]:
        """Return what the manifest knows of scans whose volumes are still there, by their places in the list."""
        names = stored_names(self.folder / "volumes") | (stored_names(self.folder / "labels") if self.labels else set())
        found = {place: rows[one] for place, one in enumerate(stamps) if one in rows}
        return {
            place: facts
            for place, facts in found.items()
            if all(key is None or f"{key.hex()}{SUFFIX}" in names for key in facts[:2])
        }

    def _look(self, work: BuildProgress, places: Sequence[int]) -> None:
        """Open scans to see which volumes are theirs, and those volumes; what is not there waits to be built."""
        looked = map_waiting(self._look_at, [work.entries[place] for place in places])
        for place, (task, found) in zip(places, looked, strict=True):
            if task is None:
                work.end(place, str(found))
            elif isinstance(found, VolumeFacts):
                work.end(place, found)
            else:
                work.remade += found is not None
                work.waiting.setdefault(task, []).append(place)
        if work.remade:
            close_handles()

    def _look_at(self, entry: Entry) -> tuple[BuildTask | None, VolumeFacts | Exception | None]:
        """Return what is to be built of a scan, and what is known of it; a volume that does not open is removed."""
        try:
            task = self._task(entry)
        except (VocoError, OSError) as error:
            return None, error
        if not task.is_done:
            return task, None
        try:
            return task, read_facts(task.volume_path, task.label_path)
        except DataError as error:
            task.volume_path.unlink(missing_ok=True)
            if task.label_path is not None:
                task.label_path.unlink(missing_ok=True)
            return task, error

    def _build(self, work: BuildProgress, workers: int | None, runner: Runner) -> None:
        """Make what waits to be built."""
        self._require_space([task.entry for task in work.waiting])

        def finished(task: BuildTask, outcome: int | Exception) -> None:
            if isinstance(outcome, ResourceError):
                raise outcome
            found: VolumeFacts | str
            try:
                if isinstance(outcome, Exception):
                    raise outcome
                for path in (task.volume_path, task.label_path):
                    if isinstance(path, RemotePath):
                        ask(path, anew=True)  # it was not there when the folder was listed
                found = read_facts(task.volume_path, task.label_path)
            except Exception as error:  # it was caught before, and comes as a result
                found = _reason(error)
            work.built(task, found, outcome if isinstance(outcome, int) else 0)

        run_jobs(
            build_one, work.waiting, min(workers or self.workers, max(len(work.waiting), 1)), finished, runner=runner
        )

    def shard_entries(self, entries: Sequence[Entry], data_file: Path, runner: Runner) -> list[Entry]:
        """Return the scans of the runner's shard, or all where it has none."""
        runner.begin({"settings": f"{self._fingerprint} {'with' if self.labels else 'without'} labels"})
        return own_entries(entries, [data_file], runner)

    @property
    def workers(self) -> int:
        """Return the number of processes that build, as the settings have it."""
        return usable_cores() if self.cache.workers == "auto" else self.cache.workers

    def predict_bytes(self, entries: Iterable[Entry], ratio: float | None = None) -> int:
        """Return the size on disk of the volumes of these scans, from their headers alone.

        Args:
            ratio: compression; None takes a cautious one that held for real CT at a window of 1500 HU.
        Returns:
            bytes; an upper estimate, for the foreground box is not known before the voxels are.
        """
        voxel_bytes = sum(largest_voxel_bytes(entry, self.preprocess, self.cache) for entry in entries)
        return int(voxel_bytes / (ratio or LEAST_RATIO[self.cache.codec]))

    def verify(
        self, workers: int | None = None, on_done: Callable[[], None] | None = None, runner: Runner = HERE
    ) -> VerifyReport:
        """Decode every stored array, or those of the runner's shard, and compare it with the hash written with it."""
        damaged: list[tuple[Path, str]] = []
        stored = self._stored("volumes", "labels")
        runner.begin({"volumes in the cache": digest_of(map(str, stored))})
        paths = [path for path in stored if runner.owns(scan_key(path, self.folder))]

        def finished(path: Path, outcome: str | Exception | None) -> None:
            if outcome is not None:
                damaged.append((path, outcome if isinstance(outcome, str) else _reason(outcome)))
            if on_done is not None:
                on_done()

        run_jobs(damage, paths, min(workers or self.workers, max(len(paths), 1)), finished, runner=runner)
        return VerifyReport(len(paths), sorted(damaged))

    def remove(self, paths: Iterable[Path]) -> None:
        """Remove stored arrays, damaged ones for instance; the next build makes again what is needed."""
        removed = list(paths)
        forget(self.folder, {path.stem for path in removed if path.suffix == SUFFIX})
        for path in removed:
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
        return stored_path(self.folder, kind, bytes.fromhex(key))

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
                written += len(volume_file(self._task(entry)))
                predicted += largest_voxel_bytes(entry, self.preprocess, self.cache)
            except VocoError:
                continue  # it will be reported by the build
        return predicted / written if written else None


def _remember(manifest: Path, new: Rows) -> list[str]:
    """Add rows to the manifest as it is by now; where it cannot be written, say so: the build has not failed."""
    try:
        write_rows(manifest, {**(read_rows(manifest) or {}), **new})
    except ResourceError as error:
        return [f"{error.message} The next start looks at all scans again."]
    return []


def _reason(error: Exception) -> str:
    """Return what a person needs of an error: our own say it themselves, others are named."""
    return str(error) if isinstance(error, VocoError) else f"{type(error).__name__}: {error}"


def stored_path(folder: Path, kind: str, key: bytes) -> Path:
    """Return the file of a stored array of a cache folder; ``kind`` is volumes or labels."""
    name = key.hex()
    return folder.joinpath(kind, name[:2], f"{name}{SUFFIX}")


def cache_folder(data_file: Path, cache: Cache) -> Path:
    """Return where the volumes of a data file are kept: ``cache.dir``, or ``.voco-cache`` beside the file."""
    return cache.dir or data_file.resolve().parent / ".voco-cache"
