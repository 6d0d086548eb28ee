"""What is done where an operating system lacks something; the calls that Linux has are tested by their users."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from voco_cli import operating_system
from voco_cli.operating_system import (
    GivenCores,
    core_quota,
    interrupts_blocked,
    locked,
    open_file_limits,
    peak_memory_bytes,
    share_of_cores,
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
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    monkeypatch.setattr(operating_system, "core_quota", lambda: None)
    assert usable_cores() == 6


def write_group(folder: Path, **content: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in content.items():
        (folder / f"cpu.{name}").write_text(f"{text}\n")


def test_cores_of_a_container_of_either_version(tmp_path: Path) -> None:
    (tmp_path / "of").write_text("5:cpu,cpuacct:/job\n0::/job\n")
    assert core_quota(tmp_path, tmp_path / "of") is None
    write_group(tmp_path / "cpu" / "job", cfs_quota_us="-1", cfs_period_us="100000")
    write_group(tmp_path / "job", max="max 100000")
    assert core_quota(tmp_path, tmp_path / "of") is None
    write_group(tmp_path / "cpu", cfs_quota_us="250000", cfs_period_us="100000")
    assert core_quota(tmp_path, tmp_path / "of") == 2.5
    write_group(tmp_path / "job", max="150000 100000")
    assert core_quota(tmp_path, tmp_path / "of") == 1.5


@pytest.mark.parametrize(("affinity", "quota", "cores"), [(16, "max", 16), (16, "350000", 3), (2, "350000", 2)])
def test_the_smaller_of_affinity_and_quota_counts(
    affinity: int, quota: str, cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "of").write_text("0::/job\n")
    write_group(tmp_path / "job", max=f"{quota} 100000")
    in_tree = partial(core_quota, tmp_path, tmp_path / "of")
    monkeypatch.setattr(operating_system, "core_quota", in_tree)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(affinity)), raising=False)
    assert usable_cores() == cores


def given(cores: range, host: str = "node1", quota: float | None = None) -> GivenCores:
    return GivenCores(host, frozenset(cores), quota)


@pytest.mark.parametrize(
    ("everybody", "shares"),
    [
        ([given(range(96))] * 8, [12] * 8),  # torchrun: all may run everywhere
        ([given(range(12 * rank, 12 * rank + 12)) for rank in range(4)], [12] * 4),  # srun bound them
        ([given(range(24)), given(range(24)), given(range(24, 48))], [12, 12, 24]),  # two share a socket
        ([given(range(48), f"node{rank // 2}") for rank in range(4)], [24] * 4),  # two nodes
        ([given(range(64), quota=16.0)] * 4, [4] * 4),  # one container for all
        ([given(range(64), f"pod{rank}", 6.5) for rank in range(4)], [6] * 4),  # a container each
        ([given(range(2))] * 4, [1] * 4),
        ([given(range(10))] * 3, [3] * 3),
    ],
)
def test_cores_are_shared_by_those_who_may_run_there(everybody: list[GivenCores], shares: list[int]) -> None:
    assert [share_of_cores(own, everybody) for own in everybody] == shares


def test_a_peak_that_nobody_counts_is_0(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert peak_memory_bytes() > 10_000_000
    monkeypatch.setattr(operating_system, "STATUS", tmp_path / "none")
    assert peak_memory_bytes() == 0
