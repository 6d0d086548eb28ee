"""The files of all inputs, each found once; and what datalists and ``dataset.json`` files among them say of scans."""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from voco_cli.data.index.datalist import SPLITS, Datalist, Entry, Skipped, stricter
from voco_cli.data.index.datalist_file import label_names, only_modality, read_datalist, read_text
from voco_cli.data.index.label_pairing import is_label_folder
from voco_cli.data.index.painted import painted_copies
from voco_cli.data.index.patients import CHANNEL, stem_of
from voco_cli.data.io.image import require_file
from voco_cli.data.io.reader import ONE_FILE, file_format, series_files
from voco_cli.errors import DataError, UsageError, VocoError
from voco_cli.object_stores import RemotePath, ask_of_many, is_address, is_remote, location, objects_below

DATASET_FILE = "dataset.json"
# Voxels of a header beside them (.mhd, .nhdr, and .hdr of Analyze and NIfTI pairs): one scan, not two.
DETACHED_DATA = (".raw", ".zraw", ".raw.gz", ".img", ".img.gz")
HEADERS = (".mhd", ".nhdr", ".hdr", ".hdr.gz")
IGNORED = {"DICOMDIR", "Thumbs.db", "__MACOSX"}


@dataclass(frozen=True)
class FoundFile:
    """A file that may be a scan, and the input folder that it was found under."""

    path: Path
    root: Path


@dataclass
class Walk:
    """The files of all inputs.

    Attributes:
        files: candidates, sorted by path, each real file once.
        datalists: JSON files that were named as inputs; their splits count.
        dataset_files: ``dataset.json`` files met in folders; they tell pairs and names.
        skipped: files reached twice.
        found_as: real path to the path under which it was found first.
    """

    files: list[FoundFile] = field(default_factory=list)
    datalists: list[Path] = field(default_factory=list)
    dataset_files: list[Path] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    found_as: dict[Path, Path] = field(default_factory=dict)

    def standing_for(self, path: Path) -> Path:
        """Return the path under which a file was found first; the path itself where it was not found."""
        return self.found_as.get(path.resolve(), path)


def walk_inputs(inputs: Sequence[Path], exclude: Iterable[Path] = ()) -> Walk:
    """List the files of all inputs; links are followed, hidden files are left out.

    Args:
        inputs: folders, image files, datalists (``.json``); folders and image files of object stores.
        exclude: files, and folders of files, that are never candidates, such as the output of an earlier run.
    Raises:
        DataError: inputs that do not exist, all named.
    """
    remote = [path for path in map(location, inputs) if isinstance(path, RemotePath)]
    inputs = [path for path in inputs if not is_address(str(path))]
    objects = {root: [root] if _is_scan(root) and root.is_file() else _objects_below(root) for root in remote}
    missing = [str(path) for path in inputs if not path.exists()] + [str(root) for root in remote if not objects[root]]
    if missing:
        raise DataError(f"{', '.join(missing)} does not exist.", "Check the path.")
    walk = Walk()
    for place, found in objects.items():
        for one in found:
            _add(walk, FoundFile(one, place.parent if found == [place] else place), set())
    excluded = {path.resolve() for path in exclude}
    folders_of_files = Counter(Path(os.path.abspath(given)).parent for given in inputs if given.is_file())  # noqa: PTH100
    for given in inputs:
        root = header_file(Path(os.path.abspath(given)))  # noqa: PTH100 (links stay as they were named)
        if root.is_file() and root.suffix.lower() == ".json":
            walk.datalists.append(root)
            continue
        if root.is_dir():
            files = _files_below(root, walk.skipped)
        else:
            # One slice stands for its series; several of a folder are what a shell made of `folder/*`.
            files = _with_its_series(root) if folders_of_files[root.parent] == 1 else iter([root])
        for path in files:
            _add(walk, FoundFile(path, root if root.is_dir() else root.parent), excluded)
    notes = {one for copy in painted_copies(found.path for found in walk.files).values() for one in copy.notes}
    walk.files = sorted((one for one in walk.files if one.path not in notes), key=lambda found: str(found.path))
    return walk


