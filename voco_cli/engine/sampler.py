"""Which cases a batch holds, as a pure function of its number: any step can be resumed without replaying the others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from voco_cli.errors import UsageError


@dataclass(frozen=True)
class BatchPlan:
    """Shuffled epochs without repeats, cut into batches and dealt out to processes.

    An epoch drops the cases that do not fill a batch of all processes; each epoch drops others.

    Args:
        num_cases: cases to draw from.
        batch_size: cases in a batch of one process.
        seed: seed of the shuffles.
        process, num_processes: which share is asked for.
    Raises:
        UsageError: there are fewer cases than one batch of all processes needs.
    """

    num_cases: int
    batch_size: int
    seed: int
    process: int = 0
    num_processes: int = 1

    def __post_init__(self) -> None:
        if self.num_cases < self.batch_size * self.num_processes:
            raise UsageError(
                f"A step needs {self.batch_size * self.num_processes} different scans (train.batch_size of "
                f"{self.num_processes} processes), but only {self.num_cases} are there to train on.",
                "index more scans or lower train.batch_size",
            )

    @property
    def batches_per_epoch(self) -> int:
        """Batches of each process in an epoch."""
        return self.num_cases // (self.batch_size * self.num_processes)

    def batch(self, number: int) -> list[int]:
        """Indices of the cases of batch ``number`` (from 0, over all epochs) of this process."""
        epoch, position = divmod(number, self.batches_per_epoch)
        order = _shuffled(self.seed, epoch, self.num_cases)
        first = (position * self.num_processes + self.process) * self.batch_size
        return [int(index) for index in order[first : first + self.batch_size]]


@lru_cache(maxsize=2)
def _shuffled(seed: int, epoch: int, num_cases: int) -> NDArray[np.int64]:
    """The order of an epoch; kept, or an epoch would be shuffled anew for each of its batches."""
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
