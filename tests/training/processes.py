"""Processes on this machine that know of each other, forked from this one."""

from __future__ import annotations

import os
import socket
import sys
import traceback
from collections.abc import Callable

from accelerate.state import AcceleratorState


def run_together(action: Callable[[int], None], count: int = 2) -> None:
    """Let processes do something together through accelerate; all must end well."""
    port = _free_port()

    def work(process: int) -> None:
        _join(process, count, port)
        action(process)

    assert fork_together(work, count) == [0] * count


def fork_together(work: Callable[[int], None], count: int = 2) -> list[int]:
    """Run ``work(process)`` in so many processes; returns their exit codes."""
    children = []
    for process in range(count):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                work(process)
                code = 0
            except BaseException:
                traceback.print_exc(file=sys.stderr)
            finally:
                os._exit(code)
        children.append(child)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def _free_port() -> int:
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        port: int = asked.getsockname()[1]
        return port


def _join(process: int, count: int, port: int) -> None:
    os.environ |= {
        "RANK": str(process),
        "LOCAL_RANK": str(process),
        "WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
    }
    AcceleratorState._reset_state(reset_partial_state=True)
