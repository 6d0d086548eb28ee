"""What a SIGKILL would leave of a folder, at every moment at which a command writes to it."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

PASSING = re.compile(r"\.unfinished-.*|events\.out\.tfevents\..*")
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def left_by_kills(folder: Path, snapshots: Path, action: Callable[[], object]) -> list[Path]:
    """Copies of a folder before each of its writes, renames and removals while ``action`` runs, in another process.

    Moments at which the same files are there are one, but for files that are not finished.
    """
    snapshots.mkdir()
    child = os.fork()
    if child == 0:
        code = 99
        try:
            sys.addaudithook(_Copies(folder, snapshots))
            action()
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    return sorted(snapshots.iterdir())


class _Copies:
    def __init__(self, folder: Path, snapshots: Path) -> None:
        self.folder, self.snapshots = folder, snapshots
        self.seen: set[frozenset[str]] = set()
        self.at_work = False

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.at_work or not self._writes(event, arguments) or not self.folder.is_dir():
            return
        self.at_work = True
        files = (path for path in self.folder.rglob("*") if path.is_file() and not PASSING.fullmatch(path.name))
        state = frozenset(str(path.relative_to(self.folder)) for path in files)
        if state not in self.seen:
            self.seen.add(state)
            shutil.copytree(self.folder, self.snapshots / f"{len(self.seen):03d}")
        self.at_work = False

    def _writes(self, event: str, arguments: tuple[Any, ...]) -> bool:
        if event == "open":
            path, _, flags = arguments
            if not isinstance(path, str | os.PathLike) or not flags & WRITES:
                return False
        elif event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree"):
            path = arguments[0]
        else:
            return False
        return Path(os.fspath(path)).is_relative_to(self.folder)
