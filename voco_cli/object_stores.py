"""Files in object stores: a path that is a URL, what a store says of it, and how it comes here and goes there.

fsspec and its packages (s3fs, gcsfs, adlfs, aiohttp) do the work, the credentials and the retries; each takes
credentials where the store's own tools do (profiles, environment, roles of the machine). A URL that bears any is
refused, so that none gets into a list, a settings file or a message.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voco_cli.errors import DataError, ResourceError, UsageError
from voco_cli.foreign_text import blanked

if TYPE_CHECKING:
    LocalPath = Path
else:
    LocalPath = type(Path())  # before Python 3.12, Path itself cannot be a base

PACKAGES = {
    "s3": ("s3fs", 'pip install "voco-cli[s3]"'),
    "gs": ("gcsfs", "pip install gcsfs"),
    "az": ("adlfs", "pip install adlfs"),
    "https": ("aiohttp", "pip install aiohttp"),
    "http": ("aiohttp", "pip install aiohttp"),
}
"""Scheme of a URL to the package that fsspec needs for it, and how to get that."""
READ_ONLY = ("https", "http")
ADDRESS = re.compile(rf"({'|'.join(PACKAGES)}):/+(.*)", re.DOTALL)
OF_STORES = ("botocore", "aiobotocore", "aiohttp", "gcsfs", "google", "azure", "fsspec", "s3fs", "adlfs", "requests")
"""Packages whose exceptions say that a store did not do what it was asked for."""
STAMPS = (
    "md5Hash",
    "ETag",
    "etag",
    "Content-MD5",
    "Digest",
    "LastModified",
    "last_modified",
    "Last-Modified",
    "updated",
)
"""What stores call the hash of an object or the time of its last change, the best first."""
FEWEST_TO_LIST = 32
"""So many questions about objects of a bucket are answered by one listing, a request for each 1,000 objects in it."""
AT_ONCE = 16


class RemotePath(LocalPath):
    """A file in an object store, as `s3://bucket/folder/scan.nii.gz`; made by `location`.

    It is a path so that names, endings and folders are told from it as from any other, and no more: what opens files
    takes a local copy (`local_copy` in data/io/scratch.py). Where one forgets, the system finds no file of that name.
    """

    def __str__(self) -> str:
        return ADDRESS.sub(r"\1://\2", super().__str__())  # pathlib makes one of two slashes

    def __fspath__(self) -> str:
        return str(self)

    def as_posix(self) -> str:
        """Return the URL."""
        return str(self)

    @property
    def scheme(self) -> str:
        """Return s3, gs, az, https or http."""
        return self.parts[0].rstrip(":")

    def resolve(self, strict: bool = False) -> RemotePath:
        """Return it as it is: an object has one name."""
        return self

    def absolute(self) -> RemotePath:
        """Return it as it is."""
        return self

    def expanduser(self) -> RemotePath:
        """Return it as it is."""
        return self

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """Return size and kind, of which the store is asked once; the time of change is not there.

        Raises:
            FileNotFoundError: there is no such object.
            DataError: the store cannot be asked.
        """
        size = facts(self).size
        return os.stat_result((stat.S_IFREG | 0o600, 0, 0, 1, 0, 0, size, 0, 0, 0))

    def exists(self, *, follow_symlinks: bool = True) -> bool:
        """Return whether there is such an object."""
        return self.is_file()

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        """Return whether there is such an object."""
        try:
            facts(self)
        except FileNotFoundError:
            return False
        return True

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        """Return no: a store has objects alone, and folders are what their names have in common."""
        return False

    def is_symlink(self) -> bool:
        """Return no."""
        return False

    def read_bytes(self) -> bytes:
        """Return the whole content, of a small object.

        Raises:
            FileNotFoundError: there is no such object.
            DataError: it does not come.
        """
        with _asked(self, "read"):
            store, name = _store(self)
            content: bytes = store.cat_file(name)
        return content

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        """Do nothing: a folder is there with its first object."""

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove the object.

        Raises:
            DataError: the store refuses.
        """
        with _asked(self, "removed"):
            store, name = _store(self)
            try:
                store.rm_file(name)
            except FileNotFoundError:
                if not missing_ok:
                    raise
        _KNOWN.pop(str(self), None)


