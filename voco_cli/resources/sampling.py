"""The cases of a run, those that stand for them, and what all will take of disk and time to be cached."""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

import numpy as np

from voco_cli.config.schema import Cache, Preprocess
from voco_cli.data.cache.disk_space import LEAST_RATIO, largest_shape
from voco_cli.data.cache.store import VolumeCache
from voco_cli.data.index.datalist import Entry
from voco_cli.data.io.reader import read_header
from voco_cli.errors import DataError, ResourceError, VocoError
from voco_cli.operating_system import peak_memory_bytes, usable_cores
from voco_cli.resources.estimates import Amount
from voco_cli.resources.subprocess_trial import Outcome, TooLargeError, run_apart
from voco_cli.resources.tried import PROCESS_BYTES
from voco_cli.tasks.cases import StoredCase

SPREAD_ERRORS = 2.0
"""An interval reaches this many standard errors to either side."""


@dataclass(frozen=True)
class ScanSize:
    """What a header says of a case: voxels of all its channels, in the files and preprocessed (at most)."""

    source_vox: int
    prepared_vox: int


def case_size(entry: Entry, preprocess: Preprocess) -> ScanSize | None:
    """The size of a case with all its channels, from the list or else the first channel's header; none if unreadable.

    The channels lie on one grid.
    """
    shape, spacing_mm, orientation = entry.shape, entry.spacing_mm, entry.orientation or "RAS"
    if shape is None or spacing_mm is None:
        try:
            header = read_header(entry.image, entry.files)
        except (VocoError, OSError):
            return None
        shape, spacing_mm, orientation = header.shape_xyz, header.placement.spacing_xyz_mm, header.orientation
    channels = 1 + len(entry.channels)
    prepared = largest_shape(shape, spacing_mm, orientation, preprocess)
    return ScanSize(channels * math.prod(shape), channels * math.prod(prepared))


@dataclass(frozen=True)
class SampleRequest:
    """Cases to preprocess, in this order, until there are enough or the time is over.

    Attributes:
        entries: cases; all channels of each are made.
        folder: of a cache that will be removed.
        labels: make the label maps, too.
        least, most: cases that can be used: at least so many whatever time it takes, and no more.
        budget_s: time after which no further case is begun.
    """

    entries: tuple[Entry, ...]
    folder: Path
    preprocess: Preprocess
    cache: Cache
    labels: bool
    least: int
    most: int
    budget_s: float


@dataclass(frozen=True)
class SampledCase:
    """A case that was preprocessed: time and size of all its channels and its label map."""

    entry: Entry
    build_s: float
    cache_bytes: int


@dataclass(frozen=True)
class Sample:
    """What became of the cases that were tried.

    Attributes:
        cases: those that can be used.
        failed: the others, with the reason.
        memory_bytes: largest resident set of the process.
        own_bytes: its resident set before the first scan.
    """

    cases: tuple[SampledCase, ...] = ()
    failed: tuple[tuple[str, str], ...] = ()
    memory_bytes: int = 0
    own_bytes: int = 0


def take_sample(request: SampleRequest) -> Sample:
    """Preprocess cases one after another into the temporary cache.

    Raises:
        ResourceError: the disk is full.
    """
    own_bytes, began_s = peak_memory_bytes(), time.monotonic()
    cache = VolumeCache(request.folder, request.preprocess, request.cache, request.labels)
    cases: list[SampledCase] = []
    failed: list[tuple[str, str]] = []
    for entry in request.entries:
        over = time.monotonic() - began_s > request.budget_s
        if len(cases) >= request.most or (over and len(cases) >= request.least):
            break
        start_s = time.perf_counter()
        report = cache.build(entry.channel_entries(), workers=1)
        if report.failed:
            failed.append((entry.name, report.failed[0][1]))
        else:
            cases.append(SampledCase(entry, time.perf_counter() - start_s, report.bytes))
    return Sample(tuple(cases), tuple(failed), peak_memory_bytes(), own_bytes)


def seeded_order(entries: Sequence[Entry], seed: int) -> list[Entry]:
    """Cases in an order that depends on the seed alone."""
    return [entries[int(index)] for index in np.random.default_rng([seed, len(entries)]).permutation(len(entries))]


def scaled(values: Sequence[float], sizes: Sequence[float], total_size: float, population: int) -> Amount:
    """The sum over a population of something that grows with a size, from a sample of it.

    The ratio estimator: total size times the sample's sum of values by its sum of sizes. Its standard error is that of
    simple random sampling without replacement; it is 0 where the whole population was sampled, and of one scan nothing
    is known, so that half the value is taken.

    Args:
        values, sizes: of the sample, at least one.
        total_size: of the population.
        population: its number.
    Source: Cochran, Sampling Techniques, 3rd edition, 6.4.
    """
    count, ratio = len(values), sum(values) / sum(sizes)
    value = ratio * total_size
    unseen = max(0.0, 1.0 - count / population) if population else 0.0
    if count == 1:
        return Amount.of(value, "measured", 0.5 * value * unseen)
    rest = sum((y - ratio * x) ** 2 for y, x in zip(values, sizes, strict=True)) / (count - 1)
    mean_size = sum(sizes) / count
    error = total_size / mean_size * math.sqrt(unseen * rest / count)
    return Amount.of(value, "measured", SPREAD_ERRORS * error)


