"""DICOM slices sorted into volumes, placed by the position of every slice and scaled by the numbers of every slice.

SimpleITK reads a tilted or gapped series as a plain one with a warning, and rescales all slices by the first, so place
and values are worked out here, and it only decodes compressed pixels.
"""

from __future__ import annotations

import filecmp
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voco_cli.data.io.dicom_checks import check_acquisitions, check_alike, check_pixels, check_stack, stack_axes
from voco_cli.data.io.dicom_pixels import stored_frames, stored_range
from voco_cli.data.io.dicom_slices import Slice
from voco_cli.data.io.geometry import place
from voco_cli.data.io.image import Header, volume_shape
from voco_cli.errors import DataError

SAME_ORIENTATION = 0.01
SAME_SPACING_SHARE = 1e-3
HOUNSFIELD = {"", "HU", "US"}


@dataclass(frozen=True)
class DicomSeries:
    """The slices of one volume: one series UID, one slice size, one orientation; or the frames of one object.

    Attributes:
        name: what messages call it: file or folder, modality and description.
    """

    slices: tuple[Slice, ...]

    @property
    def first(self) -> Slice:
        """Return the slice that stands for all in what they share."""
        return self.slices[0]

    @property
    def files(self) -> tuple[Path, ...]:
        """Return its files, sorted, each once."""
        return tuple(sorted({one.path for one in self.slices}, key=str))

    @property
    def folders(self) -> tuple[Path, ...]:
        """Return the folders that hold its files, sorted."""
        return tuple(sorted({one.path.parent for one in self.slices}))

    @property
    def name(self) -> str:
        """Return file or folder, modality and description, for messages."""
        kind = " ".join(text for text in (self.first.modality, self.first.description) if text)
        where = self.files[0] if len(self.files) == 1 else self.folders[0]
        return f"{where} ({kind} series of {len(self.slices)})"


def group_slices(slices: Iterable[Slice]) -> list[DicomSeries]:
    """Sort slices into series by UID, patient, size and orientation, so that a scout does not spoil its scan.

    Slices whose UIDs were blanked go by what a series shares: folder, frame of reference, number and spacing.
    """
    by_series: dict[tuple[Any, ...], list[list[Slice]]] = {}
    for one in sorted(slices, key=lambda one: (str(one.path), one.frame)):
        groups = by_series.setdefault(_identity(one), [])
        for group in groups:
            if _belong_together(group[0], one):
                group.append(one)
                break
        else:
            groups.append([one])
    return [DicomSeries(tuple(group)) for groups in by_series.values() for group in groups]


def series_header(series: DicomSeries, path: Path) -> tuple[Header, tuple[Slice, ...]]:
    """Return the geometry of a series by the positions of its slices, and its slices from the first to the last.

    Raises:
        DataError: no pixels, colour, numbers of several units, several acquisitions, or a slice that cannot be decoded.
        GeometryError: no position, a gantry tilt, uneven gaps (named), slices twice or shifted, a single slice.
    """
    slices = _distinct(series)
    check_pixels(series.name, slices)
    check_alike(series.name, slices)
    row_mm, column_mm = stack_axes(series.name, slices)
    normal = np.cross(row_mm, column_mm)
    normal /= np.linalg.norm(normal)
    positions = np.array([one.position_mm for one in slices], dtype=np.float64)
    order = np.argsort(positions @ normal, kind="stable")
    positions, slices = positions[order], [slices[i] for i in order]
    check_stack(series.name, positions, normal, float(min(np.linalg.norm(row_mm), np.linalg.norm(column_mm))))
    step = (positions[-1] - positions[0]) / (len(slices) - 1)
    check_acquisitions(series.name, slices, float(np.linalg.norm(step)))
    placement = place(np.stack([row_mm, column_mm, step], axis=1), positions[0], path)
    first = slices[0]
    header = Header(
        path=path,
        shape_xyz=volume_shape((first.columns, first.rows, len(slices)), path),
        dtype=_dtype(slices),
        placement=placement,
        format="dicom",
        notes=(*placement.notes, *_notes(slices)),
        description=first.description,
    )
    return header, tuple(slices)


def read_series(series: DicomSeries, path: Path) -> tuple[Header, NDArray[Any]]:
    """Decode a series: stored number x slope + intercept of each slice.

    Returns:
        Its header, and array_zyx: whole numbers where all slopes and intercepts are whole, float32 elsewhere.
    Raises:
        DataError, GeometryError: as `series_header`; a slice that cannot be decoded (named).
    """
    header, slices = series_header(series, path)
    array_zyx = np.empty(header.shape_xyz[::-1], header.dtype)
    rows: dict[Path, list[int]] = {}
    for z, one in enumerate(slices):
        rows.setdefault(one.path, []).append(z)
    for file, places in rows.items():
        frames = stored_frames(file)
        for z in places:
            array_zyx[z] = _rescaled(frames[slices[z].frame], slices[z], array_zyx.dtype)
    _check_copies(series, slices)
    return header, array_zyx


