"""Names of classes and regions, as files, flags and tasks give them."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from voco_cli.config.task_schema import Task
from voco_cli.data.index.datalist_file import read_text
from voco_cli.data.index.patients import case_of, stem_of
from voco_cli.data.io.image import IGNORE, LARGEST_LABEL
from voco_cli.errors import DataError, UsageError
from voco_cli.evaluate.segmentation.metrics import Structure

NOT_CLASSES = {"background", IGNORE}
FORM = "Write name=label, as in --classes liver=1,spleen=2 or --regions 'tumour=2,3'."
GIVEN = re.compile(r"[^=,]+=\s*\d+")


@dataclass(frozen=True)
class ClassNames:
    """What a file or flag says of classes.

    Attributes:
        structures: classes by label, then regions.
        origin: the file or flag, for people.
        patients: case to patient, where the file is a list that knows them.
        ignore: label value of voxels that nobody annotated, which are left out of every measure; none where all were.
    """

    structures: tuple[Structure, ...]
    origin: str
    patients: Mapping[str, str] = field(default_factory=dict)
    ignore: int | None = None


def read_classes(source: str) -> ClassNames:
    """Read class names from ``liver=1,spleen=2``, a data.json, a dataset.json (Decathlon, nnU-Net) or a YAML file.

    A file holds ``labels``: label to name, name to label, or name to a list of labels (a region).

    Raises:
        DataError: no such file, or damaged.
        UsageError: no labels in it, a label or name that is there twice, or one that is no label.
    """
    if GIVEN.match(source):
        items = [_name_and_labels(part) for part in source.split(",")]
        given = [Structure(name, labels) for name, labels in items if name.lower() != IGNORE]
        return ClassNames(_checked(given, source), "--classes", ignore=_ignored(dict(items), given, source))
    path = Path(source)
    if not path.suffix and not path.exists():
        raise UsageError(f"--classes {source} is neither a file nor a list of names with labels.", FORM)
    raw = _load(path)
    labels = raw.get("labels", _plain_names(raw)) if isinstance(raw, dict) else None
    if not isinstance(labels, dict) or not labels:
        raise UsageError(f"{path} has no labels.", 'It should hold "labels": {"1": "liver", ...}, or use ' + FORM[6:])
    structures = [one for key, value in labels.items() if (one := _structure(str(key), value, path)) is not None]
    structures.sort(key=lambda one: (one.is_region, one.labels if not one.is_region else ()))
    named = dict(_read(str(key), value) for key, value in labels.items())
    ignore = _ignored(named, structures, str(path))
    return ClassNames(_checked(structures, str(path)), str(path), _patients(raw), ignore)


def parse_regions(given: Iterable[str]) -> tuple[Structure, ...]:
    """Read regions from flags such as ``tumour=2,3``.

    Raises:
        UsageError: another form, or one name twice.
    """
    items = [_name_and_labels(one) for one in given]
    return _checked([Structure(name, labels, is_region=True) for name, labels in items], "--regions")


def classes_beside(labels: Path, predictions: Path) -> ClassNames | None:
    """Read class names of the dataset.json in or above a folder of label maps, else of what `voco predict` left."""
    for path in (labels / "dataset.json", labels.parent / "dataset.json", predictions / "labels.json"):
        if path.is_file():
            return read_classes(str(path))
    return None


def require_same_values(named: Iterable[tuple[str, Sequence[int]]], origin: str, others: Iterable[Path]) -> None:
    """Refuse label maps whose values are not those of the others: to compare them voxel by voxel would say nothing.

    Names are compared without regard to capitals, and only those of one value; a name that one side lacks says nothing.

    Args:
        named: names with their values.
        origin: where they stand, for people.
        others: files of names of the other label maps; those that are not there are passed over.
    Raises:
        DataError: a name that has another value there.
    """
    known = {name.casefold(): values[0] for name, values in named if len(values) == 1}
    for path in filter(Path.is_file, others):
        for one in read_classes(str(path)).structures:
            expected = known.get(one.name.casefold())
            if len(one.labels) == 1 and expected is not None and expected != one.labels[0]:
                raise DataError(
                    f"{path} gives {one.name!r} the value {one.labels[0]}, and {origin} {expected}, so label maps of "
                    f"the two cannot be compared.",
                    "a run is measured by the names of its classes: voco evaluate RUN",
                )


def all_structures(classes: Sequence[Structure], regions: Sequence[Structure]) -> tuple[Structure, ...]:
    """Return classes, then regions.

    Raises:
        UsageError: a region with the name of a class.
    """
    return _checked([*classes, *regions], "--classes and --regions")


def task_classes(task: Task) -> tuple[Structure, ...]:
    """Return the classes of a task by the values of its label maps; several values are one structure."""
    return tuple(Structure(one.name, one.values) for one in task.classes)


def task_regions(task: Task) -> tuple[Structure, ...]:
    """Return the regions of a task: the values of all classes that belong to each.

    Raises:
        UsageError: a region of a region that is only named after it.
    """
    values = {one.name: set(one.values) for one in task.classes}
    regions = []
    for region in task.regions:
        later = [name for name in region.classes if name not in values]
        if later:
            raise UsageError(f"The region {region.name!r} consists of {later[0]!r}, which is only named after it.")
        values[region.name] = set().union(*(values[name] for name in region.classes))
        regions.append(Structure(region.name, tuple(sorted(values[region.name])), is_region=True))
    return tuple(regions)


def _load(path: Path) -> Any:
    try:
        text = read_text(path)
    except (OSError, ValueError) as error:
        why = (error.strerror or str(error)) if isinstance(error, OSError) else "it is not text"
        raise DataError(f"{path} cannot be read for class names: {why}.", FORM) from error
    try:
        return json.loads(text) if path.suffix.lower() == ".json" else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:
        raise DataError(f"{path} is neither JSON nor YAML: {error}.", FORM) from error


def _plain_names(raw: Mapping[Any, Any]) -> Mapping[Any, Any] | None:
    """Return label to name and nothing else, as TotalSegmentator writes ``x_seg.json`` beside ``x_seg.nii.gz``."""
    return raw if all(_is_label(key) and isinstance(name, str) for key, name in raw.items()) else None


def _structure(key: str, value: Any, path: Path) -> Structure | None:
    """Read one entry of ``labels``, whichever way round it is written; none for the background and what is ignored."""
    name, values = _read(key, value)
    if not values or not all(_is_label(one) for one in values):
        raise UsageError(f"{path} has {key!r}: {value!r} among its labels, which names no label.")
    numbers = tuple(sorted({int(one) for one in values}))
    if numbers == (0,) or name.lower() in NOT_CLASSES:
        return None
    if 0 in numbers:
        raise UsageError(f"{path} counts the background (0) to {name}.")
    return Structure(name, numbers, is_region=len(numbers) > 1)


def _read(key: str, value: Any) -> tuple[str, Sequence[Any]]:
    """Return name and label values of one entry of ``labels``."""
    name, labels = (str(value), key) if _is_label(key) else (key, value)
    return name, labels if isinstance(labels, list) else [labels]


def _ignored(named: Mapping[str, Sequence[Any]], structures: Sequence[Structure], origin: str) -> int | None:
    """Return the label value that is called ignore.

    Raises:
        UsageError: several values, the background, or a value of a class.
    """
    values = [int(one) for name, labels in named.items() if name.lower() == IGNORE for one in labels]
    if not values:
        return None
    owner = next((one.name for one in structures if values[0] in one.labels), None)
    if len(values) > 1 or not values[0] or owner is not None:
        what = f"is a part of {owner}" if owner else "is not one label above 0"
        raise UsageError(f"{origin} has {IGNORE}, which {what}.", "nnU-Net's ignore label is a value of its own")
    return values[0]


def _is_label(value: Any) -> bool:
    return not isinstance(value, bool) and str(value).isdecimal() and int(value) <= LARGEST_LABEL


def _name_and_labels(text: str) -> tuple[str, tuple[int, ...]]:
    name, equals, given = text.partition("=")
    parts = [part.strip() for part in given.split(",")]
    if not equals or not name.strip() or not all(_is_label(part) and int(part) for part in parts):
        raise UsageError(f"{text!r} is no name with labels.", FORM)
    return name.strip(), tuple(sorted({int(part) for part in parts}))


def _checked(structures: Sequence[Structure], origin: str) -> tuple[Structure, ...]:
    names = Counter(one.name for one in structures)
    labels = Counter(label for one in structures if not one.is_region for label in one.labels)
    twice = [name for name, count in names.items() if count > 1] + [
        f"label {label}" for label, count in labels.items() if count > 1
    ]
    if twice:
        raise UsageError(f"{origin} has {', '.join(twice)} more than once.", "Every class has one name and one label.")
    return tuple(structures)


def _patients(raw: Mapping[str, Any]) -> dict[str, str]:
    """Return case to patient from a datalist's entries, under the names of their label maps and their images."""
    found: dict[str, str] = {}
    for split in ("training", "validation", "test"):
        for entry in raw.get(split) or ():
            if isinstance(entry, dict) and entry.get("patient"):
                for path in (entry.get("image"), entry.get("label")):
                    if isinstance(path, str):
                        found[case_of(Path(path))] = found[stem_of(Path(path))] = str(entry["patient"])
    return found
