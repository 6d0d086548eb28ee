"""Loader processes that start at any batch, leave signals to the main process and end with their generator."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Any

from voco_cli.engine.sampler import BatchNumbers, BatchPlan
from voco_cli.settings.sections import Data

if TYPE_CHECKING:
    from torch.utils.data import Dataset

    from voco_cli.engine.job import Place


def load_batches(
    dataset: Dataset[Any],
    plan: BatchPlan,
    batches: tuple[int, int],
    collate: Callable[[Any], Any],
    data: Data,
    place: Place,
) -> Generator[Any, None, None]:
    """Batches of a dataset whose keys are (batch number, case index).

    Args:
        plan: which cases a batch holds.
        batches: number of the first batch, and of the one after the last.
        collate: makes a batch of items.
        data: processes, and how far they work ahead.
        place: where the batches go.
    """
    import torch  # late: how many processes there will be can be told without it
    from torch.utils.data import DataLoader

    workers = loader_workers(data)
    loader = DataLoader(
        dataset,
        batch_sampler=BatchNumbers(plan, *batches),
        collate_fn=collate,
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
        yield from loaded
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


def loader_workers(data: Data) -> int:
    """Loader processes that the setting asks for."""
    if isinstance(data.workers, int):
        return data.workers
    return max(0, min(8, (os.cpu_count() or 1) - 1))


def _quiet_worker(index: int) -> None:
    """A loader process computes on one thread and leaves signals, which often go to all, to the main process."""
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    torch.set_num_threads(1)
