"""The same function over many files, in processes where it pays."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from typing import Any, NoReturn, TypeVar

from voco_cli.errors import ResourceError
from voco_cli.operating_system import STOPPING, interrupts_blocked, usable_cores

Job = TypeVar("Job")
Result = TypeVar("Result")


class WorkerKilledError(Exception):
    """The process at work on a job ended without a word: killed by the system, most likely for its memory."""

    def __init__(self) -> None:
        super().__init__(
            "ended its worker process, with no other at work: most likely it needs more memory than there is"
        )


def run_jobs(
    work: Callable[[Job], Result],
    jobs: Iterable[Job],
    workers: int,
    finished: Callable[[Job, Result | Exception], None],
    apart: bool = False,
) -> None:
    """Do every job; one worker works in this process, more in processes of their own.

    Args:
        work: a function at module level; what it raises is handed to ``finished``.
        finished: called in this process as jobs end, in any order; what it raises stops the rest.
        apart: one worker has a process of its own too.
    Raises:
        KeyboardInterrupt: on Ctrl-C, after the jobs that were being done have ended.
    """
    if workers == 1 and not apart:
        for job in jobs:
            finished(job, _outcome(work, job))
        return
    pending = deque(jobs)
    while pending:
        suspects = _run_pool(work, pending, workers, finished)
        # A killed worker takes its whole pool along. Those that were in it are tried again, each alone.
        for job in suspects:
            if _run_pool(work, deque([job]), 1, finished):
                finished(job, WorkerKilledError())


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
    """Take jobs from ``pending`` until it is empty or the pool breaks; the jobs that were in it then."""
    context = multiprocessing.get_context("spawn")  # a fork would copy locked threads of the libraries
    pool = ProcessPoolExecutor(min(workers, len(pending)), mp_context=context, initializer=_begin_worker)
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
                job = running.pop(future)
                error = future.exception()
                if isinstance(error, BrokenProcessPool):
                    suspects.append(job)
                elif isinstance(error, Exception):
                    finished(job, error)
                else:
                    finished(job, future.result())
            if suspects and not running:
                break
    except BrokenProcessPool:  # raised by submit: the job at hand is still pending
        suspects.extend(running.values())
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return suspects


@contextmanager
def leaving_interrupts_to_us() -> Iterator[None]:
    """Processes that are started inside are deaf to Ctrl-C from the first line on, or each would print a traceback.

    A signal that is blocked stays so in a new process, whatever it imports before it could say so itself. Here it
    waits
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


Item = TypeVar("Item")

MAX_WORKERS = 16
# Starting processes takes about a second each; fewer header reads than this are done sooner alone.
FEWEST_FOR_PROCESSES = 256
CHUNKS_PER_WORKER = 16


def _raise(item: object, error: Exception) -> NoReturn:
    name = getattr(item, "image", None) or getattr(item, "path", item)
    raise ResourceError(f"{name} {error}.", "Leave that file out, or read it where there is more memory.")


def map_files(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int | None,
    advance: Callable[[int], object],
    fewest: int = FEWEST_FOR_PROCESSES,
    killed: Callable[[Item, Exception], Result] = _raise,
    apart: bool = False,
) -> list[Result]:
    """Results in the order of ``items``.

    Args:
        function: picklable; expected faults come back as results, not as exceptions.
        workers: processes; none is one a core where there are at least ``fewest`` items.
        advance: told how many items were finished.
        killed: makes the result of an item that ended its process, alone as well; without it that is an error.
        apart: work in a process of its own also where it is a single one, so that its end is not the command's.
    Raises:
        ResourceError: a worker process was killed, and ``killed`` does not take it.
    """
    count = workers or (min(usable_cores(), MAX_WORKERS) if len(items) >= fewest else 1)
    if count == 1 and not apart:
        return [_one(function, item, advance) for item in items]
    size = max(1, -(-len(items) // (count * CHUNKS_PER_WORKER)))
    chunks = [range(start, min(start + size, len(items))) for start in range(0, len(items), size)]
    results: dict[int, Result] = {}
    suspects: list[int] = []

    def finished(chunk: Chunk, outcome: list[Result] | Exception) -> None:
        if isinstance(outcome, WorkerKilledError) and len(chunk.places) > 1:
            suspects.extend(chunk.places)
            return
        if isinstance(outcome, WorkerKilledError):
            outcome = [killed(chunk.items[0], outcome)]
        if isinstance(outcome, Exception):
            raise outcome
        results.update(zip(chunk.places, outcome, strict=True))
        advance(len(chunk.places))

    def job(places: Sequence[int]) -> Chunk:
        return Chunk(function, tuple(items[place] for place in places), tuple(places))

    run_jobs(_do_chunk, map(job, chunks), count, finished, apart=apart)
    # What killed its worker is somewhere in these chunks: one file at a time tells.
    run_jobs(_do_chunk, [job([place]) for place in suspects], count, finished, apart=True)
    return [results[place] for place in range(len(items))]


@dataclass(frozen=True)
class Chunk:
    """Items that travel to a worker together, with their places in the whole."""

    function: Callable[[Any], Any]
    items: tuple[Any, ...]
    places: tuple[int, ...]


def _do_chunk(chunk: Chunk) -> list[Any]:
    return [chunk.function(item) for item in chunk.items]


def _one(function: Callable[[Item], Result], item: Item, advance: Callable[[int], object]) -> Result:
    result = function(item)
    advance(1)
    return result