def _identity(one: Slice) -> tuple[Any, ...]:
    """Return what the slices of a series have in common; one UID for two patients is a fault of anonymisation."""
    patient = one.patient if one.patient != one.study_uid else ""
    kind = (patient, one.modality, one.rows, one.columns, one.colour, one.scout)
    if one.frames > 1 or one.concatenation:  # an enhanced object is a volume of its own, also in one series
        return ("object", one.concatenation or one.sop_uid or one.path, *kind)
    if one.series_uid:
        return ("series", one.series_uid, *kind)
    shared = (one.path.parent, one.study_uid, one.frame_of_reference, one.series_number, one.description)
    return ("blanked", *shared, *kind)


def _belong_together(first: Slice, second: Slice) -> bool:
    if first.frames > 1:  # what is not of one orientation in one file is refused, since a file is one scan
        return True
    if first.orientation is None or second.orientation is None:
        return first.orientation is second.orientation
    if np.abs(np.subtract(first.orientation, second.orientation)).max() >= SAME_ORIENTATION:
        return False
    if first.series_uid or first.pixel_mm is None or second.pixel_mm is None:
        return True
    return bool(np.allclose(first.pixel_mm, second.pixel_mm, rtol=SAME_SPACING_SHARE))


def _distinct(series: DicomSeries) -> list[Slice]:
    """Return the slices without second copies of the same object: one UID, place and scale."""
    kept = {_copy_of(one): one for one in reversed(series.slices)}
    return sorted(kept.values(), key=lambda one: (str(one.path), one.frame))


def _copy_of(one: Slice) -> tuple[Any, ...]:
    uid = one.sop_uid or str(one.path)
    return (uid, one.frame, one.position_mm, one.orientation, one.slope, one.intercept, one.sweeps)


def _check_copies(series: DicomSeries, slices: Sequence[Slice]) -> None:
    """Compare the pixels of second copies with those of the slices that were taken.

    Raises:
        DataError: another picture under the same UID at the same place.
    """
    kept = {_copy_of(one): one.path for one in slices}
    pairs = sorted({(kept[_copy_of(one)], one.path) for one in series.slices if kept[_copy_of(one)] != one.path})
    for first, copy in pairs:
        if not filecmp.cmp(first, copy, shallow=False) and not np.array_equal(
            stored_frames(first), stored_frames(copy)
        ):
            raise DataError(
                f"{series.name} has one SOPInstanceUID on two pictures of the same place: {first.name}, {copy.name}.",
                "Remove the one that does not belong to the series.",
            )


def _rescaled(stored: NDArray[Any], one: Slice, dtype: np.dtype[Any]) -> NDArray[Any]:
    if one.slope is None or (one.slope, one.intercept) == (1.0, 0.0):
        return stored.astype(dtype, copy=False)
    if dtype.kind in "iu":
        return (stored.astype(np.int64) * int(one.slope) + int(one.intercept)).astype(dtype)
    return (stored.astype(np.float64) * one.slope + one.intercept).astype(dtype)


def _dtype(slices: Sequence[Slice]) -> str:
    """Return the smallest whole-number format for the bits and scale of every slice, else float32."""
    ends = []
    for one in slices:
        slope = 1.0 if one.slope is None else one.slope
        if slope != int(slope) or one.intercept != int(one.intercept):
            return "float32"
        ends += [int(end * slope + one.intercept) for end in stored_range(one.bits, one.signed)]
    for name in ("uint8", "int8", "uint16", "int16", "int32", "uint32"):
        limits = np.iinfo(name)
        if limits.min <= min(ends) and max(ends) <= limits.max:
            return name
    return "float32"


def _notes(slices: Sequence[Slice]) -> tuple[str, ...]:
    """Return what was chosen on reading, one sentence each."""
    first, notes = slices[0], []
    if not first.series_uid:
        notes.append(
            "its slices name no series (SeriesInstanceUID); those of one folder with the same size, orientation, "
            "spacing and frame of reference were taken to be one"
        )
    uids = {(one.sop_uid, one.frame) for one in slices if one.sop_uid}
    if doubled := sum(bool(one.sop_uid) for one in slices) - len(uids):
        notes.append(f"{doubled} slices at places of their own have the SOPInstanceUID of another, and were kept")
    if first.modality == "CT" and first.units.upper() not in HOUNSFIELD:
        notes.append(f"its numbers are {first.units} (RescaleType), not Hounsfield units")
    losses = Counter(one.note for one in slices if one.note)
    notes += [f"{count} of {len(slices)} slices were {note}" for note, count in losses.items()]
    return tuple(notes)
