"""What of a collection lies in a folder: the scans that are listed, those that are missing, and what lies beside."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from voco_cli.data.collections.schema import Collection, Member
from voco_cli.data.index.datalist import SPLITS
from voco_cli.data.index.patients import SUFFIXES, says_label, stem_of
from voco_cli.errors import DataError


@dataclass(frozen=True)
class SetCheck:
    """The scans of one set, each by its path from the set's folder.

    Attributes:
        name: of the set.
        place: its folder; none where it is not there.
        expected: folder that it is looked for in first, from the data folder.
        listed: how many scans the collection takes of it; none where that is not known.
        is_named: whether they are known by name.
        found, missing: scans that are listed.
        beside: scans that no list of the set names; all of its scans where none is named.
        note: what is odd about the set in this collection.
    """

    name: str
    place: Path | None
    expected: str
    listed: int | None
    is_named: bool
    found: tuple[str, ...]
    missing: tuple[str, ...]
    beside: tuple[str, ...]
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return all of it as JSON holds it."""
        lists = {name: list(getattr(self, name)) for name in ("found", "missing", "beside")}
        place = None if self.place is None else str(self.place)
        about = {"expected": self.expected, "listed": self.listed, "named": self.is_named, "note": self.note}
        return {"set": self.name, "folder": place, **about, **lists}


@dataclass(frozen=True)
class CollectionCheck:
    """What of a collection lies in a folder.

    Attributes:
        collection: its name.
        root: the folder.
        sets: what lies there of each set.
        others: folders and files in it that belong to none of the sets.
    """

    collection: str
    root: Path
    sets: tuple[SetCheck, ...]
    others: tuple[str, ...]

    @property
    def found(self) -> int:
        """Return how many scans that are listed are there."""
        return sum(len(one.found) for one in self.sets)

    @property
    def missing(self) -> int:
        """Return how many scans that are listed are not there."""
        return sum(len(one.missing) for one in self.sets)

    @property
    def unnamed(self) -> tuple[str, ...]:
        """Return the sets whose scans are not known by name."""
        return tuple(one.name for one in self.sets if not one.is_named)

    def to_json(self) -> dict[str, Any]:
        """Return all of it, with every name, as JSON holds it."""
        sets = [one.to_json() for one in self.sets]
        counts = {"found": self.found, "missing": self.missing}
        return {"collection": self.collection, "folder": str(self.root), **counts, "sets": sets, "others": self.others}


def check_collection(collection: Collection, root: Path) -> CollectionCheck:
    """Look for the scans of a collection in a folder that has a folder for each of its sets; no file is opened.

    Raises:
        DataError: the folder does not exist.
    """
    if not root.is_dir():
        raise DataError(f"{root} is no folder.", f"voco collections show {collection.name} says what belongs in it")
    sets = tuple(_check_set(member, root) for member in collection.sets)
    known = {place.split("/")[0] for member in collection.sets for place in member.set.places}
    others = sorted(one.name for one in root.iterdir() if one.name not in known and not one.name.startswith("."))
    return CollectionCheck(collection.name, root, sets, tuple(others))


def _check_set(member: Member, root: Path) -> SetCheck:
    one = member.set
    place = next((root / name for name in one.places if (root / name).is_dir()), None)
    listed = [path for _, path in member.files()]
    there = set() if place is None else {path for path in listed if (place / path).exists()}
    named = {path for paths in one.cases.values() for path in paths}
    beside = [] if place is None else sorted(set(_scans_below(place, any(map(_file_says_label, named)))) - named)
    return SetCheck(
        name=one.name,
        place=place,
        expected=one.places[0],
        listed=one.count(tuple(split for role in SPLITS for split in getattr(member, role))),
        is_named=member.is_named,
        found=tuple(path for path in listed if path in there),
        missing=tuple(path for path in listed if path not in there),
        beside=tuple(beside),
        note=member.note,
    )


def _scans_below(place: Path, lists_labels: bool) -> Iterator[str]:
    """Yield what lies in a set's folder and ends like a scan, from that folder; links are followed.

    Args:
        lists_labels: files that are called like label maps are scans in this set, such as ``000010_lesion_01``.
    """
    seen: set[str] = set()
    for folder, folders, files in os.walk(place, followlinks=True):
        real = os.path.realpath(folder)
        entered = [] if real in seen else [name for name in folders if not (name.startswith(".") or says_label(name))]
        folders[:], files = entered, [] if real in seen else files
        seen.add(real)
        for name in files:
            is_scan = name.lower().endswith(SUFFIXES) and not name.startswith(".")
            if is_scan and (lists_labels or not _file_says_label(name)):
                yield Path(folder, name).relative_to(place).as_posix()


def _file_says_label(path: str) -> bool:
    """Return whether the name of a file, without its folders, is that of a label map."""
    return says_label(stem_of(PurePosixPath(path)))
