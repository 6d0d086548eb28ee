"""A task file for scans of one's own: from a list with label maps, or from a table of categories and a folder."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from voco_cli.config.task_schema import Task
from voco_cli.data.index.case_table import read_rows
from voco_cli.data.index.datalist import OTHER_NAMES, Entry
from voco_cli.data.index.datalist_file import read_datalist
from voco_cli.data.index.patients import SUFFIXES, patients_of
from voco_cli.data.io.image import ignored_value
from voco_cli.data.parallel import map_files
from voco_cli.errors import DataError, UsageError
from voco_cli.foreign_text import named
from voco_cli.tasks.channels import channels_of, merge_channels
from voco_cli.tasks.template import (
    CaseFacts,
    Network,
    Template,
    classes_of,
    guess_modality,
    make_template,
    read_facts,
)

FEWEST_FOR_PROCESSES = 8
MOST_SCANS_OF_A_TABLE = 50
"""Spacing and intensities of more scans would say no more."""
IMAGE_PATTERNS = (
    *(f"{{case}}{suffix}" for suffix in SUFFIXES),
    *(f"{{case}}_0000{suffix}" for suffix in SUFFIXES),
    "{case}.npy",
    "{case}",
)


@dataclass(frozen=True)
class Source:
    """Scans to make a task of.

    Attributes:
        path: the list, or the table.
        entries: scans to read, with all their channels.
        training: how many there are to train on.
        patients: how many there are to draw a split from.
        own_split: list or table say who validates.
        modality: CT, MR, or unknown.
        names: of a list, label values to their names.
        categories: of a table, to their values; empty for a list.
        images, pattern: of a table, the folder of its scans, and where a scan lies in it.
        channels: names of the input channels.
        ignore_value: label value of voxels that nobody annotated, if there is one.
        mixed_names: sentence on label maps that call one value by several names; none where they agree.
    """

    path: Path
    entries: tuple[Entry, ...]
    training: int
    patients: int
    own_split: bool
    modality: str
    names: Mapping[str, str] = field(default_factory=dict)
    categories: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    images: Path | None = None
    pattern: str = ""
    channels: tuple[str, ...] = ("image",)
    ignore_value: int | None = None
    mixed_names: str | None = None


def source_of_list(path: Path, modality: str | None = None) -> Source:
    """Take the labelled scans of data.json or a Decathlon list.

    Args:
        modality: CT or MR; none is what the list says.
    Raises:
        UsageError: there is no labelled scan, the list's keys are wrong, or some scans are CT and some are not.
        DataError: the list cannot be read.
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
    channels, cases = _with_channels(labelled, path)
    # A window is one of HU, which all channels have to have.
    together = "CT" if modalities == {"CT"} else "MR"
    trained = {entry.image for entry in datalist.training}
    return Source(
        path=path,
        entries=tuple(cases),
        training=sum(entry.image in trained for entry in cases),
        patients=len({entry.patient for entry in cases}),
        own_split=any(entry.label is not None for entry in datalist.validation),
        modality=modality or (_modality(cases, path) if len(channels) == 1 else together),
        names=datalist.labels,
        channels=channels,
        ignore_value=ignored_value(datalist.labels),
        mixed_names=_mixed_names(cases),
    )


def _mixed_names(entries: Iterable[Entry]) -> str | None:
    """Say which label maps call one value by several names, so that no class means one thing."""
    odd = {entry.name: note for entry in entries for note in entry.notes if note.startswith(OTHER_NAMES)}
    if not odd:
        return None
    example = next(iter(odd.values())).removeprefix(OTHER_NAMES).partition(", so ")[0].strip()
    return (
        f"The label maps call one value by several names, so a class of this task mixes structures: {named(odd)} "
        f"{example}. `voco index` takes folders and files: list scans and label maps of one naming alone."
    )


def _modality(entries: Sequence[Entry], path: Path) -> str:
    """Return what all labelled scans are.

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
    """Return names of the channels, and the cases with all of them: given in the list, or scans of one label map.

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


