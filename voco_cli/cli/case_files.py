"""Which files make a case, and what its label values are called: by path, or by a case of a data.json."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from voco_cli.errors import UsageError

if TYPE_CHECKING:
    from voco_cli.dataset.datalist import Entry
    from voco_cli.scans.scan import Scan

NamedValues = tuple[tuple[str, tuple[int, ...]], ...]


@dataclass(frozen=True)
class CaseFiles:
    """A case to show.

    Attributes:
        name: of the case.
        image: as it was read.
        label: file of the label map, if there is one.
        modality: as the list says.
        names: structures and their values, where the list knows them.
        origin: of these names, for people.
        ignore: label value of voxels that nobody annotated, where the list knows one.
    """

    name: str
    image: Scan
    label: Path | None
    modality: str = "unknown"
    names: NamedValues = ()
    origin: str = ""
    ignore: int | None = None


def case_files(image: Path, label: Path | None, case: str | None, *, first: bool = False) -> CaseFiles:
    """Read the image that is meant, and find its label.

    Args:
        image: an image, or a data.json.
        label: file of the label map; of a case of a data.json only in place of its own.
        case: name of a case of the data.json.
        first: take the first case of the list where none is named.
    Raises:
        UsageError: no such case, or a case without a list.
        DataError, GeometryError: as `read_scan`.
    """
    from voco_cli.dataset.datalist import read_entry
    from voco_cli.dataset.datalist_file import read_datalist
    from voco_cli.dataset.patient import case_of
    from voco_cli.scans.label_map import ignored_value
    from voco_cli.scans.read import read_scan

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
    scan = read_entry(entry)
    return CaseFiles(entry.name, scan, label or entry.label, entry.modality, names, str(image), ignore)


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


def structure_names(
    files: CaseFiles, prediction: Path | None, task: str | None, classes: str | None
) -> tuple[NamedValues, str, int | None]:
    """Names of the label values and where they come from: flags, the list, or a dataset.json beside the label maps.

    Returns:
        names, their origin, and the value of voxels that nobody annotated, if there is one.

    Raises:
        UsageError: both flags, or one that names nothing.
        DataError: a file of names that cannot be read.
    """
    from voco_cli.dataset.sources import names_beside, names_file
    from voco_cli.evaluation.classes import classes_beside, read_classes
    from voco_cli.settings import load_settings

    if task is not None and classes is not None:
        raise UsageError("--task and --classes both name the label values.", "give one of them")
    if task is not None:
        listed = load_settings(task=task).settings.task
        if listed.kind != "segmentation":
            raise UsageError(f"--task {task} is a classification, and has no label map.", "give --classes")
        return (
            tuple((one.name, one.values) for one in listed.classes),
            f"task {listed.name or task}",
            listed.ignore_value,
        )
    if classes is None and files.names:
        return files.names, files.origin, files.ignore
    folders = [path.parent for path in (files.label, prediction) if path is not None]
    own = names_file(files.label) if files.label is not None and names_beside(files.label) else None
    if classes is None and own is not None:
        classes = str(own)
    known = read_classes(classes) if classes else classes_beside(folders[0], folders[-1]) if folders else None
    if known is None:
        return (), "", None
    names = tuple((one.name, one.labels) for one in known.structures if not one.is_region)
    return names, known.origin, known.ignore
