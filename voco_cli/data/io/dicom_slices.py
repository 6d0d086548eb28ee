"""The headers of single DICOM objects: what is needed to sort their slices into series, to place and to scale them.

A file of one slice and a frame of an enhanced (multi-frame) file give the same record, so all checks hold for both.
"""

from __future__ import annotations

import math
import struct
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voco_cli.data.io.dicom_pixels import FRAME_TAGS, PHILIPS_SCALE, frame_values, lossy_note, pixel_fault
from voco_cli.errors import DataError

TAGS: list[str | int] = [
    *("SOPClassUID", "Modality", "ImageType", "PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"),
    *("ConcatenationUID", "FrameOfReferenceUID", "SeriesNumber", "SeriesDescription", "InstanceNumber"),
    *("AcquisitionNumber", "AcquisitionTime", "EchoNumbers", "TemporalPositionIdentifier", "ImagePositionPatient"),
    *("ImageOrientationPatient", "PixelSpacing", "SliceThickness", "Rows", "Columns", "BitsAllocated", "BitsStored"),
    *("HighBit", "PixelRepresentation", "SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames"),
    *("LossyImageCompression", "RescaleSlope", "RescaleIntercept", "RescaleType", "Units", "ModalityLUTSequence"),
    *("RealWorldValueMappingSequence", PHILIPS_SCALE, *FRAME_TAGS),
]
# What sites write where a patient's identity was: no identity at all.
NAMELESS = {"", "anonymous", "anonymized", "anonymised", "anon", "unknown", "none", "patient", "0"}
# Pixels that are no scan: labels, which are not read from DICOM, and doses, which have a scale of their own.
NO_SCANS = {"SEG", "RTDOSE"}
MONOCHROME = {"", "MONOCHROME1", "MONOCHROME2"}
# Characters of a decoder's error; some quote all the bytes that they choked on.
MOST_SAID = 160


@dataclass(frozen=True, slots=True)
class Slice:
    """One slice of a DICOM object, or an object that holds no image.

    Attributes:
        frame: its number in the file, from 0; frames: how many the file holds.
        series_uid: empty where it was blanked; study_uid, sop_uid and frame_of_reference likewise.
        concatenation: what the parts of a multi-frame object over several files share.
        colour: not one grey value a pixel.
        bits: stored bits of a pixel, of which the highest is the sign where signed.
        slope: of the rescaling of stored values; none where the file has neither slope nor intercept.
        units: what the rescaled values are of, as the file calls it.
        philips_scale: Philips' private scale of stored values; none elsewhere.
        sweeps: numbers that count up while a volume is acquired or stored, by their name.
        position_mm: centre of its first pixel, LPS; none where the object has no place.
        orientation: directions of its rows and columns, LPS; none where the object has no place.
        pixel_mm: distance of rows, then of columns.
        fault: why its pixels cannot be used, with a hint.
        note: what is odd about its pixels.
    """

    path: Path
    frame: int
    frames: int
    series_uid: str
    study_uid: str
    sop_uid: str
    concatenation: str
    frame_of_reference: str
    patient: str
    modality: str
    description: str
    series_number: str
    stack: str
    scout: bool
    rows: int
    columns: int
    colour: bool
    bits: int
    signed: bool
    slope: float | None
    intercept: float
    units: str
    philips_scale: float | None
    real_world: tuple[float, ...]
    sweeps: tuple[tuple[str, float], ...]
    position_mm: tuple[float, float, float] | None
    orientation: tuple[float, ...] | None
    pixel_mm: tuple[float, float] | None
    thickness_mm: float | None
    fault: tuple[str, str | None] | None
    note: str | None

    @property
    def is_image(self) -> bool:
        """Return whether the object holds the pixels of a scan at all (an RTSTRUCT, a SEG or a report does not)."""
        return self.rows > 0 and self.columns > 0 and self.modality not in NO_SCANS


def looks_like_dicom(path: Path) -> bool:
    """Return whether a file begins as DICOM does: with ``DICM`` at 128, or as a data set without that preamble."""
    with path.open("rb") as file:
        start = file.read(132)
    if start[128:132] == b"DICM":
        return True
    # Groups 0002 or 0008 with a low element, in either byte order, as files without preamble begin.
    little = start[:2] in (b"\x02\x00", b"\x08\x00") and start[3:4] == b"\0" and start[2:3] <= b"\x18"
    big = start[:2] == b"\x00\x08" and start[2:3] == b"\0" and start[3:4] <= b"\x18" and start[4:6].isalpha()
    return len(start) >= 8 and (little or big)


def read_slices(path: Path) -> tuple[Slice, ...]:
    """Read the headers of all slices of one DICOM file: one, or one for each frame of an enhanced file.

    Raises:
        DataError: not DICOM, or damaged before its pixels.
    """
    import pydicom  # late: most people have NIfTI

    try:
        with warnings.catch_warnings(), pydicom.config.disable_value_validation(), path.open("rb") as file:
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(TAGS), force=True)
            if not any(dataset.get(tag) for tag in ("SOPClassUID", "SeriesInstanceUID", "Rows")):
                raise ValueError("it names neither its class nor its series, and has no pixels")
            found = frame_values(dataset)
            fault = pixel_fault(dataset, file, path) or found.fault
            return tuple(_to_slice(values, path, k, fault) for k, values in enumerate(found.values))
    except Exception as error:  # pydicom meets damage with errors of many kinds
        text = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path} has a damaged DICOM header: {text[:MOST_SAID].rstrip('.')}.") from error


