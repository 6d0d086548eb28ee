"""The summary of an index: counts and sizes of what is listed, and the kinds of reasons for what is not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from voco_cli.data.index.datalist import Entry, Skipped


def summarise(splits: Mapping[str, Sequence[Entry]]) -> dict[str, Any]:
    """Count scans, patients and labels, and return least, median and greatest size along x, y, z (voxels, mm).

    Args:
        splits: name of a split to its scans, all with shape and spacing.
    """
    entries = [entry for members in splits.values() for entry in members]
    shapes = np.array([entry.shape for entry in entries if entry.shape], dtype=np.float64).reshape(-1, 3)
    spacings = np.array([entry.spacing_mm for entry in entries if entry.spacing_mm], dtype=np.float64).reshape(-1, 3)
    summary: dict[str, Any] = {
        "scans": len(entries),
        "patients": len({entry.patient for entry in entries}),
        "labelled": sum(entry.label is not None for entry in entries),
        "splits": {
            name: {"scans": len(members), "patients": len({entry.patient for entry in members})}
            for name, members in splits.items()
        },
        "modalities": _counts(entry.modality for entry in entries),
        "orientations": _counts(entry.orientation or "unknown" for entry in entries),
    }
    if len(shapes) and len(shapes) == len(spacings):
        summary["shape"] = _range(shapes, 0)
        summary["spacing_mm"] = _range(spacings, 4)
        summary["extent_mm"] = _range(shapes * spacings, 1)
        summary["voxels"] = int(shapes.prod(axis=1).sum())
    return summary


def _counts(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items(), key=lambda item: (-item[1], item[0])))


def _range(rows: np.ndarray[Any, Any], digits: int) -> dict[str, list[float]]:
    named = {"least": rows.min(axis=0), "median": np.median(rows, axis=0), "greatest": rows.max(axis=0)}
    return {name: [round(float(value), digits) for value in values] for name, values in named.items()}


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
"""Phrases of reasons, and the kind that each stands for: the first that a reason holds, the more particular first."""


def kind_of(reason: str) -> str:
    """Return a few words for the kind of a reason."""
    return next((kind for phrase, kind in KINDS if phrase in reason), "damaged or not readable")


def count_kinds(skipped: Iterable[Skipped]) -> dict[str, int]:
    """Count the reasons of each kind, most frequent first."""
    return _counts(kind_of(one.reason) for one in skipped)
