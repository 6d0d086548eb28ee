"""Metrics of masks against hand arithmetic and MONAI, and the rules for structures that are not there."""

import math

import numpy as np
import pytest

from tests.evaluate.made_masks import blobs, box
from tests.evaluate.made_results import measurement
from voco_cli.data.io.image import whole_labels
from voco_cli.errors import UsageError
from voco_cli.evaluate.segmentation.metrics import (
    RULES,
    Counts,
    Measurement,
    State,
    Structure,
    absent_structure,
    apply_rule,
    count_voxels,
    dice,
    empty_rule,
    intersection_over_union,
    labels_in,
    measure_case,
    volume_ml,
)

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


def test_boxes_that_overlap_by_half() -> None:
    # 4x4x4 against the same moved by 2: 64 voxels each, 32 in both; Dice 64/128, IoU 32/96.
    shape = (8, 8, 8)
    counts = count_voxels(box(shape, (1, 1, 3), (4, 4, 4)), box(shape, (1, 1, 1), (4, 4, 4)))
    assert counts == Counts(64, 64, 32)
    assert dice(counts) == 0.5
    assert intersection_over_union(counts) == pytest.approx(1 / 3)


def test_empty_masks() -> None:
    assert math.isnan(dice(Counts(0, 0, 0)))
    assert math.isnan(intersection_over_union(Counts(0, 0, 0)))
    assert dice(Counts(5, 0, 0)) == intersection_over_union(Counts(0, 5, 0)) == 0


def test_volume_in_ml() -> None:
    assert volume_ml(1000, (2.0, 0.5, 1.0)) == pytest.approx(1.0)
    assert volume_ml(0, (1.0, 1.0, 1.0)) == 0


def test_agrees_with_monai() -> None:
    metrics = pytest.importorskip("monai.metrics")
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    for _ in range(3):
        first, second = (blobs(rng, (12, 14, 10), 1.5) for _ in range(2))
        tensors = [torch.from_numpy(mask)[None, None] for mask in (first, second)]
        counts = count_voxels(first, second)
        assert dice(counts) == pytest.approx(float(metrics.compute_dice(*tensors)), abs=1e-6)
        assert intersection_over_union(counts) == pytest.approx(float(metrics.compute_iou(*tensors)), abs=1e-6)


DIAGONAL = 300.0
NAN, INF = math.nan, math.inf


def one_of(state: State) -> Measurement:
    if state == "absent":
        return absent_structure(DIAGONAL)
    if state == "both":
        return measurement(state, (1, 1), (0.9, 0.8, 0.7, 3.0, 1.0), DIAGONAL)
    return measurement(state, (1, 0), (0.0, 0.0, 0.0, INF, INF), DIAGONAL)


@pytest.mark.parametrize(
    ("rule", "absent", "missed", "false_positive"),
    [
        ("count", (NAN, NAN), (0, NAN), (0, NAN)),
        ("perfect", (1, 0), (0, NAN), (0, NAN)),
        ("penalty", (NAN, NAN), (0, DIAGONAL), (0, DIAGONAL)),
        ("brats", (1, 0), (0, DIAGONAL), (0, DIAGONAL)),
        ("released", (NAN, NAN), (0, NAN), (NAN, NAN)),
    ],
)
def test_every_rule(
    rule: str, absent: tuple[float, float], missed: tuple[float, float], false_positive: tuple[float, float]
) -> None:
    states: dict[State, tuple[float, float]] = {"absent": absent, "missed": missed, "false_positive": false_positive}
    for state, (share, distance) in states.items():
        values = apply_rule(one_of(state), RULES[rule])
        assert [values[name] for name in ("dice", "iou", "nsd")] == pytest.approx([share] * 3, nan_ok=True)
        assert [values[name] for name in ("hd95_mm", "asd_mm")] == pytest.approx([distance] * 2, nan_ok=True)
    assert apply_rule(one_of("both"), RULES[rule])["dice"] == 0.9


def test_every_rule_says_itself_in_its_own_words() -> None:
    assert len({rule.sentence() for rule in RULES.values()}) == len(RULES)
    assert "false positives left out (they are free)" in RULES["released"].sentence()


def test_no_such_rule() -> None:
    with pytest.raises(UsageError, match="--empty drop") as caught:
        empty_rule("drop")
    assert caught.value.hint is not None
    assert "count" in caught.value.hint
