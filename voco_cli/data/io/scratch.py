"""Local copies of files in object stores, in a folder of bounded size that all processes of a machine share.

```
<folder>/0f3a…c2-scan_07.nii.gz                 a copy, whole; the time of change is when it was last used
<folder>/.unfinished-48211-0f3a…c2-scan_07.nii.gz   being copied; its name says how large it will be
```
Who reads a copy holds it (`hold_file`), and what is held is not removed. Who copies holds the unfinished file alone:
others that want the same wait, and one that nobody holds was left by a process that was killed.
"""

from __future__ import annotations

import getpass
import hashlib
import os
import re
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from voco_cli.atomic_files import UNFINISHED
from voco_cli.errors import DataError, ResourceError, VocoError
from voco_cli.object_stores import ObjectFacts, RemotePath, download, facts, read_part
from voco_cli.operating_system import hold_file

if TYPE_CHECKING:
    from voco_cli.config.schema import Data

GIGABYTE = 1e9
GIGABYTES_VARIABLE, FOLDER_VARIABLE = "VOCO_SCRATCH_GB", "VOCO_SCRATCH_DIR"
"""How a command tells its worker processes, however they are started, what its settings say."""
LOCK = ".lock"
"""Held by the process that makes room, so that two do not count at once."""
UNFINISHED_SIZE = re.compile(rf"{re.escape(UNFINISHED)}(\d+)-")
HEAD_BYTES, TAIL_BYTES = 2**18, 2**10
LONGEST_END = 60
"""Letters of a file's name that its copy keeps: formats are known by endings."""


def use_scratch(data: Data) -> None:
    """Keep local copies as these settings say, in this process and in those that it starts."""
    os.environ[GIGABYTES_VARIABLE] = str(data.scratch_gb)
    os.environ[FOLDER_VARIABLE] = str(data.scratch_dir or "")


def scratch() -> Scratch:
    """Return the place of local copies: as `use_scratch` was told, else as environment and defaults say."""
    if GIGABYTES_VARIABLE not in os.environ:
        from voco_cli.config.load import load_settings

        use_scratch(load_settings().settings.data)
    folder = os.environ.get(FOLDER_VARIABLE)
    limit_bytes = int(float(os.environ[GIGABYTES_VARIABLE]) * GIGABYTE)
    return Scratch(Path(folder) if folder else _usual_folder(), limit_bytes)


def _usual_folder() -> Path:
    """Return a folder of the user's own below that for temporary files, where everybody may make one.

    Raises:
        ResourceError: somebody else has made it, and could give us files of theirs.
    """
    user = getattr(os, "getuid", getpass.getuser)()
    folder = Path(tempfile.gettempdir(), f"voco-scratch-{user}")
    folder.mkdir(mode=0o700, exist_ok=True)
    if hasattr(os, "getuid") and folder.lstat().st_uid != user:
        raise ResourceError(f"{folder} belongs to another user.", "set data.scratch_dir to a folder of your own")
    return folder


@contextmanager
def local_copy(path: Path, *, unchanging: bool = False) -> Iterator[Path]:
    """Give a local file with the content of a path, which stays as long as the block runs.

    Faults that are found in the copy are told of the path.

    Args:
        path: a local file, which is given as it is, or a URL.
        unchanging: an object of that name never has another content, so that the store need not be asked.
    Raises:
        DataError: there is no such object, or it does not come whole.
        ResourceError: it does not fit.
    """
    if not isinstance(path, RemotePath):
        yield path
        return
    with ExitStack() as held:
        try:
            local = held.enter_context(scratch().hold(path, unchanging))
        except FileNotFoundError as error:
            raise DataError(f"{path} does not exist.", "Check the URL.") from error
        with told_of(path, local):
            yield local


@contextmanager
def told_of(name: object, local: Path) -> Iterator[None]:
    """Tell faults of a local copy as those of what it is a copy of."""
    try:
        yield
    except VocoError as error:
        if str(local) == str(name):
            raise
        hint = error.hint and error.hint.replace(str(local), str(name))
        raise type(error)(error.message.replace(str(local), str(name)), hint) from error


_KEPT = ExitStack()
_KEPT_COPIES: dict[Path, Path] = {}


def kept_copy(path: Path) -> Path:
    """Return a local copy that stays as long as this process lives, of a file that is read again and again.

    Raises:
        DataError, ResourceError: as `local_copy`.
    """
    if path not in _KEPT_COPIES:
        _KEPT_COPIES[path] = _KEPT.enter_context(local_copy(path))
    return _KEPT_COPIES[path]


