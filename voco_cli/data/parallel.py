"""One executor for everything that works scan by scan: processes of this machine, or a Dask cluster's.

`run_jobs` hands results out as they come, `map_files` returns them in order. Both survive a worker that the system
kills (for its memory, most likely) or that a library crashes: only the job that did it fails. A `Runner` says where
the jobs are done, and which of them a shard has done before.

The library pebble has such a pool too. It was tried (5.2) and not taken: a job that leaves its process with code 0 is
waited for without end, and a worker that is killed while it sends its result holds a lock for 60 s, after which all
other jobs are lost. The pool of the standard library notices both at once.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from typing import Any, NoReturn, Protocol, TypeVar

from voco_cli.errors import ResourceError
from voco_cli.operating_system import STOPPING, interrupts_blocked, usable_cores

Job = TypeVar("Job")
Result = TypeVar("Result")

MAX_WORKERS = 16
FEWEST_FOR_PROCESSES = 256
"""Starting processes takes about a second each; fewer header reads than this are done sooner alone."""
CHUNKS_PER_WORKER = 16
CLUSTER_CHUNKS, MOST_IN_A_CLUSTER_CHUNK = 1000, 64
"""Files travel to a cluster in so many chunks, one by one where there are few: hundreds of workers get their share."""


class WorkerKilledError(Exception):
    """A job whose process ended without a word: killed by the system, most likely for its memory."""

    def __init__(self) -> None:
        super().__init__(
            "ended its worker process, with no other at work: most likely it needs more memory than there is"
        )


class Cluster(Protocol):
    """Processes of other machines."""

    def run(
        self,
        work: Callable[[Job], Result],
        jobs: Iterable[Job],
        finished: Callable[[Job, Result | Exception], None],
    ) -> None:
        """Do every job once; a job that ends its worker is tried once more alone (see `run_jobs`)."""


class JobOutcomes(Protocol):
    """What is known of jobs that were done before, by this process or another (see `data.shards`)."""

    @property
    def is_part(self) -> bool:
        """Return whether this process does a part of the scans alone."""

    @property
    def goes_on(self) -> bool:
        """Return whether the same was begun before, so that what lies in its output is its own."""

    def owns(self, key: str) -> bool:
        """Return whether a scan is one of those that this process does."""

    def share(self, things: Sequence[Job]) -> list[Job]:
        """Return those of a few large things that this process does, dealt in turn."""

    def begin(self, identity: Mapping[str, str]) -> None:
        """State what all outcomes depend on, such as settings and weights."""

    def recall(self, work: Callable[[Job], Result], job: Job) -> tuple[Result | Exception] | None:
        """Return the outcome of a job, alone in a tuple; None where it must still be done."""

    def record(self, work: Callable[[Job], Result], job: Job, outcome: Result | Exception) -> None:
        """Keep the outcome of a job."""


@dataclass(frozen=True)
class Runner:
    """Where jobs are done, and what is known of them already.

    Attributes:
        cluster: none is processes of this machine.
        outcomes: none is nothing, and nothing is kept.
    """

    cluster: Cluster | None = None
    outcomes: JobOutcomes | None = None

    @property
    def is_part(self) -> bool:
        """Return whether this process does a part of the scans alone, and others the rest."""
        return self.outcomes is not None and self.outcomes.is_part

    @property
    def goes_on(self) -> bool:
        """Return whether a shard of this was begun before, so that what lies in its output is its own."""
        return self.outcomes is not None and self.outcomes.goes_on

    def owns(self, key: str) -> bool:
        """Return whether a scan is one of those that this process does; see `Shard.owns`."""
        return self.outcomes is None or self.outcomes.owns(key)

    def share(self, things: Sequence[Job]) -> list[Job]:
        """Return those of a few large things, such as trainings, that this process does: every n-th of n shards."""
        return list(things) if self.outcomes is None else self.outcomes.share(things)

    def begin(self, identity: Mapping[str, str]) -> None:
        """State what all outcomes depend on: parts of other settings, weights or inputs are not taken."""
        if self.outcomes is not None:
            self.outcomes.begin(identity)


HERE = Runner()
"""Processes of this machine."""


def run_jobs(
    work: Callable[[Job], Result],
    jobs: Iterable[Job],
    workers: int,
    finished: Callable[[Job, Result | Exception], None],
    own_process: bool = False,
    runner: Runner = HERE,
) -> None:
    """Do every job; one worker works in this process, more in processes of their own.

    Args:
        work: a function at module level; what it raises is handed to ``finished``.
        workers: processes of this machine; a cluster has its own.
        finished: called in this process as jobs end, in any order; what it raises stops the rest.
        own_process: one worker has a process of its own too.
        runner: where the jobs are done.
    Raises:
        KeyboardInterrupt: on Ctrl-C, after the jobs that were being done have ended.
    """
    if runner.outcomes is not None:
        jobs, finished = _still_to_do(runner.outcomes, work, jobs, finished)
    if runner.cluster is not None:
        runner.cluster.run(work, jobs, finished)
        return
    if workers == 1 and not own_process:
        for job in jobs:
            finished(job, _outcome(work, job))
        return
    pending = deque(jobs)
    while pending:
        # A killed worker takes its whole pool along. The jobs that were in it are tried again, each alone.
        for job in _run_pool(work, pending, workers, finished):
            if _run_pool(work, deque([job]), 1, finished):
                finished(job, WorkerKilledError())


def _still_to_do(
    outcomes: JobOutcomes,
    work: Callable[[Job], Result],
    jobs: Iterable[Job],
    finished: Callable[[Job, Result | Exception], None],
) -> tuple[list[Job], Callable[[Job, Result | Exception], None]]:
    """Hand out the outcomes that are known; return the other jobs, and what keeps theirs and hands them out."""
    left: list[Job] = []
    for job in jobs:
        known = outcomes.recall(work, job)
        if known is None:
            left.append(job)
        else:
            finished(job, known[0])

    def kept(job: Job, outcome: Result | Exception) -> None:
        outcomes.record(work, job, outcome)
        finished(job, outcome)

    return left, kept


def _outcome(work: Callable[[Job], Result], job: Job) -> Result | Exception:
    try:
        return work(job)
    except Exception as error:  # whatever a scan does to a reader must not end the batch; the caller records it
        return error


def _run_pool(
    work: Callable[[Job], Result],
    pending: deque[Job],
    workers: int,
    finished: Callable[[Job, Result | Exception], None],
) -> list[Job]:
    """Take jobs from ``pending`` until it is empty or the pool breaks; return the jobs that were in it then."""
    pool = _process_pool(min(workers, len(pending)))
    running: dict[Future[Result], Job] = {}
    suspects: list[Job] = []
    try:
        while pending or running:
            # No more jobs than workers are handed out, so that what is running is what a killed worker may have held.
            while pending and len(running) < workers and not suspects:
                with leaving_interrupts_to_us():
                    running[pool.submit(work, pending[0])] = pending[0]
                pending.popleft()
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                job, error = running.pop(future), future.exception()
                if isinstance(error, BrokenExecutor):
                    suspects.append(job)
                elif isinstance(error, Exception):
                    finished(job, error)
                else:
                    finished(job, future.result())
            if suspects and not running:
                break
    except BrokenExecutor:  # raised by submit: the job at hand is still pending
        suspects.extend(running.values())
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return suspects


def _process_pool(workers: int) -> Executor:
    """Return the executor that jobs are submitted to; a fork would copy locked threads of the libraries."""
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _begin_worker)


@contextmanager
def leaving_interrupts_to_us() -> Iterator[None]:
    """Start processes inside that are deaf to Ctrl-C from the first line on, or each would print a traceback.

    A signal that is blocked stays so in a new process, whatever it imports before it could say so itself. Here it waits
    until the end, as do those that would unwind us: a process half started when we leave prints a traceback.
    """
    # Started in between, what tracks the processes' resources would unblock it.
    resource_tracker.ensure_running()
    came: list[int] = []
    handlers: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():  # another thread hears no signals
        # A blocked signal may still be taken by another thread, and our handler then runs all the same.
        ours = [number for number in STOPPING if callable(signal.getsignal(number))]
        handlers = {number: signal.signal(number, lambda number, _: came.append(number)) for number in ours}
    try:
        with interrupts_blocked():
            yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


def _begin_worker() -> None:
    """Leave Ctrl-C to the parent, and do not outlive it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(1)