def location(name: str | Path) -> Path:
    """Return the path that a name means: a `RemotePath` where it is a URL of a store, also after pathlib had it.

    Raises:
        UsageError: a URL that bears a password, a query or a signature, or that is none of a file.
    """
    match = ADDRESS.match(str(name))
    if isinstance(name, RemotePath):
        return name
    if match is None:
        return Path(name)
    scheme, rest = match.groups()
    shown = blanked(f"{scheme}://{rest}")
    bucket = rest.partition("/")[0]
    if "@" in bucket:
        raise UsageError(
            f"{shown} bears a user or a password, which must not be written down.",
            "give credentials as the store's own tools take them",
        )
    if "?" in rest or "#" in rest:
        raise UsageError(
            f"{shown} has a query, and may bear a signature, which must not be written down.",
            "leave out ? and what follows, and give credentials as the store's own tools take them",
        )
    if not bucket or "\0" in rest or {"", ".", ".."} & set(rest.rstrip("/").split("/")):
        holder = "HOST" if scheme in READ_ONLY else "BUCKET"
        raise UsageError(f"{shown} is no URL of a file.", f"write {scheme}://{holder}/FOLDER/FILE")
    return RemotePath(f"{scheme}:/{rest}")


def is_address(name: str) -> bool:
    """Return whether a text begins as a URL of an object store does."""
    return ADDRESS.match(name) is not None


def shared_folder(folders: Iterable[Path]) -> Path:
    """Return the deepest folder that holds all of these; one that holds none (``.``) where they share no root."""
    texts = [folder.as_posix() for folder in folders]
    try:
        return location(os.path.commonpath(texts))
    except (ValueError, UsageError):  # local and remote; or remote and of two buckets
        return Path()