@contextmanager
def header_copy(path: RemotePath) -> Iterator[Path]:
    """Give a local file of the length of an object that holds its two ends, and a hole between them.

    A header is read off it, and the length of what is compressed; voxels are not.

    Raises:
        DataError, FileNotFoundError: as `facts`.
        ResourceError: the disk is full.
    """
    size = facts(path).size
    ends = [(0, min(size, HEAD_BYTES))] + ([(max(HEAD_BYTES, size - TAIL_BYTES), size)] if size > HEAD_BYTES else [])
    parts = [(start, read_part(path, start, stop)) for start, stop in ends]
    folder = scratch().folder
    name = folder / f"{UNFINISHED}{HEAD_BYTES + TAIL_BYTES}-{uuid.uuid4().hex}-{path.name[-LONGEST_END:]}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with hold_file(name, alone=True, make=True):
            try:
                with name.open("r+b") as stream:
                    for start, part in parts:
                        stream.seek(start)
                        stream.write(part)
                yield name
            finally:
                name.unlink(missing_ok=True)
    except OSError as error:
        raise ResourceError(f"{folder} cannot take a copy of {path}: {error.strerror or error}.") from error


@dataclass(frozen=True)
class Scratch:
    """A folder of local copies.

    Attributes:
        folder: made when it is first needed.
        limit_bytes: size of all copies together; what was not used for longest goes first.
    """

    folder: Path
    limit_bytes: int

    @contextmanager
    def hold(self, path: RemotePath, unchanging: bool = False) -> Iterator[Path]:
        """Give the copy of an object, made where it is missing.

        Raises:
            DataError, ResourceError: as `local_copy`.
        """
        copy = self.copy_of(path, None if unchanging else facts(path))
        with ExitStack() as held:
            while True:
                try:
                    held.enter_context(hold_file(copy))
                    break
                except FileNotFoundError:
                    self._fetch(path, copy)
            with suppress(OSError):  # a folder that somebody made read-only serves all the same
                os.utime(copy)
            yield copy

    def copy_of(self, path: RemotePath, known: ObjectFacts | None) -> Path:
        """Return where the copy of an object is, or would be."""
        stamp = f"{known.size}\0{known.stamp}" if known else ""
        digest = hashlib.blake2b(f"{path}\0{stamp}".encode(), digest_size=16).hexdigest()
        return self.folder / f"{digest}-{path.name[-LONGEST_END:]}"

    def drop(self, path: RemotePath) -> None:
        """Remove the copy of an object that has gone, of those that are unchanging."""
        self.copy_of(path, None).unlink(missing_ok=True)

    def _fetch(self, path: RemotePath, copy: Path) -> None:
        """Copy an object, unless another process has done so in the meantime."""
        expected = facts(path)
        beside = copy.with_name(f"{UNFINISHED}{expected.size}-{copy.name}")
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with hold_file(beside, alone=True, make=True):
                try:
                    if not copy.exists():
                        self._make_room(path, expected.size)
                        download(path, beside, expected)
                        with beside.open("rb") as stream:
                            os.fsync(stream.fileno())
                        beside.replace(copy)
                finally:
                    beside.unlink(missing_ok=True)
        except FileNotFoundError as error:
            if error.filename == str(path):
                raise
            raise ResourceError(f"{self.folder} was removed while a copy of {path} was made in it.") from error
        except OSError as error:
            raise ResourceError(
                f"{path} cannot be copied to {self.folder}: {error.strerror or error}.",
                "set data.scratch_dir to a folder on a larger disk, or data.scratch_gb to less",
            ) from error

    def _make_room(self, path: RemotePath, size: int) -> None:
        """Remove copies that nobody holds until all, with the one that is about to come, are within the limit.

        Raises:
            ResourceError: what is held leaves no room.
        """
        with hold_file(self.folder / LOCK, alone=True, make=True):
            present = sorted(self._present(), key=lambda one: (not one.is_unfinished, one.used))
            total = sum(one.size for one in present)
            for one in present:
                if (one.is_unfinished or total > self.limit_bytes) and _remove_unless_held(one.path):
                    total -= one.size
        if total > self.limit_bytes:
            raise ResourceError(
                f"{path} of {size / GIGABYTE:.3g} GB does not fit beside what is being read: local copies may take "
                f"{self.limit_bytes / GIGABYTE:.3g} GB.",
                "set data.scratch_gb to more",
            )

    def _present(self) -> Iterator[Copy]:
        with os.scandir(self.folder) as entries:
            for entry in entries:
                if entry.name == LOCK:
                    continue
                with suppress(FileNotFoundError):  # renamed in the meantime: then it is counted next time
                    status = entry.stat(follow_symlinks=False)
                    promised = UNFINISHED_SIZE.match(entry.name)
                    size = max(status.st_size, int(promised[1])) if promised else status.st_size
                    yield Copy(Path(entry.path), size, status.st_mtime, promised is not None)


@dataclass(frozen=True)
class Copy:
    """A file of the folder: its size, which of one that is being copied is the one to come, and its last use."""

    path: Path
    size: int
    used: float
    is_unfinished: bool


def _remove_unless_held(path: Path) -> bool:
    try:
        with hold_file(path, alone=True, wait=False):
            path.unlink()
    except BlockingIOError:
        return False
    except FileNotFoundError:
        pass
    return True
