"""The same function over many files, in processes where it pays."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import resource_tracker
from typing import TypeVar

from voco_cli.errors import ResourceError

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_WORKERS = 16
# Starting processes takes about a second each; fewer header reads than this are done sooner alone.
FEWEST_FOR_PROCESSES = 256
CHUNKS_PER_WORKER = 16


def map_files(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int | None,
    advance: Callable[[int], object],
    fewest: int = FEWEST_FOR_PROCESSES,
) -> list[Result]:
    """Results in the order of ``items``.

    Args:
        function: picklable; expected faults come back as results, not as exceptions.
        workers: processes; none is one a core where there are at least ``fewest`` items.
        advance: told how many items were finished.
    Raises:
        ResourceError: a worker process was killed.
    """
    count = workers or (min(usable_cores(), MAX_WORKERS) if len(items) >= fewest else 1)
    if count == 1:
        return [_one(function, item, advance) for item in items]
    size = max(1, -(-len(items) // (count * CHUNKS_PER_WORKER)))
    chunks = [items[start : start + size] for start in range(0, len(items), size)]
    results: dict[int, list[Result]] = {}
    # Not fork: the progress bar runs a thread, and a fork of a process with threads may hang.
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(count, mp_context=context) as pool:
            with leaving_interrupts_to_us():
                futures = {pool.submit(_chunk, function, chunk): i for i, chunk in enumerate(chunks)}
            for future in as_completed(futures):
                results[futures[future]] = future.result()
                advance(len(chunks[futures[future]]))
    except BrokenProcessPool as error:
        raise ResourceError(
            "A worker process was killed while reading scans, most likely for want of memory.",
            "Try again with --workers 1.",
        ) from error
    return [result for i in range(len(chunks)) for result in results[i]]


@contextmanager
def leaving_interrupts_to_us() -> Iterator[None]:
    """Processes that are started inside are deaf to Ctrl-C from the first line on, or each would print a traceback.

    A signal that is blocked stays so in a new process, whatever it imports before it could say so itself; here it
    is not lost: it waits until the end, or comes at once where another thread takes it.
    """
    # Started in between, what tracks the processes' resources would unblock it.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _chunk(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    return [function(item) for item in items]


def _one(function: Callable[[Item], Result], item: Item, advance: Callable[[int], object]) -> Result:
    result = function(item)
    advance(1)
    return result


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
