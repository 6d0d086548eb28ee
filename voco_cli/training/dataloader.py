"""Loader processes that start at any batch, leave signals to the main process and end with their generator."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from voco_cli.config.schema import Data
from voco_cli.data.mixing import SetMix
from voco_cli.errors import UsageError
from voco_cli.operating_system import STOPPING, usable_cores

if TYPE_CHECKING:
    from torch.utils.data import Dataset

    from voco_cli.training.task import DeviceContext

MOST_WORKERS = 8
"""Where the setting leaves the number to this module."""


@dataclass(frozen=True)
class BatchPlan:
    """Shuffled epochs without repeats, cut into batches and dealt out to processes.

    An epoch drops the cases that do not fill a batch of all processes; each epoch drops others.

    Args:
        num_cases: cases to draw from.
        batch_size: cases in a batch of one process.
        seed: seed of the shuffles.
        process, num_processes: which share is asked for.
        mix: draws sets of cases as often as it asks, so that a case may come several times in an epoch, or not at all;
            none shuffles all.
    Raises:
        UsageError: there are fewer cases than one batch of all processes needs.
    """

    num_cases: int
    batch_size: int
    seed: int
    process: int = 0
    num_processes: int = 1
    mix: SetMix | None = None

    def __post_init__(self) -> None:
        if self.num_cases < self.batch_size * self.num_processes:
            raise UsageError(
                f"A step needs {self.batch_size * self.num_processes} different scans (train.batch_size of "
                f"{self.num_processes} processes), but only {self.num_cases} are there to train on.",
                "index more scans or lower train.batch_size",
            )

    @property
    def batches_per_epoch(self) -> int:
        """Number of batches of each process in an epoch."""
        return self.num_cases // (self.batch_size * self.num_processes)

    def batch(self, number: int) -> list[int]:
        """Return the indices of the cases of batch ``number`` (from 0, over all epochs) of this process."""
        epoch, position = divmod(number, self.batches_per_epoch)
        width, row = self.batch_size * self.num_processes, 0
        if self.mix is None:
            order, row = _shuffled(self.seed, epoch, self.num_cases), position
        else:
            order = self.mix.batch(self.seed, epoch, position, (self.batches_per_epoch, width))
        first = row * width + self.process * self.batch_size
        return [int(index) for index in order[first : first + self.batch_size]]


@lru_cache(maxsize=2)
def _shuffled(seed: int, epoch: int, num_cases: int) -> NDArray[np.int64]:
    """Return the order of an epoch; kept, or an epoch would be shuffled anew for each of its batches."""
    return np.random.default_rng([seed, epoch]).permutation(num_cases)


class BatchNumbers:
    """What a torch loader iterates over: (batch number, case index) pairs from a starting batch to the last."""

    def __init__(self, plan: BatchPlan, first: int, last: int) -> None:
        self.plan, self.first, self.last = plan, first, last

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for number in range(self.first, self.last):
            yield [(number, index) for index in self.plan.batch(number)]

    def __len__(self) -> int:
        return self.last - self.first


def load_batches(
    dataset: Dataset[Any],
    plan: BatchPlan,
    batches: tuple[int, int],
    collate: Callable[[Any], Any],
    data: Data,
    place: DeviceContext,
) -> Generator[Any, None, None]:
    """Yield batches of a dataset whose keys are (batch number, case index).

    Args:
        plan: which cases a batch holds.
        batches: number of the first batch, and of the one after the last.
        collate: makes a batch of items.
        data: processes, and how far they work ahead.
        place: where the batches go.
    """
    import torch  # late: to count the processes takes no torch
    from torch.utils.data import DataLoader

    from voco_cli.training.batch_ring import BatchRing

    workers = loader_workers(data, place.cores)
    ring = BatchRing(collate, workers, batches_at_once(data)) if workers else None
    loader = DataLoader(
        dataset,
        batch_sampler=BatchNumbers(plan, *batches),
        collate_fn=ring or collate,
        num_workers=workers,
        prefetch_factor=data.prefetch if workers else None,
        pin_memory=place.device.type == "cuda",
        worker_init_fn=_quiet_worker,
        generator=torch.Generator(),  # else every start of a loader would draw from the run's random state
    )
    before = multiprocessing.active_children()
    started: list[BaseProcess] = []
    loaded: Iterator[Any] | None = None
    try:
        try:
            loaded = iter(loader)
        finally:  # also those that had started when another could not
            started += [one for one in multiprocessing.active_children() if one not in before]
        yield from loaded if ring is None else map(ring.unpack, loaded)
    finally:
        _end(loaded, started)


def _end(loaded: Iterator[Any] | None, started: Sequence[BaseProcess]) -> None:
    """End the processes of a loader, whatever they are doing.

    They end with their loader, but an error or a Ctrl-C that came out of it keeps it alive; at its exit Python would
    then send them SIGTERM, to which they are deaf, and wait for ever.
    """
    shut_down = getattr(loaded, "_shutdown_workers", None)  # a loader without processes has none
    if shut_down is not None:
        shut_down()  # in order: torch no longer takes the end of one for an accident
    for process in started:
        process.kill()
        process.join()


def loader_workers(data: Data, cores: int | None = None) -> int:
    """Return how many loader processes the setting asks for, of each process of the run.

    Args:
        cores: that it may use; none is what this process has alone.
    """
    return min(MOST_WORKERS, (cores or usable_cores()) - 1) if data.workers == "auto" else data.workers


def batches_at_once(data: Data) -> int:
    """Return the most batches of a loader process that are in memory at a time.

    Beside those ahead, one is in a step, and the one before until it is forgotten.
    """
    return data.prefetch + 2


def _quiet_worker(index: int) -> None:
    """Compute on one thread, and leave signals, which often go to all, to the main process."""
    import torch

    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(1)
