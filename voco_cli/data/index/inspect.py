"""Inspection of files: volumes that may be listed, single files and DICOM series; label maps and voxels checked."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voco_cli.data.index.datalist import Skipped
from voco_cli.data.index.patients import modality_of, modality_of_word, patients_of, places_of
from voco_cli.data.io.dicom import DicomSeries, group_slices, series_header
from voco_cli.data.io.dicom_slices import Slice, read_slices
from voco_cli.data.io.image import ROUNDING, Header, hounsfield_doubt, require_file, rounding_note, voxel_hash
from voco_cli.data.io.reader import file_format, read_header, read_scan
from voco_cli.errors import VocoError

FEW_VALUES = 64
"""A scan has more values than this; a label map with more is recognised by its flat regions."""
MOSTLY = 0.5
NEARLY_ALL = 0.9
BINARY = 3
LARGEST_UNNAMED = 255
LARGEST_COUNTED = 65_535
LEAST_NAMED = -2
"""Such as -1 for what nobody annotated. Air in a CT lies far below."""


@dataclass(frozen=True)
class Inspected:
    """What the header of a file says: a volume's header, a DICOM object's slices, or a fault; one of the three."""

    path: Path
    header: Header | None = None
    slices: tuple[Slice, ...] | None = None
    fault: str | None = None


@dataclass(frozen=True)
class VoxelCheck:
    """The result of decoding a scan, or a label map.

    Attributes:
        fault: why it cannot be used.
        content: hash of the voxels of a scan.
        notes: what is odd about a label map and no fault.
        doubt: why the scan, if it is a CT, may not be in HU.
    """

    fault: str | None = None
    content: str | None = None
    notes: tuple[str, ...] = ()
    doubt: str | None = None


@dataclass(frozen=True)
class ScanFiles:
    """A scan to decode: its file or folder, and the files of a series that no folder tells apart."""

    path: Path
    more: tuple[Path, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """Return all that is read."""
        return (self.path, *self.more)


def inspect_file(path: Path) -> Inspected:
    """Read the header of one file; a folder or an image of a list may be a DICOM series."""
    try:
        if path.is_dir():
            return Inspected(path, header=read_header(path))
        require_file(path)
        kind = file_format(path)
        if kind is None:
            return Inspected(path, fault="not an image (NIfTI, NRRD, MetaImage and DICOM are read).")
        if kind == "dicom":
            return Inspected(path, slices=read_slices(path))
        return Inspected(path, header=read_header(path))
    except Exception as error:
        return Inspected(path, fault=fault_of(error, path))


def is_label_map(path: Path, named: bool) -> bool:
    """Return whether a file's voxels are those of a label map: whole numbers, few of them or in flat regions.

    Args:
        named: its name says so; the voxels then only have to agree. Without, they have to be small and leave no doubt.
    """
    try:
        return holds_labels(read_scan(path).array_zyx, named)
    except Exception:  # ours, or a library's own on a damaged file: it cannot be listed either way
        return named


def holds_labels(array: NDArray[Any], named: bool) -> bool:
    """Return whether voxels are those of a label map (see `is_label_map`); NaN counts as no label."""
    lowest, highest = array.min(), array.max()
    if np.isnan(lowest):
        array = np.nan_to_num(array, nan=0.0, posinf=np.inf, neginf=-np.inf)
        lowest, highest = array.min(), array.max()
    if highest > (LARGEST_COUNTED if named else LARGEST_UNNAMED) or lowest < (LEAST_NAMED if named else 0):
        return False
    if array.dtype.kind == "f" and (array != np.rint(array)).any():
        return False
    there = np.zeros(int(highest - lowest) + 1, bool)
    for plane in array:  # one at a time: indices take eight times the memory of the voxels
        there[plane.astype(np.intp) - int(lowest)] = True
    different = int(np.count_nonzero(there))
    return different <= (FEW_VALUES if named else BINARY) or _flat_share(array) >= (MOSTLY if named else NEARLY_ALL)


def _flat_share(array: NDArray[Any]) -> float:
    """Return the share of neighbours along x, one of which is not 0, that are equal."""
    left, right = array[..., :-1], array[..., 1:]
    within = (left != 0) | (right != 0)
    count = int(np.count_nonzero(within))
    return int(np.count_nonzero(within & (left == right))) / count if count else 1.0


def check_scan(named: ScanFiles) -> VoxelCheck:
    """Decode a scan: NaN, infinite and constant voxels, and those of a label map, are faults."""
    try:
        scan = read_scan(named.path, named.more)
        array = scan.array_zyx
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            nans, infinite = int(np.isnan(array).sum()), int(np.isinf(array).sum())
            return VoxelCheck(fault=f"holds voxels that are no numbers: {nans} NaN and {infinite} infinite.")
        lowest, highest = array.min(), array.max()
        if lowest == highest:
            return VoxelCheck(fault=f"constant: every voxel is {lowest:g}.")
        if holds_labels(array, named=False):
            return VoxelCheck(fault="label map without a scan: its voxels are small whole numbers in flat regions.")
        return VoxelCheck(content=voxel_hash(scan), doubt=hounsfield_doubt(array))
    except Exception as error:
        return VoxelCheck(fault=fault_of(error, named.path))


def fault_of(error: Exception, name: Path | str) -> str:
    """Return the sentence of an error without the name that it begins with, which stands beside it."""
    if isinstance(error, VocoError):
        sentence = error.message.removeprefix(f"{name} ")
        return sentence.removeprefix("is ").removeprefix("has ")
    # A library's own exception on a damaged file: recorded with its kind rather than ending the batch.
    return f"cannot be read: {type(error).__name__}: {error}."


def check_label(path: Path) -> VoxelCheck:
    """Decode a label map: voxels that are not whole numbers are a fault."""
    try:
        array = read_scan(path).array_zyx
    except Exception as error:
        return VoxelCheck(fault=fault_of(error, path))
    if array.dtype.kind == "f" and (not np.isfinite(array).all() or (np.abs(array - np.rint(array)) > ROUNDING).any()):
        return VoxelCheck(fault="label map with values that are not whole numbers.")
    notes = [note] if (note := rounding_note(array)) else []
    return VoxelCheck(notes=tuple(notes if array.any() else [*notes, "the label map is empty"]))


@dataclass(frozen=True)
class Candidate:
    """A readable volume, scan or label map.

    Attributes:
        header: its shape and place.
        patient: identity.
        modality: CT, MR, PT, another DICOM modality, or unknown.
        files: of a DICOM series that no folder tells apart.
    """

    header: Header
    patient: str
    modality: str
    files: tuple[Path, ...] = ()
    study_uid: str | None = None
    series_uid: str | None = None

    @property
    def path(self) -> Path:
        """Return what the list will name."""
        return self.header.path


def find_candidates(
    inspected: Iterable[Inspected], roots: Mapping[Path, Path]
) -> tuple[dict[Path, Candidate], list[Skipped]]:
    """Return candidates by path, and what is none of them, with reasons.

    Args:
        inspected: files, from `inspect_file`.
        roots: the input folder of each file.
    """
    candidates: dict[Path, Candidate] = {}
    skipped: list[Skipped] = []
    slices: list[Slice] = []
    inspected = list(inspected)
    volumes = [one.path for one in inspected if one.header is not None]
    patients, places = patients_of(volumes), places_of(volumes)
    for one in inspected:
        if one.header is not None:
            modality = modality_of(one.path, roots[one.path], places)
            candidates[one.path] = Candidate(one.header, patients[one.path], modality)
        elif one.slices is not None and one.slices[0].is_image:
            slices += one.slices
        elif one.slices is not None:
            modality = one.slices[0].modality
            skipped.append(Skipped(path=one.path, reason=f"no image: a DICOM object of modality {modality}."))
        else:
            skipped.append(Skipped(path=one.path, reason=one.fault or "not read."))
    series = group_slices(slices)
    for found, (path, files) in zip(series, _names(series, roots), strict=True):
        candidate = _from_series(found, path, files)
        if isinstance(candidate, Skipped):
            skipped.append(candidate)
        else:
            candidates[candidate.path] = candidate
    return candidates, skipped


def _from_series(series: DicomSeries, path: Path, files: tuple[Path, ...]) -> Candidate | Skipped:
    first = series.first
    try:
        header, _ = series_header(series, path)
    except VocoError as error:
        return Skipped(path=path, reason=fault_of(error, series.name))
    return Candidate(
        header=header,
        patient=first.patient or patients_of([path])[path],
        modality=modality_of_word(first.modality),
        files=files,
        study_uid=first.study_uid or None,
        series_uid=first.series_uid or None,
    )


def _names(series: Sequence[DicomSeries], roots: Mapping[Path, Path]) -> list[tuple[Path, tuple[Path, ...]]]:
    """Name each series: by its only file, the folder that holds nothing else, or else its first file.

    A series over several folders that hold others too is named by its first file and lists all its files.
    """
    holding: dict[Path, set[int]] = defaultdict(set)
    for index, one in enumerate(series):
        for folder in one.folders:
            for above in (folder, *folder.parents):
                holding[above].add(index)
    names: list[tuple[Path, tuple[Path, ...]]] = []
    for index, one in enumerate(series):
        folder = Path(os.path.commonpath(one.folders))
        alone = holding[folder] == {index} and folder.is_relative_to(roots[one.first.path])
        files = one.files
        name = folder if alone and len(files) > 1 else files[0]
        names.append((name, files if name == files[0] and len(one.folders) > 1 else ()))
    return names
