"""What the label map of a scan says of the classes that a network tells: of which it is complete, and its values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from voco_cli.config.task_schema import LabelRegion
from voco_cli.data.case_labels import IGNORED, CaseLabels
from voco_cli.data.index.class_map import all_inside
from voco_cli.data.index.datalist import Datalist, Entry
from voco_cli.errors import UsageError
from voco_cli.foreign_text import named, quoted

if TYPE_CHECKING:
    from voco_cli.config import Resolved

ADD_SCAN_LABELS = "run `voco index` again with --scan-labels FILE.csv (docs/guides/omni.md)"
REINDEX = "run `voco index` again; --class-map FILE.yaml says what values are called (docs/guides/omni.md)"


def suit_classes(resolved: Resolved, datalist: Datalist, source: Path) -> Resolved:
    """Return settings whose supervised objective tells the classes of the list; others as they are.

    Raises:
        UsageError: nothing is labelled, labels that nobody says the classes of, classes that the list does not have,
            or one inside itself.
    """
    settings = resolved.settings
    if "supervised" not in settings.objective.active():
        return resolved
    supervised = settings.objective.supervised
    classes = supervised.classes or datalist.classes
    if foreign := sorted(set(classes) - set(datalist.classes)):
        raise UsageError(
            f"objective.supervised.classes names {named(foreign)}, which {source} does not have.",
            f"its classes are {named(datalist.classes)}" if datalist.classes else REINDEX,
        )
    known = labels_of(datalist, classes, source)
    said_of = [name for one in supervised.regions for name in (one.name, *one.classes)]
    said_of += [one.name for one in settings.objective.pseudo.thresholds]
    if unknown := sorted(set(said_of) - set(classes)):
        raise UsageError(
            f"objective.supervised.regions or objective.pseudo.thresholds names {named(unknown)}, which no class is "
            f"called.",
            f"the classes are {named(classes)}",
        )
    if not any(entry.image in known for entry in datalist.training):
        raise UsageError(
            f"objective.supervised learns from label maps, and no training scan of {source} has one of named classes.",
            REINDEX,
        )
    inside = {whole: tuple(name for name in parts if name in classes) for whole, parts in datalist.regions.items()}
    regions = tuple(
        LabelRegion(name=name, classes=parts) for name, parts in inside.items() if name in classes and parts
    )
    own = supervised.model_copy(update={"classes": tuple(classes), "regions": supervised.regions or regions})
    _refuse_loops(own.regions, source)
    objective = settings.objective.model_copy(update={"supervised": own})
    said = {f"objective.supervised.{key}": f"classes of {source.name}" for key in ("classes", "regions")}
    sources = {**said, **resolved.sources} if supervised.classes else {**resolved.sources, **said}
    return replace(resolved, settings=settings.model_copy(update={"objective": objective}), sources=sources)


def _refuse_loops(regions: Sequence[LabelRegion], source: Path) -> None:
    """Raise a UsageError if a class lies inside itself."""
    around = {one.name: one.classes for one in regions}
    if loop := next((name for name in around if name in all_inside(name, around)), None):
        raise UsageError(
            f"objective.supervised.regions puts {quoted(loop)} inside itself.", f"mend it, or the regions of {source}"
        )


def suit_scan_labels(resolved: Resolved, datalist: Datalist, source: Path) -> tuple[Resolved, str | None]:
    """Return settings whose weak objective tells the classes of the list's scan labels, and what is to be said of it.

    Where a recipe has it among others, and no training scan has such labels, it is left out.

    Raises:
        UsageError: no labels, and weak supervision was asked for; or classes that the list does not have.
    """
    settings = resolved.settings
    active, weak = settings.objective.active(), settings.objective.weak
    if "weak" not in active:
        return resolved, None
    if foreign := sorted(set(weak.classes) - set(datalist.scan_classes)):
        raise UsageError(
            f"objective.weak.classes names {named(foreign)}, of which {source} has no scan labels.",
            f"its scan labels are {named(datalist.scan_classes)}" if datalist.scan_classes else ADD_SCAN_LABELS,
        )
    key, classes, sources = "objective.weak.weight", weak.classes or datalist.scan_classes, dict(resolved.sources)
    note, known = None, scan_labels_of(datalist, classes)
    if any(entry.image in known for entry in datalist.training):
        own = weak.model_copy(update={"classes": tuple(classes)})
        sources |= {} if weak.classes else {"objective.weak.classes": f"scan_classes of {source.name}"}
    elif len(active) > 1 and sources[key].startswith("recipe "):
        own, sources[key] = weak.model_copy(update={"weight": 0.0}), f"no scan labels in {source.name}"
        note = f"{source} has no scan labels to train on, so objective.weak is left out"
    else:
        raise UsageError(
            f"objective.weak learns from labels of whole scans, and no training scan of {source} has one.",
            ADD_SCAN_LABELS,
        )
    objective = settings.objective.model_copy(update={"weak": own})
    return replace(resolved, settings=settings.model_copy(update={"objective": objective}), sources=sources), note


def scan_labels_of(datalist: Datalist, classes: Sequence[str]) -> dict[Path, tuple[bool | None, ...]]:
    """Return whether each class is somewhere in a scan, None where nobody knows; scans without any are not in it."""
    known: dict[tuple[bool | None, ...], tuple[bool | None, ...]] = {}
    found = {}
    for _, entry in datalist.entries():
        said = tuple(entry.scan_labels.get(name) for name in classes) if entry.scan_labels else ()
        if any(one is not None for one in said):
            found[entry.image] = known.setdefault(said, said)  # many scans share few
    return found


def labels_of(datalist: Datalist, classes: Sequence[str], source: object) -> dict[Path, CaseLabels]:
    """Return what is known of the label maps of a list, by image; scans without a usable one are not in it.

    Args:
        classes: those that a network tells, in its order; labels of others are passed over.
        source: the list's file, for messages.
    Raises:
        UsageError: label maps that nobody says the classes of, or classes and sets that the list does not have.
    """
    labelled = [entry for _, entry in datalist.entries() if entry.label is not None]
    silent = [entry.name for entry in labelled if not entry.labelled_classes and entry.label_set is None]
    if silent:
        count = "1 label map" if len(silent) == 1 else f"{len(silent)} label maps"
        raise UsageError(f"{source} has {count} without labelled_classes ({named(silent)}).", REINDEX)
    foreign = {name for entry in labelled for name in entry.labelled_classes} - set(datalist.classes)
    if foreign:
        raise UsageError(
            f"{source} has labelled_classes that are none of its classes: {named(sorted(foreign))}.", REINDEX
        )
    unknown = {entry.label_set for entry in labelled if entry.label_set} - set(datalist.label_sets)
    if unknown:
        raise UsageError(f"{source} has no label set {named(sorted(unknown))}.", REINDEX)
    place = {name: number for number, name in enumerate(classes)}
    known: dict[tuple[str | None, tuple[str, ...]], CaseLabels] = {}
    found = {}
    for entry in labelled:
        key = (entry.label_set, entry.labelled_classes)
        if key not in known:
            known[key] = _case_labels(datalist, entry, place, source)
        if known[key].complete:
            found[entry.image] = known[key]
    return found


def _case_labels(datalist: Datalist, entry: Entry, place: Mapping[str, int], source: object) -> CaseLabels:
    own = datalist.label_sets.get(entry.label_set) if entry.label_set else None
    values = own.values if own else {value: (name,) for value, name in datalist.labels.items() if int(value)}
    if len(values) >= IGNORED:
        raise UsageError(f"{source} has a label set of {len(values)} values, and {IGNORED - 1} are the most.", REINDEX)
    complete, names = set(entry.labelled_classes), own.names if own else datalist.labels
    ignore = own.ignore if own else None
    return CaseLabels(
        complete=tuple(sorted(place[name] for name in complete if name in place)),
        values=tuple(
            (int(value), tuple(place[name] for name in names if name in place and name in complete))
            for value, names in sorted(values.items(), key=lambda item: int(item[0]))
        ),
        ignore=ignore,
        left_out=tuple(sorted({int(value) for value in names} - {0, ignore} - {int(value) for value in values})),
    )
