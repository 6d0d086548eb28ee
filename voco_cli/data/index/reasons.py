"""Why files are not listed, by kind: many reasons, a few words."""

from __future__ import annotations

from collections.abc import Iterable

from voco_cli.data.index.datalist import Skipped, counted

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
    ("among its labels", "label names that cannot be read"),
    ("calls the label value", "label names that cannot be read"),
    ("missing", "missing"),
    ("empty", "empty"),
    ("truncated", "truncated"),
    ("not an image", "not an image"),
    ("not a gzip", "not an image"),
    ("not a NIfTI", "not an image"),
    ("spacing", "spacing that cannot be used"),
)
"""Phrases of reasons, and the kind that each stands for: the first that a reason holds, the more particular first."""


def kind_of(reason: str) -> str:
    """Return a few words for the kind of a reason."""
    return next((kind for phrase, kind in KINDS if phrase in reason), "damaged or not readable")


def count_kinds(skipped: Iterable[Skipped]) -> dict[str, int]:
    """Count the reasons of each kind, most frequent first."""
    return counted(kind_of(one.reason) for one in skipped)
