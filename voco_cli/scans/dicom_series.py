"""DICOM slices sorted into volumes, with the checks that a reader must not skip.

SimpleITK reads a tilted or gapped series as a plain one with a warning, so the geometry is worked out here from the
position of every slice, and SimpleITK only decodes the pixels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from voco_cli.errors import DataError, GeometryError
from voco_cli.scans.dicom_slices import Slice
from voco_cli.scans.geometry import MAX_REPAIR_DEG, place
from voco_cli.scans.header import Header, volume_shape

# Slice positions are written with two or three decimals; a missing slice doubles a gap.
GAP_SHARE, GAP_MM = 0.02, 0.05
SIDEWAYS_PIXELS = 0.25
SAME_ORIENTATION = 0.01


@dataclass(frozen=True)
class Series:
    """The slices of one volume: one series UID, one slice size, one orientation.

    Attributes:
        name: what messages call it: file or folder, modality and description.
    """

    slices: tuple[Slice, ...]

    @property
    def first(self) -> Slice:
        """The slice that stands for all in what they share."""
        return self.slices[0]

    @property
    def folders(self) -> tuple[Path, ...]:
        """Folders that hold its files, sorted."""
        return tuple(sorted({one.path.parent for one in self.slices}))

    @property
    def name(self) -> str:
        """Folder, modality and description, for messages."""
        kind = " ".join(text for text in (self.first.modality, self.first.description) if text)
        return f"{self.folders[0]} ({kind} series of {len(self.slices)})"


def group_slices(slices: Iterable[Slice]) -> list[Series]:
    """Sort slices into series by UID, size and orientation, so that a scout does not spoil the scan it came with."""
    by_series: dict[tuple[str, int, int], list[list[Slice]]] = {}
    for one in sorted(slices, key=lambda one: str(one.path)):
        groups = by_series.setdefault((one.series_uid, one.rows, one.columns), [])
        for group in groups:
            if _alike(group[0], one):
                group.append(one)
                break
        else:
            groups.append([one])
    return [Series(tuple(group)) for groups in by_series.values() for group in groups]


def series_header(series: Series, path: Path) -> tuple[Header, tuple[Path, ...]]:
    """Geometry of a series from the positions of its slices, and its files from the first to the last slice.

    Raises:
        DataError: no pixels, colour, several frames in a file, or a truncated file.
        GeometryError: no position, a gantry tilt, uneven gaps (named), slices twice or shifted, a single slice.
    """
    slices = _distinct(series)
    _check_images(series, slices)
    first = slices[0]
    assert first.orientation is not None  # _check_images saw to it
    assert first.pixel_mm is not None
    row, column = np.array(first.orientation[:3]), np.array(first.orientation[3:])
    normal = np.cross(row, column)
    positions = np.array([one.position_mm for one in slices], dtype=np.float64)
    order = np.argsort(positions @ normal, kind="stable")
    positions = positions[order]
    _check_stack(series, positions, normal, first.pixel_mm)
    step = (positions[-1] - positions[0]) / (len(slices) - 1)
    axes = np.stack([row * first.pixel_mm[1], column * first.pixel_mm[0], step], axis=1)
    placement = place(axes, positions[0], path)
    header = Header(
        path=path,
        shape_xyz=volume_shape((first.columns, first.rows, len(slices)), path),
        dtype=_dtype(slices),
        placement=placement,
        format="dicom",
        notes=placement.notes,
        description=first.description,
    )
    return header, tuple(slices[i].path for i in order)


def read_series(files: tuple[Path, ...], header: Header) -> NDArray[Any]:
    """Decode sorted slices (array_zyx; whole numbers stay whole, fractions become float32).

    Raises:
        DataError: a slice that cannot be decoded.
    """
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(file) for file in files])
    # ITK would warn of spacing here; that was checked on the positions.
    reader.SetGlobalWarningDisplay(False)
    try:
        array: NDArray[Any] = sitk.GetArrayFromImage(reader.Execute())
    except RuntimeError as error:
        text = [line.strip() for line in str(error).splitlines() if line.strip()][-1]
        raise DataError(f"{header.path} has a DICOM slice that cannot be decoded: {text.rstrip('.')}.") from error
    if array.shape != header.shape_xyz[::-1]:
        raise DataError(f"{header.path} decodes to shape {array.shape[::-1]}, and {header.shape_xyz} was announced.")
    return array.astype(np.float32) if array.dtype == np.float64 else array


def _alike(first: Slice, second: Slice) -> bool:
    if first.orientation is None or second.orientation is None:
        return first.orientation is second.orientation
    return bool(np.abs(np.subtract(first.orientation, second.orientation)).max() < SAME_ORIENTATION)


def _distinct(series: Series) -> list[Slice]:
    """The slices without second copies of the same object."""
    kept = {one.sop_uid or str(one.path): one for one in reversed(series.slices)}
    return sorted(kept.values(), key=lambda one: str(one.path))


def _check_images(series: Series, slices: list[Slice]) -> None:
    first = slices[0]
    if not first.is_image:
        raise DataError(f"{series.name} holds no image.")
    if any(one.frames > 1 for one in slices):
        raise DataError(
            f"{series.name} has several frames in one file (enhanced DICOM), which is not read.",
            "Convert it first, for example with dcm2niix.",
        )
    if first.samples != 1:
        raise DataError(f"{series.name} is a colour picture, and a scan holds one number a voxel.")
    for one in slices:
        if one.missing_bytes:
            raise DataError(f"{one.path} is truncated: {one.missing_bytes} bytes of pixels or more are missing.")
    placeless = sum(None in (one.position_mm, one.orientation, one.pixel_mm) for one in slices)
    if placeless:
        raise GeometryError(
            f"{series.name} has no geometry: {placeless} of {len(slices)} slices lack ImagePositionPatient, "
            "ImageOrientationPatient or PixelSpacing."
        )
    if len(slices) == 1:
        raise GeometryError(f"{series.name} is 2-D (a single slice), and a scan is 3-D.")


def _check_stack(
    series: Series, positions: NDArray[np.float64], normal: NDArray[np.float64], pixel_mm: tuple[float, float]
) -> None:
    faults = []
    gaps_mm = np.diff(positions @ normal)
    usual_mm = float(np.median(gaps_mm))
    if gaps_mm.min() < 1e-3:
        raise GeometryError(
            f"{series.name} has {int((gaps_mm < 1e-3).sum())} slices at the same position as another.",
            "It may hold several phases or echoes; split them into series of their own.",
        )
    travel = positions[-1] - positions[0]
    tilt_deg = float(np.degrees(np.arctan2(np.linalg.norm(np.cross(travel, normal)), travel @ normal)))
    if tilt_deg > 2 * MAX_REPAIR_DEG:
        faults.append(f"a gantry tilt of {tilt_deg:.1f} degrees")
    if np.abs(gaps_mm - usual_mm).max() > max(GAP_SHARE * usual_mm, GAP_MM):
        faults.append(f"uneven slice gaps ({_gaps(gaps_mm)})")
    else:
        even = positions[0] + np.linspace(0, 1, len(positions))[:, None] * travel
        aside_mm = float(np.linalg.norm(np.cross(positions - even, normal), axis=1).max())
        if aside_mm > SIDEWAYS_PIXELS * min(pixel_mm):
            faults.append(f"slices shifted sideways by up to {aside_mm:.2f} mm")
    if faults:
        raise GeometryError(
            f"{series.name} has {' and '.join(faults)}.",
            "Find the missing slices, or resample to an even grid first (dcm2niix does so for gantry tilt).",
        )


def _gaps(gaps_mm: NDArray[np.float64]) -> str:
    counts = Counter(round(float(gap), 2) for gap in gaps_mm).most_common()
    shown = ", ".join(f"{count} x {gap:g} mm" for gap, count in counts[:6])
    return shown + (f" and {len(counts) - 6} other sizes" if len(counts) > 6 else "")


def _dtype(slices: list[Slice]) -> str:
    if any(value != int(value) for one in slices for value in (one.slope, one.intercept)):
        return "float32"
    rescaled = any((one.slope, one.intercept) != (1.0, 0.0) for one in slices)
    if rescaled:
        return "int16" if slices[0].bits <= 16 else "int32"
    return f"{'' if slices[0].signed else 'u'}int{slices[0].bits}"