LEAST_CASES, MOST_CASES = 3, 12
MANY_CASES = 1000
"""Looking for so many in the cache takes a while."""
HELD_OUT_PLACES = (1, 5)
"""Places in the sample at which a held-out case stands."""
BUDGET_SHARE = 0.4
"""Of the time for the trial, what may go into preprocessing the sample."""
DTYPE_BYTES = {"uint8": 1, "int16": 2, "float16": 2}
LABEL_BYTES = 1.1
"""A label map beside a volume takes a tenth of what the volume does, where none was measured."""

Tell = Callable[[str], None]


@dataclass(frozen=True)
class RunCases:
    """The cases that a run reads from its cache.

    Attributes:
        training, held_out: by split.
        cache: of the run.
    """

    training: tuple[Entry, ...]
    held_out: tuple[Entry, ...]
    cache: VolumeCache

    def missing(self, entries: Sequence[Entry]) -> list[Entry]:
        """Those of some cases that are not in the cache yet."""
        return [entry for entry in entries if not self._is_cached(entry)]

    def stored(self, entry: Entry, cache: VolumeCache | None = None) -> StoredCase | None:
        """A case as the cache (or another one) holds it; none where it does not."""
        volumes = [(cache or self.cache).lookup(channel) for channel in entry.channel_entries()]
        found = tuple(volume for volume in volumes if volume is not None)
        return StoredCase(entry, found) if len(found) == len(volumes) else None

    def _is_cached(self, entry: Entry) -> bool:
        try:
            return self.stored(entry) is not None
        except DataError:  # a file that is missing is what the run will find, too
            return False


@dataclass(frozen=True)
class SampledRun:
    """What is known of the cases of a run.

    Attributes:
        cases: of the run.
        missing: cases that must be cached.
        sizes: of the missing ones, by their headers; an unreadable one has none.
        sample: what was preprocessed; none where there was no room to.
        training, held_out: stored cases to try steps with.
        start_s: time until a process that preprocesses begins.
        reached_bytes: memory that preprocessing had taken when it was stopped; 0 where it was not.
        obstacle: the error that preprocessing ended with.
    """

    cases: RunCases
    missing: tuple[Entry, ...]
    sizes: tuple[ScanSize, ...]
    sample: Sample | None
    training: tuple[StoredCase, ...] = ()
    held_out: tuple[StoredCase, ...] = ()
    start_s: float = 0.0
    reached_bytes: int = 0
    obstacle: ResourceError | None = None

    @property
    def cache_bytes(self) -> Amount:
        """What the missing cases will take on disk."""
        settings = self.cases.cache.cache
        prepared = sum(size.prepared_vox for size in self.sizes)
        if self.sample is None or not self.sample.cases:
            labels = LABEL_BYTES if self.cases.cache.labels else 1.0
            raw = prepared * DTYPE_BYTES[settings.dtype] * labels
            return Amount.of(raw / LEAST_RATIO[settings.codec], "estimated")
        sizes = [self._size(one.entry).prepared_vox for one in self.sample.cases]
        return scaled([one.cache_bytes for one in self.sample.cases], sizes, prepared, len(self.sizes))

    @property
    def build_s(self) -> Amount | None:
        """Seconds until all missing cases are cached; none where it was not measured."""
        if not self.missing:
            return Amount.of(0.0, "measured")
        if self.sample is None or not self.sample.cases:
            return None
        # The first case also loads what the others find loaded.
        counted = self.sample.cases[1:] if len(self.sample.cases) >= LEAST_CASES else self.sample.cases
        sizes = [_work(self._size(one.entry)) for one in counted]
        alone = scaled([one.build_s for one in counted], sizes, sum(map(_work, self.sizes)), len(self.sizes))
        processes = self.processes
        started = self.start_s if processes > 1 else 0.0
        one = alone.times(1 / min(processes, usable_cores()))
        return Amount(one.value + started, one.known, one.low + started, one.high + started)

    @property
    def processes(self) -> int:
        """Processes that will build the cache."""
        return min(self.cases.cache.workers, max(1, len(self.missing)))

    @property
    def builder_bytes(self) -> Amount | None:
        """Memory of a process that preprocesses the largest of the missing cases; none where it was not measured."""
        sample = self.sample
        if sample is None or not sample.cases or not sample.memory_bytes:
            return None
        tried = max(_work(self._size(one.entry)) for one in sample.cases)
        largest = max(map(_work, self.sizes), default=tried)
        grown = sample.memory_bytes - sample.own_bytes
        return Amount.of(sample.own_bytes + grown * max(1.0, largest / tried), "measured")

    def building_bytes(self) -> Amount | None:
        """Memory of all processes that build the cache together, the waiting one among them."""
        one = self.builder_bytes
        if one is None:
            return None
        return Amount.of(self.processes * one.value + PROCESS_BYTES, one.known)

    def _size(self, entry: Entry) -> ScanSize:
        return case_size(entry, self.cases.cache.preprocess) or ScanSize(1, 1)


