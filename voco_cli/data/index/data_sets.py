"""Which data set each scan comes from: the list that names it, or the input folder that it was found in."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from voco_cli.data.index.datalist import Entry
from voco_cli.data.index.scan_files import Walk
from voco_cli.object_stores import name_below, shared_folder


def with_data_sets(entries: Sequence[Entry], walk: Walk, listed: Mapping[Path, Entry]) -> list[Entry]:
    """Return entries with the data set of each, where there are several; an input of one patient is none.

    Args:
        listed: real path of an image to what lists say of it.
    """
    roots: dict[Path, Path] = {}
    for found in walk.files:
        roots[found.path] = found.root
        roots.setdefault(found.path.parent, found.root)  # a DICOM series is called as its folder
    above = shared_folder(set(roots.values())) if roots else Path()
    named: dict[Path, str | None] = {}
    patients: dict[str | None, set[str]] = defaultdict(set)
    for entry in entries:
        said = listed.get(entry.image.resolve()) if listed else None
        root = roots.get(entry.image)
        named[entry.image] = said.data_set if said else _name(root, above) if root else None
        patients[named[entry.image]].add(entry.patient)
    sets = {name for name, who in patients.items() if name is not None and len(who) > 1}
    if len(patients) < 2 or not sets:
        return list(entries)
    return [
        entry.model_copy(update={"data_set": named[entry.image]}) if named[entry.image] in sets else entry
        for entry in entries
    ]


def _name(root: Path, above: Path) -> str:
    below = name_below(root, above)
    return root.name if below == "." else below
