"""The manifest of a cache: what is known of its volumes, in one file in place of a look at each scan and volume.

```
<folder>/manifests/5b…0c.sqlite    one for each combination of settings
```

A row belongs to a scan as its files lie there: a digest of the path, size, time of change and inode of each. While that
is so, the row says which volume was made of them, and what the volume's own file says: a start asks for the state of
each scan once, lists the folders of the cache, and opens nothing. A scan that is new, was moved or changed has no row
that fits; it is looked at in full and gets one. Paths go into the digest alone: caches are shared, and names of
patients, which folders and files bear too, are private.

The file is written whole beside its place and renamed, and read in one piece: no lock is taken, so that many machines
may share it over a network. Where two write at the same time, the rows of one are lost, and the next start looks at
those scans in full. A file that is damaged counts as none.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from voco_cli.atomic_files import write_atomic
from voco_cli.data.cache.entry import ONE_FILE
from voco_cli.data.cache.grid import IntXYZ
from voco_cli.data.cache.volume import describe
from voco_cli.data.index.datalist import Entry
from voco_cli.data.io.reader import image_files
from voco_cli.errors import DataError, VocoError
from voco_cli.object_stores import RemotePath, facts, is_remote, objects_below

FOLDER = "manifests"
SUFFIX = ".sqlite"
FORMAT = "voco-manifest/1"
STAMP_BYTES = 16
CHECK_BYTES = 32
"""BLAKE2b of what lies before it, at the end of the file: SQLite itself reads a flipped bit as another number."""

TABLES = """
CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE volumes (
    stamp BLOB PRIMARY KEY, key BLOB NOT NULL, label_key BLOB, x INTEGER NOT NULL, y INTEGER NOT NULL,
    z INTEGER NOT NULL, x_mm REAL NOT NULL, y_mm REAL NOT NULL, z_mm REAL NOT NULL,
    voxel_hash TEXT NOT NULL, label_hash TEXT
) WITHOUT ROWID;
"""


class VolumeFacts(NamedTuple):
    """What a start needs to know of a stored volume.

    Attributes:
        key, label_key: names of the volume and of its label map, 16 bytes; no label map where none was asked for.
        shape_xyz: voxels of the volume.
        spacing_mm: distance of voxel centres along the axes of the scan's own grid, mm.
        voxel_hash, label_hash: of the voxels of the scan and of its label map, see `voxel_hash` in data/io/image.py.
    """

    key: bytes
    label_key: bytes | None
    shape_xyz: IntXYZ
    spacing_mm: tuple[float, float, float]
    voxel_hash: str
    label_hash: str | None


Rows = dict[bytes, VolumeFacts]
"""What is known of scans, by the stamp of their files."""


def read_facts(path: Path, label_path: Path | None) -> VolumeFacts:
    """Read what the files of a stored volume, and of its label map, say.

    Raises:
        DataError: one is missing or does not open.
    """
    shape_xyz, metadata = describe(path)
    columns = zip(*(row[:3] for row in metadata.record.source_affine[:3]), strict=True)
    x_mm, y_mm, z_mm = (sum(part * part for part in column) ** 0.5 for column in columns)
    label_key = None if label_path is None else bytes.fromhex(label_path.stem)
    label_hash = None if label_path is None else describe(label_path)[1].voxel_hash
    key = bytes.fromhex(path.stem)
    return VolumeFacts(key, label_key, shape_xyz, (x_mm, y_mm, z_mm), metadata.voxel_hash, label_hash)


def stamp(entry: Entry, *, with_label: bool) -> bytes | None:
    """Return a digest of where the files of a scan lie and of their states; None where one cannot be asked.

    Of a DICOM series the folders are asked, not the slices: a slice that is added, removed or replaced changes the time
    of its folder, and one that is overwritten in its place does not.

    Args:
        with_label: of its label map, too.
    """
    digest = hashlib.blake2b(digest_size=STAMP_BYTES)
    try:
        for state in _states(entry, with_label):
            digest.update(state)
    except (OSError, VocoError):
        return None
    return digest.digest()


def _states(entry: Entry, with_label: bool) -> Iterator[bytes]:
    if entry.files:
        yield os.fsencode("\0".join(map(str, entry.files)))
        for folder in sorted({file.parent for file in entry.files}):
            yield _state(str(folder))[0]
    else:
        yield from _image_states(entry.image)
    if with_label and entry.label is not None:
        yield from _image_states(entry.label)


def _image_states(image: Path) -> Iterator[bytes]:
    """Yield the state of an image: of its one file, of header and voxels, or of a folder and those below it."""
    path = str(image)
    if isinstance(image, RemotePath):
        known = facts(image)
        if not known.stamp:
            raise DataError(f"{path} has no stamp that would change with it.")
        yield f"{path}\0{known.size}\0{known.stamp}\0".encode()
        return
    state, is_folder = _state(path)
    yield state
    if is_folder:
        for folder, below, _ in os.walk(path):
            below.sort()
            yield from (_state(os.path.join(folder, name))[0] for name in below)  # noqa: PTH118 (text stays text)
    elif not path.lower().endswith(ONE_FILE):
        yield from (_state(str(file))[0] for file in image_files(Path(path)) if str(file) != path)


def _state(path: str) -> tuple[bytes, bool]:
    """Return what tells this state of a file from another, and whether it is a folder."""
    found = os.stat(path)  # noqa: PTH116 (160,000 of them)
    state = f"\0{found.st_size}\0{found.st_mtime_ns}\0{found.st_ino}\0"
    return os.fsencode(path) + state.encode(), stat.S_ISDIR(found.st_mode)


def manifest_file(folder: Path, settings: str) -> Path:
    """Return the manifest of a cache folder for some settings, given as text."""
    return folder / FOLDER / f"{hashlib.blake2b(settings.encode(), digest_size=16).hexdigest()}{SUFFIX}"


def read_rows(path: Path) -> Rows | None:
    """Read a manifest: no rows where there is none; None where there is one that is damaged or cannot be read."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError:
        return None
    held, check = content[:-CHECK_BYTES], content[-CHECK_BYTES:]
    if hashlib.blake2b(held, digest_size=CHECK_BYTES).digest() != check:
        return None
    try:
        with closing(sqlite3.connect(":memory:")) as tables:
            tables.deserialize(held)
            if tables.execute("SELECT value FROM about WHERE name = 'format'").fetchall() != [(FORMAT,)]:
                return None
            return {
                bytes(row[0]): VolumeFacts(bytes(row[1]), row[2] and bytes(row[2]), row[3:6], row[6:9], row[9], row[10])
                for row in tables.execute("SELECT * FROM volumes")
            }
    except (sqlite3.Error, TypeError):
        return None