def _work(size: ScanSize) -> int:
    """What the time and memory of preprocessing go by."""
    return size.source_vox + size.prepared_vox


def sample_run(
    cases: RunCases, order: Sequence[Entry], seed: int, folder: Path, budget_s: float, tell: Tell
) -> SampledRun:
    """Preprocess some of the cases that are missing in the cache, or take some that are there.

    Args:
        order: training cases in the order in which they may stand for all.
        folder: temporary; a cache is made in it.
        budget_s: of the whole trial.
    Raises:
        DataError: not one of the cases that were tried can be used.
    """
    everyone = [*cases.training, *cases.held_out]
    if len(everyone) >= MANY_CASES:
        tell(f"looking which of {len(everyone)} scans are in the cache ...")
    missing = cases.missing(everyone)
    waiting = {entry.image for entry in missing}
    sizes = tuple(size for entry in missing if (size := case_size(entry, cases.cache.preprocess)) is not None)
    known = SampledRun(cases, tuple(missing), sizes, None)
    held_out = seeded_order(cases.held_out, seed)
    if not any(entry.image in waiting for entry in cases.training):
        training, shown = ([one for entry in some if (one := cases.stored(entry))] for some in (order, held_out))
        return SampledRun(cases, tuple(missing), sizes, None, tuple(training[:MOST_CASES]), tuple(shown[:2]))
    wanted = [entry for entry in order if entry.image in waiting]
    queue = _interleaved(wanted, [entry for entry in held_out if entry.image in waiting])
    count = min(MOST_CASES, len(queue))
    tell(f"preprocessing up to {count} of {len(missing)} scans that are not in the cache ...")
    request = SampleRequest(
        tuple(queue),
        folder / "cache",
        cases.cache.preprocess,
        cases.cache.cache.model_copy(update={"workers": 1}),
        cases.cache.labels,
        min(LEAST_CASES, count),
        count,
        BUDGET_SHARE * budget_s,
    )
    try:
        outcome = run_apart(take_sample, request)
    except TooLargeError as error:
        return replace(known, reached_bytes=error.reached_bytes)
    except ResourceError as error:
        return replace(known, obstacle=error)
    return _with_sample(known, outcome, request)


def _with_sample(known: SampledRun, outcome: Outcome[Sample], request: SampleRequest) -> SampledRun:
    sample, cases = outcome.result, known.cases
    if not sample.cases:
        name, reason = sample.failed[0]
        if reason.startswith(MemoryError.__name__):
            what = f"Preprocessing {name} takes more memory than there is ({reason.partition(': ')[2]})."
            return replace(known, obstacle=ResourceError(what, "choose a coarser or smaller size under preprocess"))
        raise DataError(
            f"None of the {len(sample.failed)} scans that were tried can be used; {name}: {reason}",
            "look at them with `voco index --check full`",
        )
    made = VolumeCache(request.folder, request.preprocess, request.cache, request.labels)
    training = {entry.image for entry in cases.training}
    stored = [one for case in sample.cases if (one := cases.stored(case.entry, made)) is not None]
    return SampledRun(
        cases,
        known.missing,
        known.sizes,
        sample,
        tuple(one for one in stored if one.entry.image in training),
        tuple(one for one in stored if one.entry.image not in training),
        outcome.start_s,
    )


def _interleaved(training: Sequence[Entry], held_out: Sequence[Entry]) -> list[Entry]:
    """Training cases, with a held-out one here and there."""
    queue = list(training)
    for place, entry in zip(HELD_OUT_PLACES, held_out, strict=False):
        queue.insert(place, entry)
    return queue


TEMPORARY = ".voco-plan-"
LEAST_BYTES = 200_000_000
"""On a disk with less there is no room to try anything: the recipe debug writes 75 MB beside its cache."""
STALE_AFTER_S = 24 * 3600.0
"""A temporary folder this old was left by a process that was killed."""


def existing_parent(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(parent for parent in (folder, *folder.absolute().parents) if parent.is_dir())


def mount_point(folder: Path) -> Path:
    """The top folder of the file system that a folder lies on."""
    resolved = folder.resolve()
    return next((one for one in (resolved, *resolved.parents) if os.path.ismount(one)), resolved)


def bytes_below(folder: Path) -> int:
    """Size of all files below a folder; 0 where there is none."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else 0


@contextmanager
def temporary_folder(beside: Path) -> Iterator[Path]:
    """A folder on the disk of another one, or where temporary files go if that is full; removed whatever happens."""
    existing = existing_parent(beside)
    usable = os.access(existing, os.W_OK) and shutil.disk_usage(existing).free >= LEAST_BYTES
    place = existing if usable else Path(gettempdir())
    for left in place.glob(f"{TEMPORARY}*"):
        if left.is_dir() and time.time() - left.stat().st_mtime > STALE_AFTER_S:
            shutil.rmtree(left, ignore_errors=True)
    with TemporaryDirectory(prefix=TEMPORARY, dir=place, ignore_cleanup_errors=True) as folder:
        yield Path(folder)
