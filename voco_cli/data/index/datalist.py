"""data.json: a Decathlon datalist that says more of each scan, as it lies in memory and on disk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

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

from voco_cli.data.index.patients import case_of
from voco_cli.data.io.image import Scan
from voco_cli.data.io.reader import read_scan
from voco_cli.errors import DataError

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
        return Path(absolute_name(value, info.context) if info.context is not None else value)
    raise ValueError(f"{value!r} is not a path")


def absolute_name(name: str, folder: Path) -> str:
    """Return the path that a list in this folder means by a name, also one that was written on Windows."""
    if "\\" in name and os.sep == "/" and not Path(folder, name).exists():
        name = name.replace("\\", "/")
    return os.path.normpath(os.path.join(folder, os.path.expanduser(name)))  # noqa: PTH111, PTH118 (160,000 of them)


def _to_text(path: Path, info: SerializationInfo) -> Path | str:
    """Return the path as it is, or, with a folder as context, as a list in that folder names it.

    Relative where the two share more than the root of the disk, so that both can move together.
    """
    if info.context is None:
        return path
    name = str(path)
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
        description="file, folder of a DICOM series, or its first file where a folder holds several"
    )
    label: FilePath | None = Field(None, description="label map on the same grid")
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

    @property
    def name(self) -> str:
        """Return what the case is called in messages, random draws and predictions."""
        return self.case or case_of(self.image)

    def channel_entries(self) -> tuple[Entry, ...]:
        """Return an entry for each input channel; the label map goes with the first."""
        others = (Entry(image=path, patient=self.patient, modality=self.modality) for path in self.channels)
        return (self.model_copy(update={"channels": ()}), *others)


class Skipped(BaseModel):
    """A file that is not listed, and why."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: FilePath = Field(description="file or folder")
    reason: str = Field(description="one sentence, beginning with the kind of fault")


class SplitRule(BaseModel):
    """How patients were drawn, so that the same draw can be told from another."""

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
    split: SplitRule | None = Field(None, description="how patients were drawn; none where a list came with its splits")
    training: tuple[Entry, ...] = Field((), description="scans to train on")
    validation: tuple[Entry, ...] = Field((), description="scans held out, of other patients")
    test: tuple[Entry, ...] = Field((), description="scans not looked at before the end, of other patients")
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