def write_rows(path: Path, rows: Mapping[bytes, VolumeFacts]) -> None:
    """Write a manifest, whole or not at all.

    Raises:
        ResourceError: the disk is full, or the folder may not be written to.
    """
    flat = ((stamp_, *one[:2], *one.shape_xyz, *one.spacing_mm, *one[4:]) for stamp_, one in sorted(rows.items()))
    with closing(sqlite3.connect(":memory:")) as tables:
        tables.executescript(TABLES)
        tables.execute("INSERT INTO about VALUES ('format', ?)", (FORMAT,))
        tables.executemany(f"INSERT INTO volumes VALUES ({', '.join('?' * 11)})", flat)
        tables.commit()
        held = tables.serialize()
    # Made in memory: a full disk then shows as an ordinary OSError.
    write_atomic(path, held + hashlib.blake2b(held, digest_size=CHECK_BYTES).digest())


def forget(folder: Path, keys: Iterable[str]) -> None:
    """Drop the rows of volumes and label maps that are removed, from all manifests of a cache folder.

    Raises:
        ResourceError: as `write_rows`.
    """
    gone = {bytes.fromhex(key) for key in keys}
    place = folder / FOLDER
    for path in objects_below(place) if is_remote(folder) else place.glob(f"*{SUFFIX}"):
        rows = read_rows(path) or {}
        kept = {one: facts for one, facts in rows.items() if not gone & {facts.key, facts.label_key}}
        if len(kept) < len(rows):
            write_rows(path, kept)


def stored_names(folder: Path) -> set[str]:
    """Return the names of the files in the folders below one: of all volumes of a cache, by 256 listings."""
    if is_remote(folder):
        return {one.name for one in objects_below(folder)}
    try:
        below = [one.path for one in os.scandir(folder) if one.is_dir()]
    except FileNotFoundError:
        return set()
    return {name for one in below for name in os.listdir(one)}  # noqa: PTH208 (names, not paths)
