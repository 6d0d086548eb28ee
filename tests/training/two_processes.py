"""Two processes on this machine that know of each other, forked from this one."""

from __future__ import annotations

import os
import socket
import sys
import traceback
from collections.abc import Callable

from accelerate.state import AcceleratorState


def run_two(action: Callable[[int], None]) -> None:
    """Let two processes do something together through accelerate; both must end well."""
    port = _free_port()

    def work(process: int) -> None:
        _join(process, port)
        action(process)

    assert fork_two(work) == [0, 0]


def fork_two(work: Callable[[int], None]) -> list[int]:
    """Run ``work(process)`` in two processes; returns their exit codes."""
    children = []
    for process in range(2):
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


def _join(process: int, port: int) -> None:
    os.environ |= {
        "RANK": str(process),
        "LOCAL_RANK": str(process),
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
    }
    AcceleratorState._reset_state(reset_partial_state=True)
