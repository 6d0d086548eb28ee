"""Names of cases: that of the file, and where many files have it (``imaging.nii.gz``), what their folders add."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from voco_cli.data.index.datalist import LONGEST_NAME, Entry
from voco_cli.data.index.patients import IMPERSONAL, stem_of


def with_distinct_names(entries: Sequence[Entry]) -> list[Entry]:
    """Return entries of which no two have one name; those that had it get ``case``."""
    names = distinct_names({entry.image: entry.name for entry in entries})
    return [
        entry if entry.name == (name := names[entry.image]) else entry.model_copy(update={"case": name})
        for entry in entries
    ]


def distinct_names(names: Mapping[Path, str]) -> dict[Path, str]:
    """Return a name for each file, of which no two are the same; a name that only one file has stays as it is.

    ``case_1/imaging.nii.gz`` and ``case_2/imaging.nii.gz`` are ``case_1`` and ``case_2``; ``a/p1.nii.gz`` and
    ``b/p1.nii.gz`` are ``a_p1`` and ``b_p1``; ``x_0000`` and ``x_0001``, which both were ``x``, keep their numbers.
    What folders all have in common is left out.
    """
    groups: dict[str, list[Path]] = defaultdict(list)
    for path, name in names.items():
        groups[name].append(path)
    inhabitants = Counter(path.parent for path in names)
    told: dict[Path, str] = {}
    for members in groups.values():
        if len(members) > 1:
            told |= _told_apart(members, alone=all(inhabitants[path.parent] == 1 for path in members))
    taken = {name for path, name in names.items() if path not in told}
    return {**names, **_numbered(told, taken)}


def _told_apart(members: Sequence[Path], alone: bool) -> dict[Path, str]:
    """Return names by the stem where stems differ, else by the folders that differ.

    Args:
        alone: each lies alone in its folder, which then needs no word of what it is.
    """
    stems = {path: stem_of(path) for path in members}
    if len(set(stems.values())) == len(members):
        return stems
    above = Path(os.path.commonpath([path.parent for path in members]))
    folders = {path: path.parent.relative_to(above).parts for path in members}
    if len({len(parts) for parts in folders.values()}) == 1:
        differing = [len(set(column)) > 1 for column in zip(*folders.values(), strict=True)]
        folders = {
            path: tuple(part for part, kept in zip(parts, differing, strict=True) if kept)
            for path, parts in folders.items()
        }
    nameless = alone and all(IMPERSONAL.fullmatch(stem) for stem in stems.values())
    return {path: "_".join(parts if nameless and parts else (*parts, stems[path])) for path, parts in folders.items()}


def _numbered(told: Mapping[Path, str], taken: set[str]) -> dict[Path, str]:
    """Return the names, shortened where too long for a file, and with a number where taken."""
    final: dict[Path, str] = {}
    for path in sorted(told):
        final[path] = next(name for name in _with_numbers(_short(told[path])) if name not in taken)
        taken.add(final[path])
    return final


def _short(name: str) -> str:
    return name.encode()[-LONGEST_NAME:].decode("utf-8", "ignore") if len(name.encode()) > LONGEST_NAME else name


def _with_numbers(name: str) -> Iterable[str]:
    yield name
    number = 2
    while True:
        yield f"{name}_{number}"
        number += 1