def add_listed(walk: Walk, images: Iterable[tuple[Path, Sequence[Path]]]) -> None:
    """Add what datalists name: a file, a DICOM folder, or the files of a series.

    A list that names a file of an input folder says more of it and is no second way to it.
    """
    for named, files in images:
        image = header_file(named)
        if files:
            found = [FoundFile(path, path.parent) for path in files if path.exists()]
        elif image.is_dir():
            found = [FoundFile(path, image) for path in _files_below(image, walk.skipped)]
        else:
            found = [FoundFile(image, image.parent)]
        for one in found:
            real = one.path.resolve()
            # A list names files below its folder's real path, also where the input was reached through a link.
            same_way = walk.found_as.get(real) == one.path or (real in walk.found_as and one.path == real)
            if not same_way:
                _add(walk, one, set())
    walk.files.sort(key=lambda found: str(found.path))


def _is_scan(path: RemotePath) -> bool:
    return path.name.lower().endswith(ONE_FILE)


def _objects_below(root: RemotePath) -> list[RemotePath]:
    """List the files below a folder of a store, as `_files_below` lists those of a disk."""
    found = list(objects_below(root))
    present: dict[Path, set[str]] = defaultdict(set)
    for path in found:
        present[path.parent].add(path.name.lower())
    return [
        path
        for path in found
        if not any(part.startswith(".") or part in IGNORED for part in path.relative_to(root).parts)
        and not _is_detached(path.name, present[path.parent])
    ]


def _with_its_series(path: Path) -> Iterator[Path]:
    try:
        require_file(path)
        yield from series_files(path) if file_format(path) == "dicom" else (path,)
    except VocoError:
        yield path  # its header read will say what is wrong


def _add(walk: Walk, found: FoundFile, excluded: set[Path]) -> None:
    if not _is_text(found.path):
        shown = str(found.path).encode("utf-8", "backslashreplace").decode()
        walk.skipped.append(Skipped(path=Path(shown), reason="name is not valid UTF-8, and cannot be listed."))
        return
    real = found.path.resolve()
    if real in excluded or real.parent in excluded:
        return
    if real in walk.found_as:
        first = walk.found_as[real]
        how = "the inputs overlap" if first == found.path else f"it is the same file as {first}"
        walk.skipped.append(Skipped(path=found.path, reason=f"reached twice: {how}, and is listed once."))
        return
    walk.found_as[real] = found.path
    if found.path.name == DATASET_FILE:
        walk.dataset_files.append(found.path)
    else:
        walk.files.append(found)


def _is_text(path: Path) -> bool:
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _files_below(root: Path, skipped: list[Skipped]) -> Iterator[Path]:
    def note(error: OSError) -> None:
        skipped.append(Skipped(path=Path(error.filename), reason=f"folder cannot be opened: {error.strerror}."))

    for folder_name, folders, names in os.walk(root, followlinks=True, onerror=note):
        folder = Path(folder_name)
        folders[:] = sorted(name for name in folders if _is_entered(folder / name))
        present = {name.lower() for name in names}
        for name in sorted(names):
            if not name.startswith(".") and name not in IGNORED and not _is_detached(name, present):
                yield folder / name


def _is_entered(folder: Path) -> bool:
    """Return whether to go into a folder: not a hidden one, nor a link to one that holds it, which would never end."""
    if folder.name.startswith(".") or folder.name in IGNORED:
        return False
    if not folder.is_symlink():
        return True
    holder = folder.parent.resolve()
    return folder.resolve() not in (holder, *holder.parents)


def _is_detached(name: str, present: Set[str]) -> bool:
    """Return whether a file holds the voxels of a header beside it.

    Args:
        present: names of the folder's files, in small letters.
    """
    lower = name.lower()
    stems = (lower.removesuffix(suffix) for suffix in DETACHED_DATA if lower.endswith(suffix))
    return any(f"{stem}{header}" in present for stem in stems for header in HEADERS)


def header_file(path: Path) -> Path:
    """Return the header of a pair that is named by its voxels (``x.img``) in some lists; any other path as it is."""
    if is_remote(path):
        return path
    lower = path.name.lower()
    for voxels, header in ((".img", ".hdr"), (".img.gz", ".hdr.gz"), (".img.gz", ".hdr")):
        if lower.endswith(voxels):
            stem = path.name[: -len(voxels)]
            for ending in (header, header.upper()):
                if (other := path.with_name(stem + ending)).is_file():
                    return other
    return path


