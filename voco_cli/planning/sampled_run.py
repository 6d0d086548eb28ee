"""The cases of a run, those that stand for them, and what all will take of disk and time to be cached."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from voco_cli.cache.space import LEAST_RATIO
from voco_cli.cache.store import VolumeCache
from voco_cli.dataset.datalist import Entry
from voco_cli.downstream.batches.stored_case import StoredCase
from voco_cli.errors import DataError, ResourceError
from voco_cli.operating_system import usable_cores
from voco_cli.planning.apart import Outcome, TooLargeError, run_apart
from voco_cli.planning.quantities import Amount
from voco_cli.planning.sampling import (
    Sample,
    SampleRequest,
    ScanSize,
    case_size,
    scaled,
    seeded_order,
    take_sample,
)
from voco_cli.planning.tried import PROCESS_BYTES

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