def source_of_table(path: Path, images: Path, modality: str | None = None) -> Source:
    """Take the scans that the cases of a CSV with the columns case and label name in a folder.

    Args:
        modality: CT or MR; none is judged by the values of the scans.
    Raises:
        UsageError: the table is wrong, or the folder does not hold its scans.
    """
    rows = read_rows(path)
    if lacking := [case for case, row in rows.items() if not row["label"]]:
        raise UsageError(f"{path} has no label for {named(lacking)}.", "fill in the column label, or leave the row out")
    if not images.is_dir():
        raise UsageError(f"{images} is not a folder.", "give the folder of the scans with --images")
    places = ({case: images / one.replace("{case}", case) for case in rows} for one in IMAGE_PATTERNS)
    found = ({case: scan for case, scan in scans.items() if scan.exists()} for scans in places)
    pattern, there = next(((one, scans) for one, scans in zip(IMAGE_PATTERNS, found, strict=False) if scans), ("", {}))
    if not there:
        raise UsageError(
            f"{images} holds no scan of the {len(rows)} cases of {path}.", "a scan is named by its case, as p1.nii.gz"
        )
    known = patients_of(there.values())
    labels = sorted({row["label"] for row in rows.values()})
    numbers = all(label.isdigit() for label in labels)
    return Source(
        path=path,
        entries=tuple(Entry(image=scan, patient=case) for case, scan in list(there.items())[:MOST_SCANS_OF_A_TABLE]),
        training=len(there),
        patients=len({rows[case].get("patient") or known[scan] for case, scan in there.items()}),
        own_split=any("split" in row or "fold" in row for row in rows.values()),
        modality=modality or "unknown",
        # Numbers stand for themselves; names are numbered in their order.
        categories={label: (int(label) if numbers else number,) for number, label in enumerate(labels)},
        images=images,
        pattern=pattern,
    )


def task_file(
    source: Source,
    output: Path,
    network: str | Network,
    advance: Callable[[int], object],
    workers: int | None = None,
) -> str:
    """Read the scans and return the text of a task file, with the reason of every value beside it.

    Args:
        output: where the file will lie; the paths in it are relative to its folder.
        network: that of weights to start from, or the kind of a fresh one.
        advance: called with the number of scans that were read.
        workers: processes; none is one a core where it pays.
    Raises:
        DataError: a scan cannot be read, or a label map does not fit its scan.
        UsageError: the label maps hold nothing but background.
    """
    read = partial(_facts_or_fault, ignore_value=source.ignore_value)
    found = map_files(read, source.entries, workers, advance, FEWEST_FOR_PROCESSES)
    if faults := [one for one in found if isinstance(one, str)]:
        raise DataError(f"{len(faults)} of {len(found)} scans cannot be used: {named(faults, 3)}")
    facts = [one for one in found if isinstance(one, CaseFacts)]
    whole = bool(source.categories)
    classes = source.categories or classes_of(facts, source.names)
    modality = guess_modality(facts, source.modality)
    return _render(source, make_template(facts, classes, modality, network, whole, source.training), output)


def _facts_or_fault(entry: Entry, ignore_value: int | None) -> CaseFacts | str:
    try:
        return read_facts(entry, ignore_value)
    except DataError as error:
        return error.message


def _render(source: Source, plan: Template, output: Path) -> str:
    environment = Environment(
        undefined=StrictUndefined,
        loader=FileSystemLoader(Path(__file__).parent),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "json": json.dumps,
        "one_line": lambda text: " ".join(text.split()),
        "relative": partial(_relative, output=output),
        "range": lambda pair: f"{pair[0]:.3g}" if pair[0] == pair[1] else f"{pair[0]:.3g} to {pair[1]:.3g}",
        "short": lambda value: f"{value:g}",
    }
    weights = " ".join(plan.network.weights.split())
    return environment.get_template("task.yaml.j2").render(
        source=source,
        plan=plan,
        output=output,
        name=output.name.removesuffix(output.suffix),
        whole=bool(source.categories),
        start=f" --weights {shlex.quote(weights)}" if weights else "",
    )


def _relative(path: Path, output: Path) -> str:
    """Return a path from the folder of the task file, absolute where they share nothing but the root."""
    here, there = output.resolve().parent, path.resolve()
    shared = os.path.commonpath((here, there))
    return str(there) if shared == os.path.sep else os.path.relpath(there, here)