def name_below(path: Path, folder: Path) -> str:
    """Return a path seen from a folder that holds it; the whole of it where the folder does not."""
    return (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()


def is_remote(path: object) -> bool:
    """Return whether a path is a URL of an object store."""
    return isinstance(path, RemotePath)


@dataclass(frozen=True)
class ObjectFacts:
    """What a store says of an object: its size in bytes, and a stamp that changes with it; empty where it has none."""

    size: int
    stamp: str


_KNOWN: dict[str, ObjectFacts | None] = {}
"""What this process was told so far, by URL; none where there is no such object."""
_LISTED: set[str] = set()
"""Folders, each ending in /, of which everything that is not known is not there."""
_WRITTEN: set[str] = set()
"""What this process has written since."""


def facts(path: RemotePath, anew: bool = False) -> ObjectFacts:
    """Return what the store says of an object; it is asked once in the life of a process.

    Args:
        anew: ask again.
    Raises:
        FileNotFoundError: there is no such object.
        DataError: the store cannot be asked.
    """
    name = str(path)
    if name not in _KNOWN and name not in _WRITTEN and any(name.startswith(folder) for folder in _LISTED):
        _KNOWN[name] = None
    known = _KNOWN.get(name)
    if name not in _KNOWN or anew:
        known = None
        with suppress(FileNotFoundError), _asked(path, "read"):
            store, inner = _store(path)
            info = store.info(inner)
            known = None if info.get("type") == "directory" else _facts(info)
        _KNOWN[name] = known  # other threads read what was known until the answer is here
    if known is None:
        raise FileNotFoundError(errno.ENOENT, "there is no such object", name)
    return known


def ask_of_many(paths: Iterable[Path]) -> None:
    """Learn of many objects what `facts` would ask of each: one listing of the folder that those of a bucket share.

    Web servers, which have no listings, are asked of each file, several at a time.

    Raises:
        DataError: a store cannot be asked.
    """
    from concurrent.futures import ThreadPoolExecutor

    buckets: dict[tuple[str, ...], list[RemotePath]] = {}
    for path in paths:
        if isinstance(path, RemotePath) and str(path) not in _KNOWN:
            buckets.setdefault(path.parts[:2], []).append(path)
    for asked in buckets.values():
        if len(asked) < FEWEST_TO_LIST or asked[0].scheme in READ_ONLY:
            with ThreadPoolExecutor(AT_ONCE) as pool:
                list(pool.map(RemotePath.is_file, asked))
            continue
        shared = location(os.path.commonpath([str(path.parent) for path in asked]))
        found = {str(one) for one in objects_below(shared)}
        _KNOWN.update({str(path): None for path in asked if str(path) not in found})


def know_all_below(folder: Path) -> None:
    """List a folder once, so that no object below it is asked for by itself any more.

    What others write there later is seen by the next call.

    Raises:
        UsageError, DataError: as `objects_below`.
    """
    _LISTED.discard(f"{folder}/")
    for name in [name for name in _KNOWN if name.startswith(f"{folder}/")]:
        del _KNOWN[name]
    objects_below(folder)
    _LISTED.add(f"{folder}/")


def objects_below(folder: Path) -> dict[RemotePath, ObjectFacts]:
    """List all objects below a folder of a store, by name, in one listing.

    Raises:
        UsageError: a web server, which has no listings.
        DataError: the store cannot be asked.
    """
    assert isinstance(folder, RemotePath)
    if folder.scheme in READ_ONLY:
        raise UsageError(f"{folder} is on a web server, which lists no files.", "name the files, or a data.json")
    with _asked(folder, "listed"):
        found = dict(sorted(_listed(folder)))
    _KNOWN.update({str(one): known for one, known in found.items()})
    return found


def _listed(folder: RemotePath) -> Iterator[tuple[RemotePath, ObjectFacts]]:
    store, inner = _store(folder)
    for name, info in store.find(inner, detail=True).items():
        below = name.removeprefix(inner).lstrip("/")
        path = folder / below if below else folder
        # Stores have names that no path can be, such as a//b or a/./b, and empty objects that stand for folders.
        if info.get("type") == "file" and not name.endswith("/") and str(path) == f"{folder}/{below}".rstrip("/"):
            yield path, _facts(info)


def _facts(info: dict[str, Any]) -> ObjectFacts:
    stamp = next((str(info[key]) for key in STAMPS if info.get(key)), "")
    return ObjectFacts(int(info.get("size") or 0), stamp.strip('"'))


def download(path: RemotePath, target: Path, expected: ObjectFacts) -> None:
    """Copy an object to a local file, and see that it came whole.

    Raises:
        DataError: the connection was cut more often than is tried again, or the object was changed on the way.
        OSError: the local disk does not take it.
    """
    with _asked(path, "read"):
        store, inner = _store(path)
        store.get_file(inner, str(target))
    found, now = target.stat().st_size, facts(path, anew=True)
    if found != expected.size or now != expected:
        raise DataError(
            f"{path} came as {found} bytes of {expected.size}, or was changed while it was read.", "Try again."
        )


def read_part(path: RemotePath, start: int, stop: int) -> bytes:
    """Return the bytes of an object from one place up to another.

    Raises:
        DataError: they do not come; or all come, of a web server that knows no ranges.
    """
    with _asked(path, "read"):
        store, inner = _store(path)
        content: bytes = store.cat_file(inner, start=start, end=stop)
    if len(content) != stop - start:
        raise DataError(f"{path} came as {len(content)} bytes of {stop - start}.", "Try again.")
    return content


def require_writable(path: Path) -> None:
    """Raise UsageError for a URL that is only read from."""
    if isinstance(path, RemotePath) and path.scheme in READ_ONLY:
        raise UsageError(
            f"{path} is on a web server, which is only read from.", "write to a folder, s3://, gs:// or az://"
        )


def upload(content: bytes | Path, path: RemotePath) -> None:
    """Write bytes, or a local file, as an object that is there whole or not at all: parts are completed, or aborted.

    Raises:
        UsageError: a web server.
        ResourceError: the store does not take it.
    """
    require_writable(path)
    try:
        with _asked(path, "written"):
            store, inner = _store(path)
            if isinstance(content, bytes):
                store.pipe_file(inner, content)
            else:
                store.put_file(str(content), inner)
    except (DataError, FileNotFoundError) as error:
        no_bucket = f"{path} cannot be written: there is no such bucket."
        raise ResourceError(getattr(error, "message", no_bucket), getattr(error, "hint", None)) from error
    _KNOWN.pop(str(path), None)
    _WRITTEN.add(str(path))


def _store(path: RemotePath) -> tuple[Any, str]:
    """Return fsspec's file system and the name in it.

    Raises:
        UsageError: the package of that store is missing.
    """
    package, install = PACKAGES[path.scheme]
    options: dict[str, Any] = {"use_listings_cache": False}  # other processes write, too
    try:
        from fsspec.core import url_to_fs

        if path.scheme == "s3":
            options["max_concurrency"] = 1  # one stream goes on where it was cut; several do not
        if path.scheme in READ_ONLY:
            from aiohttp import ClientTimeout

            # Large files take longer than the five minutes of the library; a server that says nothing is left.
            # Without the header a server may unpack a .nii.gz on the way.
            timeout = ClientTimeout(total=None, sock_connect=60, sock_read=60)
            options["client_kwargs"] = {"timeout": timeout, "headers": {"Accept-Encoding": "identity"}}
        store, name = url_to_fs(str(path), **options)
    except ImportError as error:
        raise UsageError(f"{path} needs the package {package}, which is not installed.", install) from error
    return store, name


@contextmanager
def _asked(path: RemotePath, done: str) -> Iterator[None]:
    """Say in one sentence what a store did not do; that an object is not there stays FileNotFoundError."""
    try:
        yield
    except FileNotFoundError:
        raise FileNotFoundError(errno.ENOENT, "there is no such object", str(path)) from None
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise  # of the local disk
        if not isinstance(error, OSError) and type(error).__module__.partition(".")[0] not in OF_STORES:
            raise
        first = blanked((str(error).strip() or type(error).__name__).splitlines()[0]).rstrip(".")
        denied = isinstance(error, PermissionError) or "redential" in first
        hint = "credentials are taken where the store's own tools take them, such as AWS_PROFILE" if denied else None
        raise DataError(f"{path} cannot be {done}: {first}.", hint or "Try again.") from error
