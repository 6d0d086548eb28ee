"""What one operating system has and another has not, each with what happens where it is missing.

Linux is what the tests run on; macOS lacks some of it, and Windows most. No other module names these calls.
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

# Names and numbers of malloc.h.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4


def keep_freed_memory() -> bool:
    """Tell glibc never to map single allocations and never to trim the heap; elsewhere nothing happens.

    Returns:
        whether the allocator took it.
    """
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 256 << 20))
    return all(mallopt(ctypes.c_int(option), ctypes.c_int(value)) == 1 for option, value in settings)


ROOT, OF_PROCESS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
NO_LIMIT_BYTES = 1 << 60
"""Version 1 has no word for no limit: it gives the largest number of pages that there is."""
FILES = {
    2: ("memory.max", "memory.current", "inactive_file"),
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}
"""Of each version: the limit, what is in use, and the line of memory.stat with pages that could be dropped."""


@dataclass(frozen=True)
class GroupMemory:
    """What a control group allows its processes, and what it has left; droppable pages of files count as free."""

    limit_bytes: int
    free_bytes: int


def free_host_bytes() -> int:
    """Memory that this process may still take: of the machine, or of its container or batch job where that is less."""
    import psutil  # late: a reader asks only before a large scan

    free = [int(psutil.virtual_memory().available), *(group.free_bytes for group in control_groups())]
    return max(0, min(free))


def total_host_bytes() -> int:
    """Memory of the machine, or of the container or batch job where that is less."""
    import psutil  # late: a reader asks only before a large scan

    return min([int(psutil.virtual_memory().total), *(group.limit_bytes for group in control_groups())])


def control_groups(root: Path = ROOT, of_process: Path = OF_PROCESS) -> list[GroupMemory]:
    """The limits of the process's control group and of those that it is in, innermost first; of either version."""
    found = (_memory_of(folder, version) for version, folder in group_folders("memory", root, of_process))
    return [memory for memory in found if memory is not None]


def group_folders(controller: str, root: Path = ROOT, of_process: Path = OF_PROCESS) -> Iterator[tuple[int, Path]]:
    """Folders of the control groups that the process is in, innermost first, with the version that they are of."""
    try:
        lines = of_process.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, name = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        version, top = (2, root) if not controllers else (1, root / controller)
        inner = top / name.lstrip("/")
        # Inside a container the name may be that of the host; the top folder is then the container's own.
        yield from ((version, folder) for folder in (inner, *inner.parents) if folder.is_relative_to(top))


def _memory_of(folder: Path, version: int) -> GroupMemory | None:
    """Return the memory of a control group; None where it sets no limit."""
    limit_file, used_file, droppable = FILES[version]
    try:
        limit, used = ((folder / name).read_text().strip() for name in (limit_file, used_file))
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None
    if limit == "max" or int(limit) >= NO_LIMIT_BYTES:
        return None
    return GroupMemory(int(limit), int(limit) - int(used) + int(stat.get(droppable, 0)))


QUOTA_FILES = {2: ("cpu.max",), 1: ("cpu.cfs_quota_us", "cpu.cfs_period_us")}
"""Of each version of control groups: the files that hold quota and period."""


@dataclass(frozen=True)
class GivenCores:
    """What a process may compute on.

    Attributes:
        host: name of the machine, or of the container.
        mask: numbers of the cores that the process may run on.
        quota: cores that its control groups let it use at a time; None where they set no limit.
    """

    host: str
    mask: frozenset[int]
    quota: float | None


def given_cores() -> GivenCores:
    """Return what this process may compute on; all of the machine where the system does not say."""
    asked = hasattr(os, "sched_getaffinity")
    mask = os.sched_getaffinity(0) if asked else range(os.cpu_count() or 1)
    return GivenCores(platform.node(), frozenset(mask), core_quota())


def core_quota(*places: Path) -> float | None:
    """Return the cores that a control group lets the process use at a time; None where it sets no limit.

    Args:
        places: as for `group_folders`, where not the usual ones.
    """
    quotas = []
    for version, folder in group_folders("cpu", *places):
        try:
            quota, period = " ".join((folder / name).read_text().strip() for name in QUOTA_FILES[version]).split()
        except (OSError, ValueError):
            continue
        if quota not in ("max", "-1"):
            quotas.append(int(quota) / int(period))
    return min(quotas, default=None)


