"""data.json, a Decathlon datalist that says more of each scan: its model, splits, names of cases, summary."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    PositiveFloat,
    PositiveInt,
    SerializationInfo,
    ValidationInfo,
)

from voco_cli.data.index.patients import IMPERSONAL, case_of, stem_of
from voco_cli.data.io.image import Scan
from voco_cli.data.io.reader import read_scan
from voco_cli.errors import DataError, UsageError
from voco_cli.object_stores import is_address, is_remote, location, shared_folder

FORMAT = "voco-data/1"
OTHER_NAMES = "its label map gives other names to the same values than others do"
"""How the note of an entry begins whose label map cannot be learned together with the others."""
LONGEST_NAME = 200
"""Bytes of a case's name: file systems take 255, and endings come behind it."""
SPLITS: tuple[Literal["training", "validation", "test"], ...] = ("training", "validation", "test")
Shape = tuple[PositiveInt, PositiveInt, PositiveInt]
Spacing = tuple[PositiveFloat, PositiveFloat, PositiveFloat]


def _to_path(value: object, info: ValidationInfo) -> Path:
    """Return a path; relative text is below the folder that is the context of the validation."""
    if isinstance(value, Path):
        return value
    if isinstance(value, str) and value and "\0" not in value:
        try:
            return location(absolute_name(value, info.context) if info.context is not None else value)
        except UsageError as error:
            raise ValueError(error.message.rstrip(".")) from error
    raise ValueError(f"{value!r} is not a path")


def absolute_name(name: str, folder: Path) -> str:
    """Return the path or URL that a list in this folder means by a name, also one that was written on Windows."""
    if is_address(name):
        return name
    if "\\" in name and os.sep == "/" and not Path(folder, name).exists():
        name = name.replace("\\", "/")
    return os.path.normpath(os.path.join(folder, os.path.expanduser(name)))  # noqa: PTH111, PTH118 (160,000 of them)


def _to_text(path: Path, info: SerializationInfo) -> Path | str:
    """Return the path as it is, or, with a folder as context, as a list in that folder names it.

    Relative where the two share more than the root of the disk, so that both can move together.
    """
    if info.context is None:
        return path
    if is_remote(path):
        return str(path)
    name, folder = str(path), str(info.context)
    if name.startswith(f"{folder}{os.sep}") and os.pardir not in name:
        return name[len(folder) + 1 :]  # what the last line says, at a tenth of its time
    if not os.path.isabs(name):  # noqa: PTH117
        name = os.path.abspath(name)  # noqa: PTH100
    shared = os.path.commonpath((name, info.context))
    return name if shared == os.path.sep else os.path.relpath(name, info.context)


def is_file_name(name: str) -> bool:
    """Return whether a case may be called so, and its prediction be a file of that name: no path, no control codes."""
    letters = all(letter >= " " and letter not in "/\x7f" for letter in name)
    return letters and name not in ("", ".", "..") and len(name.encode("utf-8", "replace")) <= LONGEST_NAME


def _case_name(value: str | None) -> str | None:
    if value is not None and not is_file_name(value):
        raise ValueError(f"{value[:LONGEST_NAME]!r} cannot be the name of a file")
    return value


# pydantic's own validator of paths takes most of the time of opening a list of 160,000 scans.
FilePath = Annotated[Path, PlainValidator(_to_path), PlainSerializer(_to_text)]


