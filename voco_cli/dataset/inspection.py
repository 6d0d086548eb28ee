"""One file looked at: what it is or what is wrong with it. Nothing is raised, so that one file never stops the rest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from voco_cli.errors import VocoError
from voco_cli.scans.content import voxel_hash
from voco_cli.scans.dicom_slices import Slice, read_slices
from voco_cli.scans.header import Header, require_file
from voco_cli.scans.read import file_format, read_header, read_scan

MAX_LABEL_VALUE = 4096


@dataclass(frozen=True)
class Inspected:
    """Exactly one of header (a volume), slices (a DICOM object, image or not) and fault is given."""

    path: Path
    header: Header | None = None
    slices: tuple[Slice, ...] | None = None
    fault: str | None = None


@dataclass(frozen=True)
class VoxelJob:
    """A scan to decode, with its label."""

    path: Path
    files: tuple[Path, ...] = ()
    label: Path | None = None


@dataclass(frozen=True)
class VoxelCheck:
    """What the voxels say.

    Attributes:
        fault: why the scan cannot be used.
        label_fault: why its label cannot be used.
        content: hash of the voxels.
        notes: what is odd and no fault.
    """

    fault: str | None = None
    label_fault: str | None = None
    content: str | None = None
    notes: tuple[str, ...] = ()


def inspect_file(path: Path) -> Inspected:
    """Look at the header of one file; a folder or an image of a list may be a DICOM series."""
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


def is_label_like(path: Path) -> bool:
    """Whether the voxels of a file are small whole numbers from 0, as those of a label map are."""
    try:
        array = read_scan(path).array_zyx
        if array.min() < 0 or array.max() > MAX_LABEL_VALUE or not np.isfinite(array).all():
            return False
        return array.dtype.kind in "iub" or bool((array == np.rint(array)).all())
    except VocoError:
        return True  # it cannot be listed either way, and its name says label


def check_voxels(job: VoxelJob) -> VoxelCheck:
    """Decode a scan and its label: NaN, infinite and constant voxels, labels that are not whole numbers."""
    try:
        scan = read_scan(job.path, job.files)
        array = scan.array_zyx
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            nans, infinite = int(np.isnan(array).sum()), int(np.isinf(array).sum())
            return VoxelCheck(fault=f"holds voxels that are no numbers: {nans} NaN and {infinite} infinite.")
        lowest, highest = array.min(), array.max()
        if lowest == highest:
            return VoxelCheck(fault=f"constant: every voxel is {lowest:g}.")
        content = voxel_hash(scan)
    except Exception as error:
        return VoxelCheck(fault=fault_of(error, job.path))
    label_fault, notes = _check_label(job.label) if job.label else (None, ())
    return VoxelCheck(label_fault=label_fault, content=content, notes=notes)


def fault_of(error: Exception, name: Path | str) -> str:
    """The sentence of an error without the name it begins with, which stands beside it."""
    if isinstance(error, VocoError):
        sentence = error.message.removeprefix(f"{name} ")
        return sentence.removeprefix("is ").removeprefix("has ")
    # A library's own exception on a damaged file: recorded with its kind rather than ending the batch.
    return f"cannot be read: {type(error).__name__}: {error}."


def _check_label(path: Path) -> tuple[str | None, tuple[str, ...]]:
    try:
        array = read_scan(path).array_zyx
    except Exception as error:
        return fault_of(error, path), ()
    if not np.isfinite(array).all() or (array.dtype.kind == "f" and (array != np.rint(array)).any()):
        return "label map with values that are not whole numbers.", ()
    return None, () if array.any() else ("the label map is empty",)
