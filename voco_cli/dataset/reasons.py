"""Reasons for skipping, sorted into kinds for a table of a few lines."""

from __future__ import annotations

from collections.abc import Iterable

from voco_cli.dataset.datalist import Skipped

# The first phrase that a reason holds names its kind; the more particular ones come first.
KINDS = (
    ("right angles", "sheared axes"),
    ("gantry tilt", "gantry tilt"),
    ("uneven slice gaps", "uneven slice gaps"),
    ("slices shifted", "slices shifted sideways"),
    ("same position as another", "slices at the same position"),
    ("slices interleave", "several acquisitions in one series"),
    ("in one series (", "slices that differ in spacing, units or frame"),
    ("orientations, which", "slices that differ in orientation"),
    ("colour picture", "colour pictures"),
    ("is compressed as", "compression that is not decoded"),
    ("scout (", "scouts"),
    ("no geometry", "DICOM without geometry"),
    ("single slice", "2-D"),
    ("2-D", "2-D"),
    ("-D (", "4-D or more"),
    ("label on another grid", "label on another grid"),
    ("label map without a scan", "label map without a scan"),
    ("its own image", "label that is its own image"),
    ("label map beside others", "one of several label maps of a scan"),
    ("label map that could belong", "label map of one of several scans"),
    ("not whole numbers", "label with fractions"),
    ("holds voxels that are no numbers", "NaN or infinite voxels"),
    ("constant", "constant"),
    ("same content", "same content twice"),
    ("reached twice", "reached twice"),
    ("was asked for", "other modality"),
    ("no image: a DICOM", "DICOM object without image"),
    ("missing", "missing"),
    ("empty", "empty"),
    ("truncated", "truncated"),
    ("not an image", "not an image"),
    ("not a gzip", "not an image"),
    ("not a NIfTI", "not an image"),
    ("spacing", "spacing that cannot be used"),
)


def kind_of(reason: str) -> str:
    """A few words for the kind of a reason."""
    return next((kind for phrase, kind in KINDS if phrase in reason), "damaged or not readable")


def count_kinds(skipped: Iterable[Skipped]) -> dict[str, int]:
    """How many of each kind, most frequent first."""
    counts: dict[str, int] = {}
    for one in skipped:
        counts[kind_of(one.reason)] = counts.get(kind_of(one.reason), 0) + 1
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