class Entry(BaseModel):
    """One scan of a datalist. Paths are absolute here, and relative to data.json on disk where they can be."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image: FilePath = Field(
        description="file or URL, folder of a DICOM series, or its first file where a folder holds several"
    )
    label: FilePath | None = Field(None, description="label map on the same grid")
    label_set: str | None = Field(None, description="which of label_sets says what the values of the label map are")
    labelled_classes: tuple[str, ...] = Field((), description="classes that the label map is complete for")
    scan_labels: dict[str, bool] = Field(
        default_factory=dict, description="class to whether it is somewhere in the scan; unknown where it is not named"
    )
    data_set: str | None = Field(None, description="data set that the scan comes from, where there are several")
    patient: str = Field(description="identity that splits go by")
    shape: Shape | None = Field(None, description="voxels along x, y, z; none in a plain Decathlon list")
    spacing_mm: Spacing | None = Field(None, description="distance of voxel centres along x, y, z, mm")
    orientation: str | None = Field(None, description="where each voxel axis grows to, such as RAS")
    modality: str = Field("unknown", description="CT, MR, PT or unknown")
    files: tuple[FilePath, ...] = Field((), description="files of a DICOM series that no folder tells apart")
    study_uid: str | None = Field(None, description="DICOM StudyInstanceUID")
    series_uid: str | None = Field(None, description="DICOM SeriesInstanceUID")
    case: Annotated[str | None, AfterValidator(_case_name)] = Field(
        None, description="name of the case; none is the image's, without a channel number"
    )
    channels: tuple[FilePath, ...] = Field((), description="further input channels, on the grid of the image")
    category: str | None = Field(None, description="category of the whole scan, for classification")
    content: str | None = Field(None, description="hash of the decoded voxels, from a full check")
    notes: tuple[str, ...] = Field((), description="what was repaired or chosen on reading")

    def __hash__(self) -> int:
        """Return a hash of its files: equal entries have equal ones, and a dict such as scan_labels has none."""
        return hash((self.image, self.label, self.channels))

    @property
    def name(self) -> str:
        """Return what the case is called in messages, random draws and predictions."""
        return self.case or case_of(self.image)

    @property
    def set_name(self) -> str:
        """Return the set that `data.mix` draws it with: its label set, else its data set; empty where it has none."""
        return self.label_set or self.data_set or ""

    def channel_entries(self) -> tuple[Entry, ...]:
        """Return an entry for each input channel; the label map goes with the first."""
        others = (Entry(image=path, patient=self.patient, modality=self.modality) for path in self.channels)
        return (self.model_copy(update={"channels": ()}), *others)


class Skipped(BaseModel):
    """A file that is not listed, and why."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: FilePath = Field(description="file or folder")
    reason: str = Field(description="one sentence, beginning with the kind of fault")


class LabelSet(BaseModel):
    """What the label maps of one source hold."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    names: dict[str, str] = Field(default_factory=dict, description="label value to name, as the source has it")
    values: dict[str, tuple[str, ...]] = Field(
        description="label value to the classes that its voxels belong to; values that are not here are background"
    )
    ignore: int | None = Field(None, description="label value of voxels that nobody annotated")


class SplitRule(BaseModel):
    """How patients were drawn, by which the same draw is recognised."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(0, description="seed of the hash")
    validation: float = Field(0.1, ge=0, lt=1, description="share of patients held out for validation")
    test: float = Field(0.0, ge=0, lt=1, description="share of patients held out for testing")


