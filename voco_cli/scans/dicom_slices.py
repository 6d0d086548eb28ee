"""The headers of single DICOM files: what is needed to sort them into series."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
from pydicom.errors import InvalidDicomError

from voco_cli.errors import DataError

TAGS = [
    "SOPClassUID",
    "Modality",
    "PatientID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SOPInstanceUID",
    "SeriesDescription",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "Rows",
    "Columns",
    "BitsAllocated",
    "PixelRepresentation",
    "SamplesPerPixel",
    "NumberOfFrames",
    "RescaleSlope",
    "RescaleIntercept",
]
UNCOMPRESSED = {"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"}
# What sites write where a patient's identity was: no identity at all.
NAMELESS = {"", "anonymous", "anonymized", "anonymised", "anon", "unknown", "none", "patient", "0"}


@dataclass(frozen=True)
class Slice:
    """One DICOM object, image or not.

    Attributes:
        position_mm: centre of its first pixel, LPS; none where the object has no place.
        orientation: directions of its rows and columns, LPS; none where the object has no place.
        pixel_mm: distance of rows, then of columns.
        rescaled: whether a slope or intercept applies, and to fractions.
        missing_bytes: pixels that the file is too short for.
    """

    path: Path
    series_uid: str
    study_uid: str
    sop_uid: str
    patient: str
    modality: str
    description: str
    rows: int
    columns: int
    frames: int
    samples: int
    bits: int
    signed: bool
    slope: float
    intercept: float
    position_mm: tuple[float, float, float] | None
    orientation: tuple[float, ...] | None
    pixel_mm: tuple[float, float] | None
    missing_bytes: int

    @property
    def is_image(self) -> bool:
        """Whether the object holds pixels at all (an RTSTRUCT or a report does not)."""
        return self.rows > 0 and self.columns > 0


def looks_like_dicom(path: Path) -> bool:
    """Whether a file's first bytes are those of DICOM: ``DICM`` at 128, or a data set without that preamble."""
    with path.open("rb") as file:
        start = file.read(132)
    if start[128:132] == b"DICM":
        return True
    # Groups 0002 or 0008 in little endian with a low element, as files without preamble begin.
    return len(start) >= 8 and start[:2] in (b"\x02\x00", b"\x08\x00") and start[3] == 0 and start[2] <= 0x18


def read_slice(path: Path) -> Slice:
    """Header of one DICOM object.

    Raises:
        DataError: not DICOM, or damaged before its pixels.
    """
    try:
        with warnings.catch_warnings(), pydicom.config.disable_value_validation():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(TAGS), force=True)
            return _to_slice(dataset, path)
    except (InvalidDicomError, OSError, EOFError, ValueError, AttributeError, KeyError, TypeError) as error:
        raise DataError(f"{path} has a damaged DICOM header: {error}.") from error


def _to_slice(dataset: Any, path: Path) -> Slice:
    rows, columns = int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0)
    frames, samples = int(dataset.get("NumberOfFrames") or 1), int(dataset.get("SamplesPerPixel") or 1)
    bits = int(dataset.get("BitsAllocated") or 16)
    study = str(dataset.get("StudyInstanceUID") or "")
    syntax = str(getattr(dataset.file_meta, "TransferSyntaxUID", "")) if hasattr(dataset, "file_meta") else ""
    needed = rows * columns * frames * samples * bits // 8 if syntax in UNCOMPRESSED else 0
    patient = str(dataset.get("PatientID") or "").strip()
    if not (dataset.get("SOPClassUID") or dataset.get("SeriesInstanceUID")):
        raise ValueError("it names neither its class nor its series")
    return Slice(
        path=path,
        series_uid=str(dataset.get("SeriesInstanceUID") or f"none-{path.parent}"),
        study_uid=study,
        sop_uid=str(dataset.get("SOPInstanceUID") or ""),
        patient=study if patient.lower() in NAMELESS else patient,
        modality=str(dataset.get("Modality") or "unknown"),
        description=str(dataset.get("SeriesDescription") or ""),
        rows=rows,
        columns=columns,
        frames=frames,
        samples=samples,
        bits=bits,
        signed=bool(dataset.get("PixelRepresentation") or 0),
        slope=float(1 if dataset.get("RescaleSlope") is None else dataset.RescaleSlope),
        intercept=float(dataset.get("RescaleIntercept") or 0),
        position_mm=_numbers(dataset.get("ImagePositionPatient"), 3),
        orientation=_numbers(dataset.get("ImageOrientationPatient"), 6),
        pixel_mm=_numbers(dataset.get("PixelSpacing"), 2),
        missing_bytes=max(needed - path.stat().st_size, 0),
    )


def _numbers(value: Sequence[Any] | None, count: int) -> Any:
    if value is None or isinstance(value, str) or len(value) != count:
        return None
    return tuple(float(number) for number in value)
