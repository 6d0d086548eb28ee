"""The frames of an enhanced (multi-frame) DICOM object, each with the fields that a file of one slice would have.

An enhanced CT, MR or PET says what holds for all frames once (shared functional groups), and the rest for each frame
(per-frame functional groups).
Source: DICOM PS3.3, C.7.6.16 (Multi-frame Functional Groups).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydicom.datadict import tag_for_keyword

SHARED, PER_FRAME = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"
FRAME_TAGS = (SHARED, PER_FRAME)
# The groups that say where a frame lies and what its numbers mean, and those that tell it from others at its place.
GROUPS = (
    "PixelMeasuresSequence",
    "PlanePositionSequence",
    "PlaneOrientationSequence",
    "PixelValueTransformationSequence",
    "FrameContentSequence",
    "MREchoSequence",
)
# (2005,100E): Philips' private scale slope; it lies in no public dictionary, so it goes by its number.
PHILIPS_SCALE = 0x2005100E
# Fields that nothing depends on: a number that is none there damages no scan.
LOOSE = ("SeriesNumber", "InstanceNumber", "AcquisitionNumber", "EchoNumbers", "TemporalPositionIdentifier")
LOOSE_TAGS = {tag_for_keyword(name) for name in (*LOOSE, "AcquisitionTime", "SliceThickness")}


@dataclass(frozen=True)
class Frames:
    """The fields of each frame, and why they cannot be used; then there is one for the whole object."""

    values: tuple[Mapping[str, Any], ...]
    fault: tuple[str, str | None] | None = None


def frame_values(dataset: Any) -> Frames:
    """Fields of each frame of an object, by keyword; its own go before those of all frames, these before the rest."""
    own = _fields(dataset)
    if hasattr(dataset, "file_meta"):
        own["TransferSyntaxUID"] = dataset.file_meta.get("TransferSyntaxUID", "")
    count = int(own.get("NumberOfFrames") or 1)
    shared, per_frame = own.pop(SHARED, None) or (), own.pop(PER_FRAME, None) or ()
    own |= _groups(shared[0]) if shared else {}
    if count == 1 and len(per_frame) <= 1:
        return Frames(({**own, **(_groups(per_frame[0]) if per_frame else {})},))
    if len(per_frame) != count:
        what = f"and says of {len(per_frame)} where they lie" if per_frame else "that do not say where they lie"
        return Frames((own,), (f"holds {count} frames {what}.", "Convert it first, for example with dcm2niix."))
    return Frames(tuple({**own, **_groups(group)} for group in per_frame))


def _groups(group: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in GROUPS:
        if items := group.get(name):
            found |= _fields(items[0])
    if mapping := group.get("RealWorldValueMappingSequence"):
        found["RealWorldValueMappingSequence"] = mapping
    return found


def _fields(dataset: Any) -> dict[str, Any]:
    found = {}
    for tag in dataset.keys():  # noqa: SIM118 (a data set goes through its elements, and decodes them)
        try:
            element = dataset[tag]
        except (ValueError, TypeError):
            if tag in LOOSE_TAGS:
                continue
            raise
        found["PhilipsScale" if tag == PHILIPS_SCALE else element.keyword or str(tag)] = element.value
    return found