class Datalist(BaseModel):
    """All of data.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["voco-data/1"] = Field("voco-data/1", description="name and version of this format")
    name: str = Field("dataset", description="name of the dataset")
    modality: str = Field("unknown", description="modality of all scans, or mixed")
    labels: dict[str, str] = Field(default_factory=dict, description="label value to name")
    classes: tuple[str, ...] = Field((), description="classes of all label sets, merged, in the order of a network's")
    regions: dict[str, tuple[str, ...]] = Field(default_factory=dict, description="class to those that lie inside it")
    label_sets: dict[str, LabelSet] = Field(default_factory=dict, description="what the label maps of each source hold")
    scan_classes: tuple[str, ...] = Field(
        (), description="classes of scan labels; a name means what it does in classes"
    )
    class_notes: tuple[str, ...] = Field(
        (), description="where classes of the sets, or scan labels, do not agree or are not read"
    )
    split: SplitRule | None = Field(None, description="how patients were drawn; none where a list came with its splits")
    training: tuple[Entry, ...] = Field((), description="scans to train on")
    validation: tuple[Entry, ...] = Field((), description="scans held out, of other patients")
    test: tuple[Entry, ...] = Field((), description="scans left aside until the end, of other patients")
    skipped: tuple[Skipped, ...] = Field((), description="what was found and is not listed")
    statistics: dict[str, Any] = Field(default_factory=dict, description="summary of the listed scans")

    def entries(self) -> Iterator[tuple[str, Entry]]:
        """Yield every scan with the name of its split: training, validation, test."""
        for split in SPLITS:
            for entry in getattr(self, split):
                yield split, entry


def read_entry(entry: Entry) -> Scan:
    """Read the scan of an entry, and see that it is still the one that was indexed.

    Raises:
        DataError: as `read_scan`, or another shape than the index says.
    """
    scan = read_scan(entry.image, entry.files)
    if entry.shape is not None and scan.shape_xyz != entry.shape:
        raise DataError(
            f"{entry.image} has shape {scan.shape_xyz}, and the index says {entry.shape}.", "Run `voco index` again."
        )
    return scan


# Which split wins for a patient who is in two: held out is held out.
HELD_OUT_FIRST = ("test", "validation", "training")


def position(seed: int, patient: str) -> float:
    """Return a number in [0, 1) that depends on seed and patient alone (the first 8 bytes of BLAKE2b)."""
    digest = hashlib.blake2b(f"{seed}\0{patient}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def assign_splits(
    patients: Iterable[str],
    rule: SplitRule,
    listed: Mapping[str, str] | None = None,
    earlier: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return the split of every patient.

    A patient is tested where `position` is below the test share, validated where it is below both shares together, and
    trained on otherwise; nobody's place depends on who else is there. Where a validation share is asked for and nobody
    falls below it, the patient with the least position who would be trained on validates; only that one may move as the
    folder grows, and not where ``earlier`` is given. Where nobody would be trained on, the one with the greatest
    position is.

    Args:
        listed: splits that input lists prescribe; they win.
        earlier: splits of an index that was made by the same rule; they win next.
    """
    known = {**(earlier or {}), **(listed or {})}
    everyone = list(dict.fromkeys(patients))
    splits = {patient: known.get(patient) or _drawn(position(rule.seed, patient), rule) for patient in everyone}
    if "training" not in splits.values():
        drawn = [who for who in everyone if who not in known]
        if drawn:
            splits[max(drawn, key=lambda who: position(rule.seed, who))] = "training"
    if rule.validation > 0 and "validation" not in splits.values():
        free = [who for who in everyone if splits[who] == "training" and who not in (listed or {})]
        if len(free) > 1:
            splits[min(free, key=lambda who: position(rule.seed, who))] = "validation"
    return splits


def stricter(first: str, second: str) -> str:
    """Return the split of the two that is held out the more."""
    return min(first, second, key=HELD_OUT_FIRST.index)


def _drawn(where: float, rule: SplitRule) -> str:
    if where < rule.test:
        return "test"
    return "validation" if where < rule.test + rule.validation else "training"


def with_distinct_names(entries: Sequence[Entry]) -> list[Entry]:
    """Return entries of which no two have one name; those that had it get ``case``."""
    names = distinct_names({entry.image: entry.name for entry in entries})
    return [
        entry if entry.name == (name := names[entry.image]) else entry.model_copy(update={"case": name})
        for entry in entries
    ]


