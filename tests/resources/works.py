"""Pieces of work for a process of its own."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path

from voco_cli.errors import UsageError
from voco_cli.operating_system import peak_memory_bytes

held: list[object] = []


def double(number: int) -> int:
    return 2 * number


def take_memory(megabytes: int) -> int:
    block = bytearray(megabytes << 20)
    block[::4096] = b"x" * len(block[::4096])
    return peak_memory_bytes()


def die_with_a_lock(number: int) -> None:
    held.append(multiprocessing.get_context("spawn").Lock())
    os.kill(os.getpid(), signal.SIGKILL)


def refuse(text: str) -> None:
    raise UsageError(text, "a hint")


def break_down(text: str) -> None:
    raise KeyError(text)


def be_killed(number: int) -> None:
    os.kill(os.getpid(), number)


def start_a_child_and_wait(note: Path) -> None:
    child = os.fork()
    if child == 0:
        signal.pause()
    note.write_text(f"{os.getpid()} {child} ")
    signal.pause()


SIGKILL, SIGABRT = int(signal.SIGKILL), int(signal.SIGABRT)
