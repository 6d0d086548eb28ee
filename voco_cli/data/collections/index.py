"""`voco index --collection`: exactly the scans that a collection lists, with the split that it gives them."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path, PurePosixPath
from typing import Any

from voco_cli.data.collections.check import CollectionCheck, check_collection
from voco_cli.data.collections.schema import Collection, PublicSet, Split
from voco_cli.data.collections.trained import case_in_set
from voco_cli.data.index.build import COLLECTION, check_all_voxels, earlier_splits
from voco_cli.data.index.datalist import SPLITS, Datalist, Entry, Skipped, summarise, with_distinct_names
from voco_cli.data.index.file_reader import FileReader, Progress
from voco_cli.data.index.inspect import Inspected, inspect_file
from voco_cli.data.index.intensity import SAMPLED, doubt_some, header_doubt, with_doubt
from voco_cli.data.parallel import HERE, map_files
from voco_cli.errors import DataError


def index_collection(
    collection: Collection,
    root: Path,
    output: Path,
    name: str = "",
    full: bool = False,
    workers: int | None = None,
    progress: Progress = lambda *_: nullcontext(lambda *_: None),
) -> tuple[Datalist, CollectionCheck]:
    """List the scans of a collection that lie in a folder; labels are not looked for.

    A patient is a set's case: patients who are in two sets, or twice in one, are not known as such.

    Args:
        root: folder with a folder for each set.
        output: file that will be written; it may hold an earlier index.
        name: of the dataset; empty takes the collection's.
        full: decode the voxels too.
        workers: processes; none chooses.
        progress: opens a progress bar, from a description and a count.
    Returns:
        the list, and what is missing of the collection.
    Raises:
        DataError: none of the scans is there, or none can be read.
        UsageError: ``output`` is another program's file.
    """
    earlier_splits(output, None)
    check = check_collection(collection, root)
    if not check.found:
        raise DataError(
            f"{root} holds none of the {check.missing} scans that the collection {collection.name} lists.",
            f"voco collections show {collection.name} names the folders that it expects",
        )
    files = _files(collection, check)
    with progress("reading headers", len(files)) as advance:
        inspected = map_files(
            inspect_file,
            list(files),
            workers,
            advance,
            killed=lambda path, error: Inspected(path, fault=f"{error}."),
        )
    made = [_entry(one, found, path, full) for one, (found, _, path) in zip(inspected, files.values(), strict=True)]
    entries = [one for one in made if isinstance(one, Entry)]
    skipped = [one for one in made if isinstance(one, Skipped)]
    if full:
        entries, refused = check_all_voxels(entries, FileReader(workers, progress, HERE))
        skipped += refused
    else:
        with progress("reading a few CTs", min(SAMPLED, len(entries))) as advance:
            entries = doubt_some(entries, advance)
    if not entries:
        raise DataError(
            f"None of the {check.found} scans of {collection.name} in {root} can be read: {skipped[0].reason}"
        )
    roles: dict[str, list[Entry]] = {role: [] for role in SPLITS}
    for entry in with_distinct_names(entries):
        roles[files[entry.image][1]].append(entry)
    modalities = {entry.modality for entry in entries}
    parts: dict[str, Any] = {role: tuple(members) for role, members in roles.items()}
    return Datalist(
        name=name or collection.name,
        modality=modalities.pop() if len(modalities) == 1 else "mixed",
        skipped=tuple(skipped),
        statistics={**summarise(roles), COLLECTION: about_collection(collection, check)},
        **parts,
    ), check


def about_collection(collection: Collection, check: CollectionCheck) -> dict[str, Any]:
    """Return which collection it is, and how much of it is missing, as data.json holds it."""
    missing = {one.name: len(one.missing) for one in check.sets if one.missing}
    return {"name": collection.name, "source": collection.source, "missing": missing, "unnamed": list(check.unnamed)}


def _files(collection: Collection, check: CollectionCheck) -> dict[Path, tuple[PublicSet, Split, str]]:
    """Return the scans that are there by their absolute paths: the set, the role and the listed path of each."""
    files: dict[Path, tuple[PublicSet, Split, str]] = {}
    for member, one in zip(collection.sets, check.sets, strict=True):
        there = set(one.found)
        for role, path in member.files():
            if one.place is not None and path in there:
                files[(one.place / path).absolute()] = (member.set, role, path)
    return files


def _entry(one: Inspected, found: PublicSet, path: str, full: bool) -> Entry | Skipped:
    if one.header is None:
        reason = one.fault or "a slice of a DICOM series; a collection names the folder of the series."
        return Skipped(path=one.path, reason=reason)
    entry = Entry(
        image=one.path,
        patient=f"{found.name}/{case_in_set(PurePosixPath(path))}",
        shape=one.header.shape_xyz,
        spacing_mm=one.header.placement.spacing_xyz_mm,
        orientation=one.header.orientation,
        modality=found.modality,
        data_set=found.name,
        notes=one.header.notes,
    )
    return entry if full else with_doubt(entry, header_doubt(one.header))