@dataclass(frozen=True)
class Chunk:
    """Items that travel to a worker together, with their places in the whole."""

    function: Callable[[Any], Any]
    items: tuple[Any, ...]
    places: tuple[int, ...]

    def results(self) -> list[Any]:
        """Return the function's result for each item."""
        return [self.function(item) for item in self.items]


def _raise(item: object, error: Exception) -> NoReturn:
    name = getattr(item, "image", None) or getattr(item, "path", item)
    raise ResourceError(f"{name} {error}.", "Leave that file out, or read it where there is more memory.")


def map_files(
    function: Callable[[Job], Result],
    items: Sequence[Job],
    workers: int | None,
    advance: Callable[[int], object],
    fewest: int = FEWEST_FOR_PROCESSES,
    killed: Callable[[Job, Exception], Result] = _raise,
    own_process: bool = False,
    runner: Runner = HERE,
) -> list[Result]:
    """Return the results of a function in the order of ``items``.

    Args:
        function: picklable; expected faults come back as results, and exceptions end the whole.
        workers: processes; none is one a core where there are at least ``fewest`` items.
        advance: called with the number of items that were finished.
        killed: makes the result of an item that ended its process, alone as well; without it that is an error.
        own_process: work in a process of its own also where it is a single one, so that its end is not the command's.
        runner: where the work is done; a cluster has its own number of processes.
    Raises:
        ResourceError: a worker process was killed, and ``killed`` does not take it.
    """
    results: dict[int, Result] = {}
    suspects: list[Chunk] = []
    places = _places_to_do(function, items, runner.outcomes, results)
    count = workers or (min(usable_cores(), MAX_WORKERS) if len(places) >= fewest else 1)
    size = max(1, -(-len(places) // (count * CHUNKS_PER_WORKER))) if count > 1 or own_process else 1
    if runner.cluster is not None:
        size = min(1 + len(places) // CLUSTER_CHUNKS, MOST_IN_A_CLUSTER_CHUNK)
    there = Runner(runner.cluster)

    def chunk(some: Sequence[int]) -> Chunk:
        return Chunk(function, tuple(items[place] for place in some), tuple(some))

    def finished(chunk_: Chunk, outcome: list[Any] | Exception) -> None:
        if isinstance(outcome, WorkerKilledError) and len(chunk_.places) > 1:
            suspects.extend(chunk([place]) for place in chunk_.places)
            return
        if isinstance(outcome, WorkerKilledError):
            outcome = [killed(chunk_.items[0], outcome)]
        if isinstance(outcome, Exception):
            raise outcome
        for place, result in zip(chunk_.places, outcome, strict=True):
            results[place] = result
            if runner.outcomes is not None:
                runner.outcomes.record(function, items[place], result)
        advance(len(chunk_.places))

    if results:
        advance(len(results))
    chunks = [chunk(places[start : start + size]) for start in range(0, len(places), size)]
    run_jobs(Chunk.results, chunks, count, finished, own_process, there)
    # What killed its worker is somewhere in these chunks: one file at a time tells.
    run_jobs(Chunk.results, suspects, count, finished, own_process=True, runner=there)
    return [results[place] for place in range(len(items))]


def _places_to_do(
    function: Callable[[Job], Result], items: Sequence[Job], outcomes: JobOutcomes | None, results: dict[int, Result]
) -> list[int]:
    """Return the places of items whose results are not known; those that are known are put into ``results``."""
    if outcomes is None:
        return list(range(len(items)))
    for place, item in enumerate(items):
        known = outcomes.recall(function, item)
        if known is None:
            continue
        (outcome,) = known
        if isinstance(outcome, Exception):
            raise outcome
        results[place] = outcome
    return [place for place in range(len(items)) if place not in results]


WAITING_THREADS = 16
WAITING_CHUNK = 256


def map_waiting(function: Callable[[Job], Result], items: Sequence[Job]) -> list[Result]:
    """Return the results of a function that waits for a file system, in the order of ``items``.

    Threads ask for many files at a time: one after the other, 160,000 of them on a network take minutes of waiting.

    Args:
        function: safe in threads; what it raises ends the whole.
    """
    chunks = [items[start : start + WAITING_CHUNK] for start in range(0, len(items), WAITING_CHUNK)]
    if len(chunks) < 2:
        return [function(item) for item in items]

    def of_chunk(chunk: Sequence[Job]) -> list[Result]:
        return [function(item) for item in chunk]

    pool = ThreadPoolExecutor(WAITING_THREADS)
    try:
        return [result for found in pool.map(of_chunk, chunks) for result in found]
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
