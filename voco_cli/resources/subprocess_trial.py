"""A trial in a process of its own: its memory can be told from ours, and it can be stopped before it hurts."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any, Generic, NoReturn, TypeVar

import psutil

from voco_cli.data.cache.disk_space import gigabytes
from voco_cli.errors import ResourceError, VocoError
from voco_cli.operating_system import free_host_bytes, kill_group, lead_own_group, was_killed

Request = TypeVar("Request")
Result = TypeVar("Result")

LEAST_FREE_SHARE = 0.15
"""A trial is stopped when no more than this share of what was free at its start is left."""
LOOK_EVERY_S = 0.1
COUNT_EVERY_S = 1.0
END_WITHIN_S = 10.0


class TooLargeError(ResourceError):
    """A trial was stopped before it had taken all memory, or the system ended it for that.

    Args:
        reached_bytes: what it had taken when that was last looked at.
    """

    def __init__(self, reached_bytes: int) -> None:
        super().__init__(f"A trial was stopped when it had taken {gigabytes(reached_bytes)} of memory.")
        self.reached_bytes = reached_bytes


@dataclass(frozen=True)
class Outcome(Generic[Result]):
    """What a trial came to.

    Attributes:
        result: of the work.
        start_s: time until the work began, which is the interpreter and its libraries.
    """

    result: Result
    start_s: float


def run_apart(work: Callable[[Request], Result] | str, request: Request) -> Outcome[Result]:
    """Do some work in a fresh process; it and all that it starts have ended when this returns or raises.

    Args:
        work: a function at module level, or its place as ``module:function``, whose libraries then the other process
            alone loads; ``request`` and what it returns travel between processes.
    Raises:
        TooLargeError: the memory was about to run out.
        VocoError: the work's own.
        RuntimeError: any other fault of the work.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_begin, args=(there, work, request))
    least_bytes = int(LEAST_FREE_SHARE * free_host_bytes())  # once: what the work takes later must not lower it
    began_s = time.monotonic()
    with _no_word_of_semaphores():
        process.start()
    there.close()
    try:
        start_s = _receive(here, process, least_bytes) - began_s
        answer = _receive(here, process, least_bytes)
        process.join(END_WITHIN_S)
    finally:
        _end(process)
        here.close()
    if isinstance(answer, Exception):
        raise answer
    return Outcome(answer, start_s)


@contextmanager
def tidy_when_terminated() -> Iterator[None]:
    """SIGTERM unwinds the stack as Ctrl-C does, so that temporary folders are removed and processes ended."""
    if threading.current_thread() is not threading.main_thread():  # where signals are not heard
        yield
        return
    before = signal.signal(signal.SIGTERM, _leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _no_word_of_semaphores() -> Iterator[None]:
    """What a process that is ended leaves, Python removes; its warning of that would be one more line after Ctrl-C."""
    before = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = ",".join(filter(None, (before, "ignore:resource_tracker:UserWarning")))
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONWARNINGS"]
        else:
            os.environ["PYTHONWARNINGS"] = before


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


def _receive(connection: Connection, process: BaseProcess, least_bytes: int) -> Any:
    """The next message of the process, which is stopped where less memory than that is free."""
    taken_bytes, looked_s = 0, time.monotonic()
    while not connection.poll(LOOK_EVERY_S):
        if not process.is_alive() and not connection.poll(0):
            raise _died(process, taken_bytes)
        if free_host_bytes() < least_bytes:
            raise TooLargeError(_taken_bytes(process))
        if time.monotonic() - looked_s > COUNT_EVERY_S:
            taken_bytes, looked_s = _taken_bytes(process), time.monotonic()
    try:
        return connection.recv()
    except EOFError:
        process.join(END_WITHIN_S)
        raise _died(process, taken_bytes) from None


def _died(process: BaseProcess, taken_bytes: int) -> VocoError:
    code = process.exitcode or 0
    if was_killed(code):  # what the system does to the largest process when memory has run out
        return TooLargeError(taken_bytes)
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
    return ResourceError(f"A trial {how} without a word.", "look at what the system's log says of it")


def _taken_bytes(process: BaseProcess) -> int:
    """Resident memory of a process and of those that it started."""
    total = 0
    with suppress(psutil.Error):
        root = psutil.Process(process.pid)
        for one in (root, *root.children(recursive=True)):
            with suppress(psutil.Error):
                total += one.memory_info().rss
    return total


def _end(process: BaseProcess) -> None:
    """End the process and its group, whatever they are doing."""
    if process.pid is not None and process.is_alive():
        kill_group(process.pid)
        process.kill()  # it may not have had its own group yet
    process.join()


def _begin(connection: Connection, work: Callable[[Any], Any] | str, request: Any) -> None:
    """What the process does."""
    lead_own_group()  # Ctrl-C goes to the parent alone, which ends this group; the session, and its share of time, stay
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    if isinstance(work, str):
        module, function = work.split(":")
        work = getattr(import_module(module), function)
    assert callable(work)
    connection.send(time.monotonic())
    answer: Any
    try:
        answer = work(request)
    except VocoError as error:
        answer = error
    except Exception as error:  # anything must reach the parent, and not every error can travel
        answer = RuntimeError(f"{type(error).__name__}: {error}")
    connection.send(answer)


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    kill_group(0)
