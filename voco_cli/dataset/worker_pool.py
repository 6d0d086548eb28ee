"""Many independent jobs over processes, of which any may fail or be killed without harm to the others."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import resource_tracker
from typing import Any, TypeVar

from voco_cli.operating_system import STOPPING, interrupts_blocked

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
