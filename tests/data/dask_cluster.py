"""A Dask cluster on this machine: a scheduler and two workers, each a process of its own, as `dask` starts them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.waiting import wait_until


@contextmanager
def dask_cluster(folder: Path) -> Iterator[str]:
    """Start it; gives its address. Log files are in ``folder``."""
    told = folder / "scheduler.json"
    there = ["--host", "127.0.0.1", "--no-dashboard"]
    one_thread = ["--nworkers", "1", "--nthreads", "1", "--scheduler-file", str(told)]
    with _started(folder, "scheduler", [*there, "--port", "0", "--scheduler-file", str(told)]):
        wait_until(told.is_file)
        with (
            _started(folder, "worker", [*there, *one_thread], "1"),
            _started(folder, "worker", [*there, *one_thread], "2"),
        ):
            yield json.loads(told.read_text())["address"]


@contextmanager
def _started(folder: Path, role: str, options: list[str], name: str = "") -> Iterator[None]:
    words = [sys.executable, "-m", "distributed.cli.dask_" + role, *options]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    with (folder / f"{role}{name}.log").open("wb") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log, env=environment, start_new_session=True)
        try:
            yield
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def quarter(path: Path) -> float:
    """Return the number that a file is called, over four; 7 ends its process, and 11 does so once."""
    number, once = int(path.name), path.parent / "once"
    if number == 7 or (number == 11 and not once.exists()):
        once.touch(exist_ok=True) if number == 11 else None
        os.kill(os.getpid(), signal.SIGKILL)
    return number / 4
