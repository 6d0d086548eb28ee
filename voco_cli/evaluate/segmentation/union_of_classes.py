"""Predictions of the union of several sets' classes, measured on each case by the classes that it is labelled for.

K classes, L = K + 1 indices of a prediction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voco_cli.data.case_labels import IGNORED, CaseLabels
from voco_cli.evaluate.segmentation.metrics import Structure

Inside = Sequence[tuple[int, tuple[int, ...]]]
"""Each class that contains others, with all that lie inside it, by their places among the classes."""


def told_members(num_classes: int, inside: Inside) -> NDArray[np.bool_]:
    """Return told_LK: whether a voxel that is told as index L belongs to class K."""
    told = np.zeros((num_classes + 1, num_classes), np.bool_)
    told[np.arange(1, num_classes + 1), np.arange(num_classes)] = True
    for whole, parts in inside:
        told[[part + 1 for part in parts], whole] = True
    return told


def union_structures(names: Sequence[str], inside: Inside) -> tuple[Structure, ...]:
    """Return a structure for each class, by the values of a prediction: its own and those of what lies inside it."""
    told = told_members(len(names), inside)
    return tuple(Structure(name, tuple(np.flatnonzero(told[:, k]).tolist())) for k, name in enumerate(names))


def on_common_values(
    prediction: NDArray[Any], reference: NDArray[Any], case: CaseLabels, structures: Sequence[Structure]
) -> tuple[list[NDArray[Any]], list[Structure | None]]:
    """Return both maps with values that mean the same, and each structure by these; None where nothing is known of it.

    Values of the label map come behind those of the prediction. Voxels that nobody annotated are background in both.

    Args:
        reference: values of the label map, as its set has them.
        structures: of `union_structures`.
    """
    rows, behind = case.rows(reference), len(structures)
    counted = rows != IGNORED
    moved = np.where((rows > 0) & counted, rows.astype(np.uint16) + behind, 0).astype(np.uint16)
    members, complete = case.members(len(structures)), case.is_complete(len(structures))
    common: list[Structure | None] = []
    for k, one in enumerate(structures):
        values = tuple(int(row) + behind for row in np.flatnonzero(members[:, k]))
        common.append(Structure(one.name, (*one.labels, *values)) if complete[k] else None)
    return [np.where(counted, prediction, 0).astype(np.uint16), moved], common
