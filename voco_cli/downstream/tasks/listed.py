"""The cases of a task from data.json or a Decathlon list."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from voco_cli.dataset.datalist import Datalist, Entry
from voco_cli.dataset.datalist_file import read_datalist
from voco_cli.downstream.tasks.channels import merge_channels
from voco_cli.downstream.tasks.split import SEEDED, SPLIT_NAMES, draw_split, named, read_split, seeded_words
from voco_cli.errors import UsageError
from voco_cli.settings import Settings
from voco_cli.settings.task import Task


def listed_data(path: Path, settings: Settings) -> tuple[dict[str, list[Entry]], str]:
    """Entries of a list by split, and how they were split, for people.

    The list's own splits hold, unless ``task.split`` is ``seeded`` or a JSON file, whose cases are then the names of
    the entries. A category may be given as a value of its class. A list of many scans and few labels is the usual one:
    scans without a label map or category are left out of training and validation, and counted.

    Raises:
        DataError: the list cannot be read, or its files are missing.
        UsageError: its keys are wrong, nothing is labelled, or a case of the split file is not in it.
    """
    task = settings.task
    datalist = read_datalist(path)
    whole = {
        split: [_with_category(entry, task) for entry in merge_channels(getattr(datalist, split), task)]
        for split in SPLIT_NAMES
    }
    if not any(_is_labelled(entry, task) for listed in whole.values() for entry in listed):
        hint = "`voco index FOLDER --label-pattern PATTERN -o data.json` says where labels lie"
        whole_scans = task.kind == "classification"
        raise UsageError(f"{path} has no {_target(task)}, so nothing can be learned.", None if whole_scans else hint)
    if task.split == SEEDED:
        return _drawn(whole, settings)
    if task.split is not None and task.split.endswith(".json"):
        return _by_file(whole, path, task, task.split)
    kept = {
        split: [entry for entry in listed if split == "test" or _is_labelled(entry, task)]
        for split, listed in whole.items()
    }
    left = sum(map(len, whole.values())) - sum(map(len, kept.values()))
    return kept, f"splits of {path.name}" + _how(datalist) + _left_out(left, task)


def _how(datalist: Datalist) -> str:
    return f", drawn by patient with seed {datalist.split.seed}" if datalist.split else ""


def _is_labelled(entry: Entry, task: Task) -> bool:
    return (entry.label if task.kind == "segmentation" else entry.category) is not None


def _target(task: Task) -> str:
    return "label map" if task.kind == "segmentation" else "category"


def _left_out(count: int, task: Task) -> str:
    return f"; {count} scans without a {_target(task)} are not used" if count else ""


def _with_category(entry: Entry, task: Task) -> Entry:
    """The entry under its case's name, its category by the name of the class."""
    names = {str(value): one.name for one in task.classes for value in one.values}
    category = names.get(entry.category, entry.category) if entry.category is not None else None
    return entry.model_copy(update={"case": entry.name, "category": category})


def _drawn(whole: Mapping[str, list[Entry]], settings: Settings) -> tuple[dict[str, list[Entry]], str]:
    task = settings.task
    everyone = [entry for split in SPLIT_NAMES for entry in whole[split]]
    usable = [entry for entry in everyone if _is_labelled(entry, task)]
    of_kind = usable if task.kind == "classification" else ()
    categories = ((entry.patient, entry.category) for entry in of_kind if entry.category is not None)
    drawn = draw_split((entry.patient for entry in usable), task, categories)
    split = {name: [entry for entry in usable if drawn[entry.patient] == name] for name in SPLIT_NAMES}
    return split, seeded_words(task) + _left_out(len(everyone) - len(usable), task)


def _by_file(whole: Mapping[str, list[Entry]], path: Path, task: Task, name: str) -> tuple[dict[str, list[Entry]], str]:
    split = read_split(name, task.fold)
    by_name = {entry.name: entry for listed in whole.values() for entry in listed}
    lacking = [case for cases in split.cases.values() for case in cases if case not in by_name]
    if lacking and task.missing == "refuse":
        raise UsageError(
            f"{path} lacks {len(lacking)} cases of the {split.words}: {named(lacking)}.",
            "cases go by the names of the images; task.missing=leave_out does without them",
        )
    words = split.words + (f"; {len(lacking)} of its cases are not in {path.name}" if lacking else "")
    return {
        name: [_owned(by_name[c], c, split.patients) for c in cases if c in by_name]
        for name, cases in split.cases.items()
    }, words


def _owned(entry: Entry, case: str, patients: Mapping[str, str]) -> Entry:
    return entry.model_copy(update={"patient": patients.get(case, entry.patient)})