def share_of_cores(own: GivenCores, everybody: Sequence[GivenCores]) -> int:
    """Return how many cores a process has, at least 1, where others compute beside it.

    A core that n processes of a host may run on counts as 1/n of one, so that processes are told apart that a batch
    system has bound to cores of their own and those that share all. A quota is shared by all processes of a host.

    Args:
        own: of the process.
        everybody: of all processes that compute together, this one among them.
    """
    of_host = [one for one in everybody if one.host == own.host]
    users = Counter(core for one in of_host for core in one.mask)
    cores = sum(Fraction(1, users[core]) for core in own.mask)
    return max(1, int(cores if own.quota is None else min(cores, own.quota / len(of_host))))


def usable_cores() -> int:
    """Return how many cores this process may use: of its affinity, and no more than its quota where there is one."""
    own = given_cores()
    return share_of_cores(own, [own])


DRIVERS = (Path("/dev/nvidiactl"), Path("/dev/kfd"), Path("/dev/dxg"))
"""What the drivers of NVIDIA, of AMD, and of Windows below Linux put there."""


def seems_to_have_gpu() -> bool:
    """Return whether a driver of a GPU is loaded, or this is a Mac with a GPU of its own, and none is hidden."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return False
    is_mac = platform.system() == "Darwin" and platform.machine() == "arm64"
    return is_mac or any(driver.exists() for driver in DRIVERS)


try:
    import fcntl
    import resource
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]
    resource = None  # type: ignore[assignment]

STOPPING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR2") if hasattr(signal, name)]
"""Signals that end a command in order: Ctrl-C, a batch system's limit of time, a closed terminal, submitit's warning.

submitit warns by USR2, as NCCL may take USR1 for itself.
"""
STATUS = Path("/proc/self/status")
KILOBYTE = 1024
"""Unit of Linux's memory figures."""


@contextmanager
def interrupts_blocked() -> Iterator[None]:
    """Keep Ctrl-C waiting, also in processes that are started inside; where signals cannot be blocked it comes."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock that ends with this process, however it ends.

    A POSIX record lock belongs to one process. That of the library filelock is inherited by forked loader processes,
    and held by those that outlive a kill, so it serves where there is no other.

    Args:
        path: file that stands for the lock; made where missing.
    Raises:
        BlockingIOError: another process holds it.
        OSError: the file cannot be opened or locked.
    """
    if fcntl is None:
        from filelock import FileLock, Timeout

        try:
            with FileLock(path, timeout=0):
                yield
        except Timeout as error:
            raise BlockingIOError(str(error)) from error
        return
    with path.open("w") as handle:
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except PermissionError as error:  # what some systems say of a lock that is held
            raise BlockingIOError(*error.args) from error
        yield


@contextmanager
def hold_file(path: Path, alone: bool = False, wait: bool = True, make: bool = False) -> Iterator[BinaryIO]:
    """Open a file and hold it, with others or alone, as long as the block runs and this process lives.

    Where there is no such lock (Windows) an open file cannot be removed, which is what holding it is for.

    Args:
        path: file to hold.
        alone: nobody else may hold it.
        wait: until others let go.
        make: make it where it is missing.
    Yields:
        the open file. It is the one of this name, and not one that was removed in the meantime.
    Raises:
        FileNotFoundError: there is none, and ``make`` is off.
        BlockingIOError: others hold it, and ``wait`` is off.
    """
    while True:
        with path.open("ab" if make else "r+b" if alone else "rb") as handle:
            if fcntl is not None:
                fcntl.flock(handle, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | (0 if wait else fcntl.LOCK_NB))
            try:
                is_the_one = os.path.samestat(os.fstat(handle.fileno()), path.stat())
            except FileNotFoundError:
                is_the_one = False
            if is_the_one:
                yield handle
                return


def open_file_limits() -> tuple[int, int] | None:
    """Return how many files a process may have open, and the most that it may ask for; -1 is no limit.

    None where the system has no such limit.
    """
    if resource is None:
        return None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (-1 if soft == resource.RLIM_INFINITY else soft, -1 if hard == resource.RLIM_INFINITY else hard)


def peak_memory_bytes() -> int:
    """Return the largest resident set that this process has had; 0 where the system does not say.

    ``getrusage`` would count the process that started this one, too.
    """
    with suppress(OSError):
        for line in STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * KILOBYTE
    return 0


def drop_cached_pages(path: Path) -> None:
    """Let the system drop what it keeps of a file in memory, so that the next read comes from the disk; if it can."""
    if not hasattr(os, "posix_fadvise"):
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