@dataclass(frozen=True)
class NamedValues:
    """What the values of label maps are called.

    Attributes:
        origin: name of the list or folder that says so.
        names: label value to name; empty where nobody says.
        has_own_file: the label map has a file of its own for them.
    """

    origin: str
    names: Mapping[str, str]
    has_own_file: bool = False


@dataclass
class Sources:
    """The statements of all lists, by real path, so that a link to a file means the file.

    Attributes:
        listed: image to the entry of the list that named it first.
        label_of: image to label map.
        split_of: image to the split that a list with held-out scans prescribes; a list of another program that holds
            out for testing alone leaves open who of its training scans validates.
        kept_splits: list to the number of scans of its held-out splits, of lists whose splits are kept.
        modality_below: folder to the modality that its ``dataset.json`` states; mixed where channels differ.
        channels_below: folder to the modality of each channel number, where they differ.
        names_of: image to the label names of the list that names it first, and what that set of labels is called.
        names_below: folder to the label names of its ``dataset.json``, and what its set is called.
        skipped: unreadable ``dataset.json`` files, missing files.
        told: what lists and ``dataset.json`` files say of labels and is not read, a sentence each.
    """

    listed: dict[Path, Entry] = field(default_factory=dict)
    label_of: dict[Path, Path] = field(default_factory=dict)
    split_of: dict[Path, str] = field(default_factory=dict)
    kept_splits: dict[Path, dict[str, int]] = field(default_factory=dict)
    modality_below: dict[Path, str] = field(default_factory=dict)
    channels_below: dict[Path, dict[int, str]] = field(default_factory=dict)
    names_of: dict[Path, NamedValues] = field(default_factory=dict)
    names_below: dict[Path, NamedValues] = field(default_factory=dict)
    skipped: list[Skipped] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    def modality_at(self, path: Path) -> str:
        """Return the modality that the nearest ``dataset.json`` above a file states."""
        above = next((above for above in path.parents if above in self.modality_below), None)
        if above is None:
            return "unknown"
        if above in self.channels_below and (number := CHANNEL.search(stem_of(path))):
            return self.channels_below[above].get(int(number[0][1:]), "unknown")
        return self.modality_below[above]

    def values_of(self, image: Path, label: Path) -> NamedValues:
        """Return what the values of one label map are called, by its list, the file beside it or its dataset.json."""
        listed = self.names_of.get(image.resolve())
        if listed is not None and listed.names:
            return listed
        folder = label.parent.parent if is_label_folder(label.parent) else label.parent
        if beside := names_beside(label):
            return NamedValues(folder.name, beside, has_own_file=True)
        below = next((self.names_below[one] for one in image.parents if one in self.names_below), None)
        return below or NamedValues(listed.origin if listed else folder.name, {})

    def label_names(self, labelled: Iterable[tuple[Path, Path]]) -> LabelNames:
        """Return what the values of label maps are called, where that is the same for all.

        Names stand in the list of an image, beside its label map, or in a ``dataset.json`` above the image.

        Args:
            labelled: images with their label maps.
        """
        names: dict[str, str] = {}
        files: list[Path] = []
        unnamed = False
        odd: dict[Path, str] = {}
        for image, label in labelled:
            found = self.values_of(image, label).names
            files += [names_file(label)] if names_beside(label) else []
            other = next((value for value, name in found.items() if names.get(value, name) != name), None)
            if other is not None:
                odd[image] = f"{other} is {found[other]} here and {names[other]} elsewhere"
            names = {**found, **names}
            unnamed = unnamed or not found
        return LabelNames({} if odd or unnamed else names, tuple(files), odd)


@dataclass(frozen=True)
class LabelNames:
    """Names of label values.

    Attributes:
        names: value to name; empty where they do not hold for all label maps.
        files: files beside label maps that they stand in.
        contradicting: image whose label map calls a value by another name than those before, to what it calls so.
    """

    names: dict[str, str]
    files: tuple[Path, ...] = ()
    contradicting: Mapping[Path, str] = field(default_factory=dict)


def names_file(label: Path) -> Path:
    """Return where TotalSegmentator and others name a label map's values: ``x_seg.json`` beside its file."""
    return label.with_name(f"{stem_of(label)}.json")


