"""Memory of the machine, as far as this process may have it: a container or a batch job often allows less."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

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
    """What a control group has; None where it sets no limit."""
    limit_file, used_file, droppable = FILES[version]
    try:
        limit, used = ((folder / name).read_text().strip() for name in (limit_file, used_file))
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None
    if limit == "max" or int(limit) >= NO_LIMIT_BYTES:
        return None
    return GroupMemory(int(limit), int(limit) - int(used) + int(stat.get(droppable, 0)))
