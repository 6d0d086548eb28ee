"""The files of all inputs: folders opened up, the same file found once, datalists set apart."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path

from voco_cli.data.index.datalist import Skipped
from voco_cli.data.io.image import require_file
from voco_cli.data.io.reader import file_format, series_files
from voco_cli.errors import DataError, VocoError

DATASET_FILE = "dataset.json"
# Voxels of a header beside them (.mhd, .nhdr, and .hdr of Analyze and NIfTI pairs): one scan, not two.
DETACHED_DATA = (".raw", ".zraw", ".raw.gz", ".img", ".img.gz")
HEADERS = (".mhd", ".nhdr", ".hdr", ".hdr.gz")
IGNORED = {"DICOMDIR", "Thumbs.db", "__MACOSX"}


@dataclass(frozen=True)
class FoundFile:
    """A file to look at, and the input folder that it was found under."""

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
        seen: real path to the path that stands for it.
    """

    files: list[FoundFile] = field(default_factory=list)
    datalists: list[Path] = field(default_factory=list)
    dataset_files: list[Path] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    seen: dict[Path, Path] = field(default_factory=dict)

    def standing_for(self, path: Path) -> Path:
        """Return the path under which a file was found first; the path itself where it was not found."""
        return self.seen.get(path.resolve(), path)


def walk_inputs(inputs: Sequence[Path], exclude: Iterable[Path] = ()) -> Walk:
    """List the files of all inputs; links are followed, hidden files are not looked at.

    Args:
        inputs: folders, image files, datalists (``.json``).
        exclude: files that are never candidates, such as the output of an earlier run.
    Raises:
        DataError: inputs that do not exist, all named.
    """
    missing = [str(path) for path in inputs if not path.exists()]
    if missing:
        raise DataError(f"{', '.join(missing)} does not exist.", "Check the path.")
    walk = Walk()
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
    walk.files.sort(key=lambda found: str(found.path))
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
            same_way = walk.seen.get(real) == one.path or (real in walk.seen and one.path == real)
            if not same_way:
                _add(walk, one, set())
    walk.files.sort(key=lambda found: str(found.path))


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
    if real in excluded:
        return
    if real in walk.seen:
        first = walk.seen[real]
        how = "the inputs overlap" if first == found.path else f"it is the same file as {first}"
        walk.skipped.append(Skipped(path=found.path, reason=f"reached twice: {how}, and is listed once."))
        return
    walk.seen[real] = found.path
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
    lower = path.name.lower()
    for voxels, header in ((".img", ".hdr"), (".img.gz", ".hdr.gz"), (".img.gz", ".hdr")):
        if lower.endswith(voxels):
            stem = path.name[: -len(voxels)]
            for ending in (header, header.upper()):
                if (other := path.with_name(stem + ending)).is_file():
                    return other
    return path
