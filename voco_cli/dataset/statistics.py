"""What the listed scans are like, in numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from voco_cli.dataset.datalist import Entry


def summarise(splits: Mapping[str, Sequence[Entry]]) -> dict[str, Any]:
    """Counts, and least, median and greatest size along x, y, z (voxels, mm).

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


def _counts(values: Any) -> dict[str, int]:
    return dict(sorted(Counter(values).items(), key=lambda item: (-item[1], item[0])))


def _range(rows: np.ndarray[Any, Any], digits: int) -> dict[str, list[float]]:
    named = {"least": rows.min(axis=0), "median": np.median(rows, axis=0), "greatest": rows.max(axis=0)}
    return {name: [round(float(value), digits) for value in values] for name, values in named.items()}