def distinct_names(names: Mapping[Path, str]) -> dict[Path, str]:
    """Return a name for each file, of which no two are the same; a name that only one file has stays as it is.

    ``case_1/imaging.nii.gz`` and ``case_2/imaging.nii.gz`` are ``case_1`` and ``case_2``; ``a/p1.nii.gz`` and
    ``b/p1.nii.gz`` are ``a_p1`` and ``b_p1``; ``x_0000`` and ``x_0001``, which both were ``x``, keep their numbers.
    What folders all have in common is left out.
    """
    groups: dict[str, list[Path]] = defaultdict(list)
    for path, name in names.items():
        groups[name].append(path)
    inhabitants = Counter(path.parent for path in names)
    renamed: dict[Path, str] = {}
    for members in groups.values():
        if len(members) > 1:
            renamed |= _distinguished(members, alone=all(inhabitants[path.parent] == 1 for path in members))
    taken = {name for path, name in names.items() if path not in renamed}
    return {**names, **_with_free_names(renamed, taken)}


def _distinguished(members: Sequence[Path], alone: bool) -> dict[Path, str]:
    """Return names by the stem where stems differ, else by the folders that differ.

    Args:
        alone: each lies alone in its folder, which then needs no word of what it is.
    """
    stems = {path: stem_of(path) for path in members}
    if len(set(stems.values())) == len(members):
        return stems
    above = shared_folder(path.parent for path in members)
    folders = {path: path.parent.relative_to(above).parts for path in members}
    if len({len(parts) for parts in folders.values()}) == 1:
        differing = [len(set(column)) > 1 for column in zip(*folders.values(), strict=True)]
        folders = {
            path: tuple(part for part, kept in zip(parts, differing, strict=True) if kept)
            for path, parts in folders.items()
        }
    nameless = alone and all(IMPERSONAL.fullmatch(stem) for stem in stems.values())
    return {path: "_".join(parts if nameless and parts else (*parts, stems[path])) for path, parts in folders.items()}


def _with_free_names(renamed: Mapping[Path, str], taken: set[str]) -> dict[Path, str]:
    """Return the names, shortened where too long for a file, and with a number where taken."""
    final: dict[Path, str] = {}
    for path in sorted(renamed):
        name = renamed[path].encode()[-LONGEST_NAME:].decode("utf-8", "ignore")
        numbered = (f"{name}_{number}" for number in itertools.count(2))
        final[path] = next(one for one in itertools.chain([name], numbered) if one not in taken)
        taken.add(final[path])
    return final


def summarise(splits: Mapping[str, Sequence[Entry]]) -> dict[str, Any]:
    """Count scans, patients and labels, and return least, median and greatest size along x, y, z (voxels, mm).

    Args:
        splits: name of a split to its scans, all with shape and spacing.
    """
    entries = [entry for members in splits.values() for entry in members]
    shapes = np.array([entry.shape for entry in entries if entry.shape], dtype=np.float64).reshape(-1, 3)
    spacings = np.array([entry.spacing_mm for entry in entries if entry.spacing_mm], dtype=np.float64).reshape(-1, 3)
    summary: dict[str, Any] = {
        "scans": len(entries),
        "patients": len({entry.patient for entry in entries}),
        "labelled": sum(entry.label is not None for entry in entries),
        "splits": {
            name: {"scans": len(members), "patients": len({entry.patient for entry in members})}
            for name, members in splits.items()
        },
        "modalities": counted(entry.modality for entry in entries),
        "orientations": counted(entry.orientation or "unknown" for entry in entries),
    }
    if len(shapes) and len(shapes) == len(spacings):
        summary["shape"] = _range(shapes, 0)
        summary["spacing_mm"] = _range(spacings, 4)
        summary["extent_mm"] = _range(shapes * spacings, 1)
        summary["voxels"] = int(shapes.prod(axis=1).sum())
    return summary


def counted(values: Iterable[str]) -> dict[str, int]:
    """Count equal values, the most frequent first."""
    return dict(sorted(Counter(values).items(), key=lambda item: (-item[1], item[0])))


def _range(rows: NDArray[np.float64], digits: int) -> dict[str, list[float]]:
    named = {"least": rows.min(axis=0), "median": np.median(rows, axis=0), "greatest": rows.max(axis=0)}
    return {name: [round(float(value), digits) for value in values] for name, values in named.items()}