def _to_slice(values: Mapping[str, Any], path: Path, frame: int, fault: tuple[str, str | None] | None) -> Slice:
    study, patient = _text(values, "StudyInstanceUID"), _text(values, "PatientID")
    image_type = values.get("ImageType") or ()
    slope, intercept = _number(values, "RescaleSlope"), _number(values, "RescaleIntercept")
    rescaled = slope is not None or intercept is not None
    modality = _text(values, "Modality") or "unknown"
    colour = _whole(values, "SamplesPerPixel", 1) != 1
    return Slice(
        path=path,
        frame=frame,
        frames=_whole(values, "NumberOfFrames", 1),
        series_uid=_uid(values, "SeriesInstanceUID"),
        study_uid=study,
        sop_uid=_uid(values, "SOPInstanceUID"),
        concatenation=_uid(values, "ConcatenationUID"),
        frame_of_reference=_uid(values, "FrameOfReferenceUID"),
        patient=study if patient.lower() in NAMELESS else patient,
        modality=modality,
        description=_text(values, "SeriesDescription"),
        series_number=_text(values, "SeriesNumber"),
        stack=_text(values, "StackID"),
        scout=modality == "CT" and "LOCALIZER" in image_type,
        rows=_whole(values, "Rows", 0),
        columns=_whole(values, "Columns", 0),
        colour=colour or _text(values, "PhotometricInterpretation") not in MONOCHROME,
        bits=_whole(values, "BitsStored", _whole(values, "BitsAllocated", 16)),
        signed=bool(values.get("PixelRepresentation") or 0),
        slope=(1.0 if slope is None else slope) if rescaled else None,
        intercept=intercept or 0.0,
        units=_text(values, "Units") or _text(values, "RescaleType"),
        philips_scale=_private_number(values.get("PhilipsScale")),
        real_world=_real_world(values),
        sweeps=_sweeps(values, modality),
        position_mm=_numbers(values.get("ImagePositionPatient"), 3),
        orientation=_numbers(values.get("ImageOrientationPatient"), 6),
        pixel_mm=_numbers(values.get("PixelSpacing"), 2),
        thickness_mm=_loose_number(values.get("SliceThickness")),
        fault=fault or _value_fault(values, slope, intercept),
        note=lossy_note(_text(values, "TransferSyntaxUID"), _text(values, "LossyImageCompression")),
    )


def _value_fault(
    values: Mapping[str, Any], slope: float | None, intercept: float | None
) -> tuple[str, str | None] | None:
    if values.get("ModalityLUTSequence"):
        return "has a table in place of a rescale slope (ModalityLUTSequence), which is not read.", None
    if slope == 0 or not math.isfinite(1 if slope is None else slope) or not math.isfinite(intercept or 0):
        return f"has RescaleSlope {slope} and RescaleIntercept {intercept or 0:g}.", "Correct the header."
    return None


def _sweeps(values: Mapping[str, Any], modality: str) -> tuple[tuple[str, float], ...]:
    """Return the numbers that tell one acquisition of a place from another.

    Slices of MR are excited in turns, and those of PET come bed by bed: their times tell nothing.
    """
    names = ["InstanceNumber", "AcquisitionNumber", "EchoNumbers", "TemporalPositionIdentifier"]
    if "InStackPositionNumber" in values or "TemporalPositionIndex" in values:
        names = ["InStackPositionNumber", "TemporalPositionIndex", "FrameAcquisitionNumber", "EffectiveEchoTime"]
    elif modality == "CT":
        names.append("AcquisitionTime")
    found = ((name, _loose_number(values.get(name))) for name in names)
    return tuple((name, number) for name, number in found if number is not None)


def _real_world(values: Mapping[str, Any]) -> tuple[float, ...]:
    """Return slope and intercept of every mapping to real-world values."""
    return tuple(
        float(item.get(tag) or 0)
        for item in values.get("RealWorldValueMappingSequence") or ()
        for tag in ("RealWorldValueSlope", "RealWorldValueIntercept")
    )


def _text(values: Mapping[str, Any], tag: str) -> str:
    value = values.get(tag)
    return "" if value is None else str(value).strip().strip("\0")


def _uid(values: Mapping[str, Any], tag: str) -> str:
    """Return a UID; empty where something else stands in its place (``0``, ``anonymous``), as a blanked one is none."""
    text = _text(values, tag)
    return text if "." in text else ""


def _whole(values: Mapping[str, Any], tag: str, usual: int) -> int:
    value = values.get(tag)
    return usual if value is None or value == "" else int(value)


def _number(values: Mapping[str, Any], tag: str) -> float | None:
    value = values.get(tag)
    return None if value is None or value == "" else float(value)


def _loose_number(value: Any) -> float | None:
    """Return a number of a field that nothing depends on; none where it holds something else."""
    try:
        return None if value is None or value == "" else float(value)
    except (TypeError, ValueError):
        return None


def _private_number(value: Any) -> float | None:
    if isinstance(value, bytes):  # an implicit file does not say what a private field holds: here a float
        return float(struct.unpack("<f", value)[0]) if len(value) == 4 else None
    return _loose_number(value)


def _numbers(value: Sequence[Any] | None, count: int) -> Any:
    if value is None or isinstance(value, str | bytes) or len(value) != count:
        return None
    numbers = tuple(float(number) for number in value)
    return numbers if all(map(math.isfinite, numbers)) else None
