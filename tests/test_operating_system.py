"""What is done where an operating system lacks something; the calls that Linux has are tested by their users."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from voco_cli import operating_system
from voco_cli.operating_system import (
    interrupts_blocked,
    locked,
    open_file_limits,
    peak_memory_bytes,
    usable_cores,
)

HOLDS = """
import sys
from pathlib import Path
from voco_cli import operating_system
{missing}
with operating_system.locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("missing", ["", "operating_system.fcntl = None"], ids=["fcntl", "filelock"])
def test_a_lock_keeps_others_out_and_ends_with_its_process(
    missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / ".lock"
    command = [sys.executable, "-c", HOLDS.format(missing=missing), str(path)]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    if missing:
        monkeypatch.setattr(operating_system, "fcntl", None)
    with pytest.raises(BlockingIOError), locked(path):
        pass
    holder.kill()
    holder.communicate()
    with locked(path):
        assert path.exists()


def test_without_the_module_resource_nothing_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_file_limits() is not None
    monkeypatch.setattr(operating_system, "resource", None)
    assert open_file_limits() is None


def test_no_limit_is_minus_one(monkeypatch: pytest.MonkeyPatch) -> None:
    resource = operating_system.resource
    monkeypatch.setattr(resource, "getrlimit", lambda which: (256, resource.RLIM_INFINITY))
    assert open_file_limits() == (256, -1)


def test_where_signals_cannot_be_blocked_work_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interrupt comes at once then, and inside."""
    monkeypatch.delattr(signal, "pthread_sigmask")
    with interrupts_blocked(), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_a_blocked_interrupt_comes_at_the_end() -> None:
    reached = []

    def interrupted() -> None:
        with interrupts_blocked():
            signal.raise_signal(signal.SIGINT)
            reached.append("the end")

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert reached == ["the end"]


def test_where_no_affinity_is_told_all_cores_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    assert usable_cores() == os.cpu_count()


def test_a_peak_that_nobody_counts_is_0(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert peak_memory_bytes() > 10_000_000
    monkeypatch.setattr(operating_system, "STATUS", tmp_path / "none")
    assert peak_memory_bytes() == 0