def names_beside(label: Path) -> dict[str, str]:
    """Read value to name from the file beside a label map, ``{"1": "spleen"}`` or the same under labels; or empty."""
    try:
        raw: Any = json.loads(read_text(names_file(label)))
        found = raw.get("labels", raw) if isinstance(raw, dict) else None
        named = label_names(found, names_file(label))[0] if isinstance(found, dict) else {}
    except (OSError, ValueError, UsageError):  # any file may lie there
        return {}
    return named if found and len(named) == len(found) else {}


def read_sources(datalists: Sequence[Path], dataset_files: Iterable[Path]) -> Sources:
    """Read all lists.

    Raises:
        DataError, UsageError: a list that was named as an input and cannot be read; one met in a folder is skipped.
    """
    sources = Sources()
    for path in datalists:
        _add_datalist(sources, read_datalist(path, check_files=False), path)
    for path in dataset_files:
        try:
            _add_dataset_file(sources, path)
        except VocoError as error:
            sources.skipped.append(Skipped(path=path, reason=error.message.removeprefix(f"{path} ")))
    return sources


def _add_datalist(sources: Sources, datalist: Datalist, path: Path) -> None:
    ask_of_many(file for _, entry in datalist.entries() for file in (entry.image, *entry.channels, entry.label) if file)
    called = path.parent.name if datalist.name == "dataset" else datalist.name
    if "format" not in datalist.model_fields_set:  # of another program; what an index told is told anew
        sources.told += datalist.class_notes
    pinned = _pinned_splits(datalist)
    if pinned:
        sources.kept_splits[path] = {split: len(getattr(datalist, split)) for split in pinned if split != "training"}
    own_sets = any(entry.data_set for _, entry in datalist.entries())
    for split, entry in datalist.entries():
        label = entry.label if entry.label is not None and entry.label.exists() else None
        if entry.label is not None and label is None:
            sources.skipped.append(Skipped(path=entry.label, reason=f"missing: {path} lists it as a label."))
        if label is not None and header_file(label).resolve() == header_file(entry.image).resolve():
            sources.skipped.append(Skipped(path=label, reason=f"label that is its own image, as {path} lists it."))
            label = None
        for one in entry.channel_entries():
            image = header_file(one.image).resolve()
            # Also of an image that is missing or refused: a label map is never a scan.
            if label is not None:
                sources.label_of.setdefault(image, header_file(label))
            if not one.image.exists():
                sources.skipped.append(Skipped(path=one.image, reason=f"missing: {path} lists it."))
                continue
            sources.listed.setdefault(
                image, one.model_copy(update={"data_set": entry.data_set if own_sets else called})
            )
            known = datalist.label_sets.get(entry.label_set or "")
            named = NamedValues(entry.label_set or "", known.names) if known else NamedValues(called, datalist.labels)
            sources.names_of.setdefault(image, named)
            if split in pinned:
                sources.split_of[image] = stricter(sources.split_of.get(image, split), split)


def _pinned_splits(datalist: Datalist) -> tuple[str, ...]:
    """Return the splits of a list that an index keeps: none where it holds nobody out."""
    held_out = tuple(split for split in SPLITS if split != "training" and getattr(datalist, split))
    by_index = datalist.split is not None
    return ("training", *held_out) if held_out and (by_index or "validation" in held_out) else held_out


def _add_dataset_file(sources: Sources, path: Path) -> None:
    """Add what a ``dataset.json`` says: Decathlon's lists pairs and splits, nnU-Net's names labels and channels."""
    try:
        raw: Any = json.loads(read_text(path))
    except (OSError, ValueError) as error:
        sources.skipped.append(Skipped(path=path, reason=f"not valid JSON: {error}."))
        return
    if not isinstance(raw, dict):
        return
    stated = raw.get("modality", raw.get("channel_names", "unknown"))
    sources.modality_below[path.parent] = modality = only_modality(stated)
    if modality == "mixed" and isinstance(stated, dict):
        sources.channels_below[path.parent] = {
            int(number): only_modality(word) for number, word in stated.items() if number.isdecimal()
        }
    if isinstance(raw.get("training"), list):
        _add_datalist(sources, read_datalist(path, check_files=False), path)
    elif isinstance(raw.get("labels"), dict):
        names, told = label_names(raw["labels"], path)
        sources.told += told
        if names:
            sources.names_below[path.parent] = NamedValues(str(raw.get("name") or path.parent.name), names)
