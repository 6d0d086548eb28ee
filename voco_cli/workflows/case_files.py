"""A case to show: its image as it was read, its label map, and the names of the label values."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

from voco_cli.data.index.datalist import Entry, read_entry
from voco_cli.data.index.datalist_file import read_datalist
from voco_cli.data.index.patients import case_of
from voco_cli.data.io.image import Scan, ignored_value
from voco_cli.data.io.reader import read_scan
from voco_cli.errors import UsageError

NamedValues = tuple[tuple[str, tuple[int, ...]], ...]


@dataclass(frozen=True)
class ValueNames:
    """Names of label values.

    Attributes:
        structures: names and the values of each; empty where they are not known.
        origin: where the names come from, for people.
        ignore: value of voxels that nobody annotated, if there is one.
    """

    structures: NamedValues = ()
    origin: str = ""
    ignore: int | None = None


@dataclass(frozen=True)
class CaseFiles:
    """A case to show.

    Attributes:
        name: of the case.
        image: as it was read.
        label: file of the label map, if there is one.
        modality: as the list says.
        names: of label values, where the list knows them.
    """

    name: str
    image: Scan
    label: Path | None
    modality: str = "unknown"
    names: ValueNames = ValueNames()


def case_files(image: Path, label: Path | None, case: str | None, *, first: bool = False) -> CaseFiles:
    """Read the image of a case and find its label.

    Args:
        image: an image, or a data.json.
        label: file of the label map; of a case of a data.json only in place of its own.
        case: name of a case of the data.json.
        first: take the first case of the list where none is named.
    Raises:
        UsageError: no such case, or a case without a list.
        DataError, GeometryError: as `read_scan`.
    """
    if image.suffix.lower() != ".json":
        if case is not None:
            raise UsageError(f"--case {case} names a case of a data.json, and {image} is none.", "leave --case out")
        return CaseFiles(case_of(image), read_scan(image), label)
    datalist = read_datalist(image, check_files=False)
    entries = [entry for _, entry in datalist.entries()]
    entry = entries[0] if first and case is None and entries else _entry(entries, case, image)
    ignore = ignored_value(datalist.labels)
    values = ((name, int(value)) for value, name in datalist.labels.items() if value.isdigit())
    names = tuple((name, (value,)) for name, value in values if value not in (0, ignore))
    known = ValueNames(names, str(image), ignore)
    return CaseFiles(entry.name, read_entry(entry), label or entry.label, entry.modality, known)


def _entry(entries: list[Entry], case: str | None, path: Path) -> Entry:
    known = {entry.name: entry for entry in entries}
    if case in known:
        return known[case]
    labelled = [entry.name for entry in entries if entry.label is not None] or list(known)
    if case is None:
        raise UsageError(
            f"{path} lists {len(known)} cases, and one of them is to be shown.",
            f"say which with --case, such as --case {labelled[0]}" if labelled else None,
        )
    near = difflib.get_close_matches(case, known, 3, 0.5) or labelled[:3]
    raise UsageError(f"{path} has no case {case!r}.", f"did you mean {', '.join(near)}?" if near else None)


def value_names(files: CaseFiles, prediction: Path | None, task: str | None, classes: str | None) -> ValueNames:
    """Find the names of the label values: by options, in the list, or in a file beside the label maps.

    Raises:
        UsageError: both options, or one that names nothing.
        DataError: a file of names that cannot be read, or a prediction whose values have other names.
    """
    from voco_cli.evaluate.segmentation.classes import require_same_values

    found = _find_names(files, prediction, task, classes)
    if prediction is not None:
        require_same_values(found.structures, found.origin, [prediction.parent / "labels.json"])
    return found


def _find_names(files: CaseFiles, prediction: Path | None, task: str | None, classes: str | None) -> ValueNames:
    from voco_cli.config import load_settings
    from voco_cli.data.index.scan_files import names_beside, names_file
    from voco_cli.evaluate.segmentation.classes import classes_beside, read_classes

    if task is not None and classes is not None:
        raise UsageError("--task and --classes both name the label values.", "give one of them")
    if task is not None:
        listed = load_settings(task=task).settings.task
        if listed.kind != "segmentation":
            raise UsageError(f"--task {task} is a classification, and has no label map.", "give --classes")
        named = tuple((one.name, one.values) for one in listed.classes)
        return ValueNames(named, f"task {listed.name or task}", listed.ignore_value)
    if classes is None and files.names.structures:
        return files.names
    if classes is None and files.label is not None and names_beside(files.label):
        own = names_file(files.label)
        classes = None if own is None else str(own)
    folders = [path.parent for path in (files.label, prediction) if path is not None]
    known = read_classes(classes) if classes else classes_beside(folders[0], folders[-1]) if folders else None
    if known is None:
        return ValueNames()
    named = tuple((one.name, one.labels) for one in known.structures if not one.is_region)
    return ValueNames(named, known.origin, known.ignore)
