"""Folders laid out as the authors' collections are, with as many scans as a test wants."""

from __future__ import annotations

from pathlib import Path

from tests.data.io.make_files import numbers, write_nifti
from voco_cli.data.collections.catalogue import load_collection


def put(root: Path, name: str, split: str, count: int, real: bool = False) -> list[str]:
    """Put the first scans of a split of a set into its folder: empty files, or small real ones."""
    (member,) = load_collection(name).sets
    paths = list(member.set.cases[split][:count])  # type: ignore[index]  # a split's name
    for start, path in enumerate(paths):
        file = root / member.set.places[0] / path
        if real:
            write_nifti(file, numbers(start=-100 - start))
        else:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
    return paths
