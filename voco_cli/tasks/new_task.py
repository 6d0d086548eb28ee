"""A task file from a list of labelled scans, or from a table of categories and a folder of scans."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from voco_cli.config.task_schema import Task
from voco_cli.data.index.datalist import OTHER_NAMES, Entry
from voco_cli.data.index.datalist_file import read_datalist
from voco_cli.data.index.patients import SUFFIXES, patients_of
from voco_cli.data.io.image import ignored_value
from voco_cli.data.parallel import map_files
from voco_cli.errors import DataError, UsageError
from voco_cli.tasks.channels import channels_of, merge_channels
from voco_cli.tasks.draft import (
    Backbone,
    CaseFacts,
    Network,
    Source,
    Start,
    classes_of,
    draft,
    guess_modality,
    look_at,
    task_file,
)
from voco_cli.tasks.layouts import read_rows
from voco_cli.tasks.splits import named

FEWEST_FOR_PROCESSES = 8
MOST_SCANS_OF_A_TABLE = 50
"""Spacing and intensities of more scans would say no more."""
IMAGE_PATTERNS = (
    *(f"{{case}}{suffix}" for suffix in SUFFIXES),
    *(f"{{case}}_0000{suffix}" for suffix in SUFFIXES),
    "{case}.npy",
    "{case}",
)

Progress = Callable[[int], object]


def task_from_list(
    path: Path,
    output: Path,
    backbone: Backbone,
    modality: str | None,
    advance: Progress,
    workers: int | None = None,
    start: Start | None = None,
    warn: Callable[[str], object] = lambda text: None,
) -> str:
    """The text of a task file for the labelled scans of data.json or a Decathlon list.

    Args:
        warn: told what one should know before training on the task.
    Raises:
        UsageError: there is no labelled scan, or the list's keys are wrong.
        DataError: the list or a scan cannot be read, or a label map does not fit its scan.
    """
    datalist = read_datalist(path)
    labelled = [entry for split, entry in datalist.entries() if entry.label is not None and split != "test"]
    if not labelled:
        raise UsageError(
            f"{path} names no label map, so there is nothing to learn from.",
            "`voco index FOLDER --label-pattern PATTERN -o data.json` says where labels lie; categories come from "
            "a CSV with --images",
        )
    modalities = {entry.modality for entry in labelled}
    channels, labelled = _with_channels(labelled, path)
    ignore = ignored_value(datalist.labels)
    facts = _look(labelled, advance, workers, ignore)
    # A window is one of HU, which all channels have to have.
    together = "CT" if modalities == {"CT"} else "MR"
    kind = guess_modality(facts, modality or (_modality(labelled, path) if len(channels) == 1 else together))
    trained = {entry.image for entry in datalist.training}
    training = [entry for entry in labelled if entry.image in trained]
    classes = classes_of(facts, datalist.labels)
    plan = draft(facts, classes, kind, backbone, training=len(training), network=network_in(start))
    plan = replace(plan, ignore_value=ignore)
    if mixed := mixed_names(labelled):
        warn(mixed)
    source = Source(
        name=_name(output),
        scans=len(labelled),
        patients=len({entry.patient for entry in labelled}),
        own_split=any(entry.label is not None for entry in datalist.validation),
        data_file=path,
        channels=channels,
        mixed_names=mixed,
    )
    return task_file(plan, source, backbone, output, start)


def mixed_names(entries: Iterable[Entry]) -> str | None:
    """A sentence on scans whose label maps call one value by several names, so that no class means one thing."""
    odd = {entry.name: note for entry in entries for note in entry.notes if note.startswith(OTHER_NAMES)}
    if not odd:
        return None
    example = next(iter(odd.values())).removeprefix(OTHER_NAMES).partition(", so ")[0].strip()
    return (
        f"The label maps call one value by several names, so a class of this task mixes structures: {named(odd)} "
        f"{example}. `voco index` takes folders and files: list scans and label maps of one naming alone."
    )


def _modality(entries: Sequence[Entry], path: Path) -> str:
    """What all labelled scans are.

    Raises:
        UsageError: some are CT and some are not: no range of values suits both.
    """
    found = {entry.modality for entry in entries} - {"unknown", "mixed"}
    if "CT" in found and len(found) > 1:
        name = shlex.quote(str(path))
        raise UsageError(
            f"{path} has labels on {' and '.join(sorted(found))}, and a task has one range of values for all.",
            f"`voco tasks new {name} --modality MR` scales each scan by its own percentiles; "
            f"`voco index {name} --modality CT -o CT.json` lists the CTs alone",
        )
    return "CT" if found == {"CT"} else "MR" if found else "unknown"


def _with_channels(labelled: Sequence[Entry], path: Path) -> tuple[tuple[str, ...], list[Entry]]:
    """Names of the channels, and the cases with all of them: given in the list, or scans that share a label map.

    Raises:
        UsageError: cases differ in their channels.
    """
    given = {len(entry.channels) + 1 for entry in labelled}
    names = channels_of(labelled) if given == {1} else None
    if len(given) == 1 and given != {1}:
        return tuple(f"channel_{number}" for number in range(given.pop())), list(labelled)
    cases = merge_channels(labelled, Task(channels=names)) if names else []
    if names is None or len(cases) != len({entry.label for entry in labelled}):
        raise UsageError(
            f"{path} has label maps of several scans, and not of the same channels in every case.",
            "voco index FOLDER with the scans of one kind alone, or a list whose entries name their channels in order: "
            '{"image": [path, path], "label": path}',
        )
    return names, cases


def task_from_table(
    path: Path,
    images: Path,
    output: Path,
    backbone: Backbone,
    modality: str | None,
    advance: Progress,
    workers: int | None = None,
    start: Start | None = None,
) -> str:
    """The text of a task file for a CSV with the columns case and label, and scans named by the cases.

    Raises:
        UsageError: the table is wrong, or the folder does not hold its scans.
        DataError: a scan cannot be read.
    """
    rows = read_rows(path)
    if lacking := [case for case, row in rows.items() if not row["label"]]:
        raise UsageError(f"{path} has no label for {named(lacking)}.", "fill in the column label, or leave the row out")
    if not images.is_dir():
        raise UsageError(f"{images} is not a folder.", "give the folder of the scans with --images")
    pattern = next((one for one in IMAGE_PATTERNS if any(_scan(images, one, case).exists() for case in rows)), None)
    if pattern is None:
        raise UsageError(
            f"{images} holds no scan of the {len(rows)} cases of {path}.", "a scan is named by its case, as p1.nii.gz"
        )
    there = {case: _scan(images, pattern, case) for case in rows if _scan(images, pattern, case).exists()}
    known = patients_of(there.values())
    patients = {rows[case].get("patient") or known[scan] for case, scan in there.items()}
    entries = [Entry(image=scan, patient=case) for case, scan in list(there.items())[:MOST_SCANS_OF_A_TABLE]]
    facts = _look(entries, advance, workers)
    labels = sorted({row["label"] for row in rows.values()})
    kind = guess_modality(facts, modality or "unknown")
    plan = draft(facts, _categories(labels), kind, backbone, True, len(there), network_in(start))
    source = Source(
        name=_name(output),
        scans=len(entries),
        patients=len(patients),
        own_split=any("split" in row or "fold" in row for row in rows.values()),
        table=path,
        root=images,
        images=pattern,
    )
    return task_file(plan, source, backbone, output, start)


def network_in(start: Start | None) -> Network | None:
    """The network of the weights to start from."""
    return start.network if start else None


def _look(
    entries: Sequence[Entry], advance: Progress, workers: int | None, ignore_value: int | None = None
) -> list[CaseFacts]:
    look = partial(_facts_or_fault, ignore_value=ignore_value)
    found = map_files(look, entries, workers, advance, FEWEST_FOR_PROCESSES)
    faults = [one for one in found if isinstance(one, str)]
    if faults:
        raise DataError(f"{len(faults)} of {len(entries)} scans cannot be used: {named(faults, 3)}")
    return [one for one in found if isinstance(one, CaseFacts)]


def _facts_or_fault(entry: Entry, ignore_value: int | None) -> CaseFacts | str:
    try:
        return look_at(entry, ignore_value)
    except DataError as error:
        return error.message


def _categories(labels: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Numbers stand for themselves; names are numbered in their order."""
    if all(label.isdigit() for label in labels):
        return {label: (int(label),) for label in labels}
    return {label: (number,) for number, label in enumerate(labels)}


def _scan(folder: Path, pattern: str, case: str) -> Path:
    return folder / pattern.replace("{case}", case)


def _name(output: Path) -> str:
    return output.name.removesuffix(output.suffix)
