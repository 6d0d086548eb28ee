"""Some scans that stand for all: drawn by seed, really preprocessed, and scaled up by what their headers say."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from voco_cli.cache.space import largest_shape
from voco_cli.cache.store import VolumeCache
from voco_cli.dataset.datalist import Entry
from voco_cli.errors import VocoError
from voco_cli.operating_system import peak_memory_bytes
from voco_cli.planning.quantities import Amount
from voco_cli.scans.read import read_header
from voco_cli.settings.sections import Cache, Preprocess

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
