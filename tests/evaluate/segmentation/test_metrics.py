import math

import numpy as np
import pytest

from tests.evaluate.made_masks import box
from voco_cli.data.io.image import whole_labels
from voco_cli.evaluate.segmentation.metrics import Structure, labels_in, measure_case

SHAPE = (10, 12, 14)
SPACING = (2.0, 1.0, 0.5)


def maps() -> tuple[np.ndarray, np.ndarray]:
    """Class 1 moved by one voxel in x, class 2 missed, class 3 a false positive, class 4 in neither."""
    reference, prediction = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    reference[box(SHAPE, (2, 2, 2), (4, 4, 4))] = 1
    prediction[box(SHAPE, (2, 2, 3), (4, 4, 4))] = 1
    reference[9, 11, 13] = 2
    prediction[0, 0, 0] = 3
    return prediction, reference


def test_states_values_and_volumes() -> None:
    structures = [Structure(str(label), (label,)) for label in (1, 2, 3, 4)]
    moved, missed, added, absent = measure_case(*maps(), structures, SPACING, 0.5)
    assert [one.state for one in (moved, missed, added, absent)] == ["both", "missed", "false_positive", "absent"]
    assert moved.dice == pytest.approx(0.75)  # 48 of 64 voxels
    assert moved.iou == pytest.approx(48 / 80)
    assert moved.nsd == 1  # nothing moved by more than 0.5 mm
    assert moved.hd95_mm == pytest.approx(0.5)
    assert moved.reference_ml == moved.prediction_ml == pytest.approx(0.064)
    assert (missed.dice, missed.iou, missed.nsd, missed.hd95_mm) == (0, 0, 0, math.inf)
    assert (missed.reference_ml, missed.prediction_ml) == (pytest.approx(0.001), 0)
    assert (added.dice, added.nsd, added.asd_mm) == (0, 0, math.inf)
    assert math.isnan(absent.dice)
    assert math.isnan(absent.hd95_mm)
    assert absent.diagonal_mm == pytest.approx(math.hypot(20, 12, 7))


def test_a_region_is_a_union() -> None:
    prediction, reference = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    reference[2:6, 2:6, 2:6] = 1
    reference[2:6, 2:6, 6:8] = 2
    prediction[2:6, 2:6, 2:7] = 1
    prediction[2:6, 2:6, 7:8] = 5
    whole, apart = measure_case(
        prediction, reference, [Structure("whole", (1, 2, 5)), Structure("2", (2,))], SPACING, 1
    )
    assert (whole.dice, whole.nsd, whole.hd95_mm) == (1, 1, 0)
    assert apart.state == "missed"


def test_the_box_of_a_class_does_not_change_it() -> None:
    """The same two shapes, once in a large array and once touching the border on every side."""
    prediction, reference = maps()
    prediction[0, 0, 0] = reference[9, 11, 13] = 0
    wide = measure_case(prediction, reference, [Structure("1", (1,))], SPACING, 0.3)[0]
    tight = measure_case(prediction[2:6, 2:6, 2:7], reference[2:6, 2:6, 2:7], [Structure("1", (1,))], SPACING, 0.3)[0]
    assert (wide.nsd, wide.hd95_mm, wide.asd_mm) == (tight.nsd, tight.hd95_mm, tight.asd_mm)
    assert 0 < wide.nsd < 1


def test_labels_of_a_map() -> None:
    assert labels_in(np.zeros(SHAPE, np.uint8)) == set()
    assert labels_in(maps()[0]) == {1, 3}
    large = np.zeros(SHAPE, np.uint16)
    large[3, 4, 5] = 850  # MM-WHS has raw values like this
    assert labels_in(large) == {850}


def test_whole_labels() -> None:
    assert whole_labels(np.array([[[0.0, 3.0]]])).dtype == np.uint8
    assert whole_labels(np.array([[[0, 850]]], np.int32)).dtype == np.uint16
    for wrong, word in ((0.5, "0.5"), (-1.0, "-1"), (math.nan, "nan"), (70_000.0, "70000")):
        with pytest.raises(ValueError, match=word):
            whole_labels(np.array([[[0.0, wrong]]]))


def test_shapes_that_differ() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        measure_case(np.zeros((2, 2, 2), np.uint8), np.zeros((2, 2, 3), np.uint8), [], SPACING, 1)
