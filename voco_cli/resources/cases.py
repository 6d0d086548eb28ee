"""The cases of a run: which of them the cache lacks, how large they are, and what a few of them take to preprocess."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from voco_cli.config.schema import Preprocess
from voco_cli.data.cache.entry import LEAST_RATIO, largest_shape
from voco_cli.data.cache.store import VolumeCache
from voco_cli.data.index.datalist import Entry
from voco_cli.data.io.reader import read_header
from voco_cli.errors import DataError, ResourceError, VocoError
from voco_cli.operating_system import free_host_bytes, usable_cores
from voco_cli.predict.memory import PREPROCESSING, READING
from voco_cli.resources.amounts import Amount
from voco_cli.tasks.cases import StoredCase

LEAST_CASES, MOST_CASES = 3, 12
"""Cases that are tried: so many whatever time it takes, and no more."""
MANY_CASES = 1000
"""To find so many in the cache takes a while."""
SPREAD_ERRORS = 2.0
"""An interval reaches this many standard errors to either side."""
FLOAT_BYTES = 4
DTYPE_BYTES = {"uint8": 1, "int16": 2, "float16": 2}
LABEL_BYTES = 1.1
"""A label map beside a volume takes a tenth of what the volume does, where none was measured."""
PROCESS_BYTES = int(0.25e9)
"""A process that preprocesses, before it reads a scan; measured, and rounded up."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class ScanSize:
    """The size of a case by its header: voxels of all its channels, in the files and preprocessed (at most)."""

    source_vox: int
    prepared_vox: int

    @property
    def work_vox(self) -> int:
        """Return the voxels that the time of preprocessing grows with."""
        return self.source_vox + self.prepared_vox


def case_shapes(entry: Entry, preprocess: Preprocess) -> tuple[tuple[int, int, int], tuple[int, int, int]] | None:
    """Return the shape of a scan in its file and preprocessed (at most), from the list or else its header.

    Returns:
        None where the header cannot be read.
    """
    shape, spacing_mm, orientation = entry.shape, entry.spacing_mm, entry.orientation or "RAS"
    if shape is None or spacing_mm is None:
        try:
            header = read_header(entry.image, entry.files)
        except (VocoError, OSError):
            return None
        shape, spacing_mm, orientation = header.shape_xyz, header.placement.spacing_xyz_mm, header.orientation
    return shape, largest_shape(shape, spacing_mm, orientation, preprocess)


def case_size(entry: Entry, preprocess: Preprocess) -> ScanSize | None:
    """Return the size of a case with all its channels, which lie on one grid; None where it cannot be read."""
    shapes = case_shapes(entry, preprocess)
    if shapes is None:
        return None
    channels = 1 + len(entry.channels)
    return ScanSize(channels * math.prod(shapes[0]), channels * math.prod(shapes[1]))


def seeded_order(entries: Sequence[Entry], seed: int) -> list[Entry]:
    """Return the cases in an order that depends on the seed alone."""
    return [entries[int(index)] for index in np.random.default_rng([seed, len(entries)]).permutation(len(entries))]


