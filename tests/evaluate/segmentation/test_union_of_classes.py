"""A prediction of the union of classes against a label map that knows some of them, in values of its own."""

from __future__ import annotations

import math

import numpy as np
import pytest

from voco_cli.data.case_labels import CaseLabels
from voco_cli.evaluate.segmentation.metrics import Structure, measure_case
from voco_cli.evaluate.segmentation.union_of_classes import on_common_values, told_members, union_structures
from voco_cli.pretrain.labelled_scans import partial_dice

# Classes kidney, left kidney, spleen, of which the left kidney lies in the kidney.
NAMES, INSIDE = ("kidney", "left kidney", "spleen"), [(0, (1,))]
# A set that calls kidneys 8, and nothing else; 9 is what nobody annotated.
LABELS = CaseLabels(complete=(0,), values=((8, (0,)),), ignore=9)
TOLD = np.array([1, 2, 2, 3, 0, 1, 2]).reshape(1, 1, 7)
REFERENCE = np.array([8, 8, 0, 8, 8, 0, 9]).reshape(1, 1, 7)


def test_a_part_that_is_told_is_also_its_whole() -> None:
    assert told_members(3, INSIDE).tolist() == [
        [False, False, False],
        [True, False, False],
        [True, True, False],
        [False, False, True],
    ]
    assert union_structures(NAMES, INSIDE) == (
        Structure("kidney", (1, 2)),
        Structure("left kidney", (2,)),
        Structure("spleen", (3,)),
    )


def test_dice_by_hand() -> None:
    """Of six counted voxels four are kidney, four are told so, and two both; nothing is known of the others."""
    found = partial_dice(TOLD, REFERENCE, LABELS, 3, INSIDE)
    assert found[0] == pytest.approx(2 * 2 / (4 + 4))
    assert all(math.isnan(value) for value in found[1:])


def test_common_values_measure_the_same() -> None:
    structures = union_structures(NAMES, INSIDE)
    (told, reference), known = on_common_values(TOLD, REFERENCE, LABELS, structures)
    assert known[0] == Structure("kidney", (1, 2, 4))
    assert known[1:] == [None, None]
    assert told.ravel().tolist() == [1, 2, 2, 3, 0, 1, 0]
    assert reference.ravel().tolist() == [4, 4, 0, 4, 4, 0, 0]
    (one,) = measure_case(told, reference, [known[0]], (1.0, 1.0, 1.0), 2.0)
    assert one.values["dice"] == pytest.approx(0.5)
    assert (one.reference_ml, one.prediction_ml) == (0.004, 0.004)