def scaled(values: Sequence[float], sizes: Sequence[float], total_size: float, population: int) -> Amount:
    """Estimate the sum over a population of something that grows with a size, from a sample of it.

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


@dataclass(frozen=True)
class TriedCase:
    """A case that was preprocessed: its size by the header, time and bytes of all its channels and its label map."""

    entry: Entry
    size: ScanSize
    build_s: float
    cache_bytes: int


@dataclass
class RunCases:
    """The cases that a run reads from its cache.

    Attributes:
        training, held_out: by split.
        cache: of the run.
        missing: cases that the cache lacks.
        sizes: of the missing ones, by their headers; an unreadable one has none.
        tried: missing cases that were preprocessed for the sake of the plan.
        failed: those that cannot be used, with the reason.
        not_tried: why no case was tried, for people.
        stored: preprocessed volumes of a few cases, tried now or from the cache.
    """

    training: Sequence[Entry]
    held_out: Sequence[Entry]
    cache: VolumeCache
    missing: tuple[Entry, ...] = ()
    sizes: tuple[ScanSize, ...] = ()
    tried: list[TriedCase] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)
    not_tried: str | None = None
    stored: list[StoredCase] = field(default_factory=list)

    @property
    def everyone(self) -> list[Entry]:
        """Return training and held-out cases."""
        return [*self.training, *self.held_out]

    def find_missing(self, say: Say) -> None:
        """Find the cases that the cache lacks, and how large these are."""
        everyone = self.everyone
        if len(everyone) >= MANY_CASES:
            say(f"finding which of {len(everyone)} scans are in the cache ...")
        self.missing = tuple(entry for entry in everyone if not is_cached(entry, self.cache))
        self.sizes = tuple(readable_sizes(self.missing, self.cache.preprocess))

    def try_some(self, order: Sequence[Entry], folder: Path, budget_s: float, say: Say) -> None:
        """Preprocess some of the missing cases in a temporary cache; where none is missing, open some that are there.

        Nothing is tried where the largest scan would not fit into the memory, or the disk is full.

        Args:
            order: in which they are tried.
            budget_s: time after which no further case is begun, once there are a few.
        Raises:
            DataError: not one of the cases that were tried can be used.
        """
        waiting = {entry.image for entry in self.missing}
        if not any(entry.image in waiting for entry in self.training):
            self.stored = [one for entry in order[:MOST_CASES] if (one := stored_case(entry, self.cache))]
            return
        queue = [entry for entry in order if entry.image in waiting]
        most = min(MOST_CASES, len(queue))
        if self.builder_bytes > free_host_bytes():
            self.not_tried = "No scan was tried, as the largest would take more memory than is free."
            return
        say(f"preprocessing up to {most} of {len(self.missing)} scans that are not in the cache ...")
        cache, began_s = self._beside(folder), time.monotonic()
        for entry in queue:
            over = time.monotonic() - began_s > budget_s
            if len(self.tried) >= most or (over and len(self.tried) >= LEAST_CASES):
                break
            try:
                self._try(entry, cache)
            except ResourceError as error:
                self.not_tried = f"No more scans were tried: {error.message}"
                return
        if not self.tried:
            name, reason = self.failed[0]
            raise DataError(
                f"None of the {len(self.failed)} scans that were tried can be used; {name}: {reason}",
                "look at them with `voco index --check full`",
            )

    def try_all(self, entries: Iterable[Entry], folder: Path) -> None:
        """Preprocess these cases in a temporary cache."""
        cache = self._beside(folder)
        for entry in entries:
            self._try(entry, cache)

    def _beside(self, folder: Path) -> VolumeCache:
        alone = self.cache.cache.model_copy(update={"workers": 1})
        return VolumeCache(folder / "cache", self.cache.preprocess, alone, self.cache.labels)

    def _try(self, entry: Entry, cache: VolumeCache) -> None:
        start_s = time.perf_counter()
        report = cache.build(entry.channel_entries(), workers=1)
        if report.failed:
            self.failed.append((entry.name, report.failed[0][1]))
            return
        took_s, size = time.perf_counter() - start_s, case_size(entry, self.cache.preprocess) or ScanSize(1, 1)
        self.tried.append(TriedCase(entry, size, took_s, report.bytes))
        stored = stored_case(entry, cache)
        assert stored is not None  # it was built a moment ago
        self.stored.append(stored)

    @property
    def cache_bytes(self) -> Amount:
        """Return what the missing cases will take on disk."""
        settings = self.cache.cache
        prepared = sum(size.prepared_vox for size in self.sizes)
        if not self.tried:
            raw = prepared * DTYPE_BYTES[settings.dtype] * (LABEL_BYTES if self.cache.labels else 1.0)
            return Amount.of(raw / LEAST_RATIO[settings.codec], "estimated")
        sizes = [one.size.prepared_vox for one in self.tried]
        return scaled([one.cache_bytes for one in self.tried], sizes, prepared, len(self.sizes))

    @property
    def build_s(self) -> Amount | None:
        """Return the seconds until all missing cases are cached; None where it was not measured."""
        if not self.missing:
            return Amount.of(0.0, "measured")
        if not self.tried:
            return None
        # The first case also loads what the others find loaded.
        counted = self.tried[1:] if len(self.tried) >= LEAST_CASES else self.tried
        sizes, work = [one.size.work_vox for one in counted], sum(one.work_vox for one in self.sizes)
        whole = scaled([one.build_s for one in counted], sizes, work, len(self.sizes))
        return whole.times(1 / min(self.processes, usable_cores()))

    @property
    def processes(self) -> int:
        """Return the number of processes that will build the cache."""
        return min(self.cache.workers, max(1, len(self.missing)))

    @property
    def builder_bytes(self) -> int:
        """Return the memory of a process that preprocesses the largest channel of the missing cases."""
        channels = 1 + max((len(entry.channels) for entry in self.missing), default=0)
        return PROCESS_BYTES + max(map(preprocessing_bytes, self.sizes), default=0) // channels


def preprocessing_bytes(size: ScanSize) -> int:
    """Return what reading and preprocessing a scan takes: its voxels as they are read, and floats on the way."""
    return READING * 2 * size.source_vox + PREPROCESSING * FLOAT_BYTES * size.prepared_vox


def stored_case(entry: Entry, cache: VolumeCache) -> StoredCase | None:
    """Return a case as the cache holds it; None where it does not."""
    found = [cache.lookup(channel) for channel in entry.channel_entries()]
    volumes = tuple(volume for volume in found if volume is not None)
    return StoredCase(entry, volumes) if len(volumes) == len(found) else None


def is_cached(entry: Entry, cache: VolumeCache) -> bool:
    """Return whether the cache holds all of a case; a file that is missing is what the run will find, too."""
    try:
        return stored_case(entry, cache) is not None
    except DataError:
        return False


def readable_sizes(entries: Iterable[Entry], preprocess: Preprocess) -> list[ScanSize]:
    """Return the sizes of the cases whose headers can be read."""
    return [size for entry in entries if (size := case_size(entry, preprocess)) is not None]
