"""Which slices and which part of a case are shown; volumes and Dice, counted by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from voco_cli.evaluate.patient_case import PatientCase
from voco_cli.figures.case_scene import CaseScene, case_scene, structure_volumes, unlisted_values
from voco_cli.figures.slices import shown_structures

STRUCTURES = shown_structures([("liver", (1, 2)), ("spleen", (3,)), ("heart", (4,))])


def made(image: NDArray[Any], label: NDArray[Any] | None = None, prediction: NDArray[Any] | None = None) -> PatientCase:
    return PatientCase(image, label, prediction, (0.5, 2.0, 5.0), (False, False, False))


def ct() -> NDArray[np.int16]:
    """40 x 30 x 20 voxels of air with a body, and a table below it that touches nothing."""
    image = np.full((40, 30, 20), -1000, np.int16)
    image[10:30, 8:25, :] = 50
    image[2:38, 2:4, :] = 200
    return image


def labelled() -> NDArray[np.uint8]:
    label = np.zeros((40, 30, 20), np.uint8)
    label[12:20, 10:20, 4:8] = 1  # 320 voxels
    label[20:22, 10:20, 4:8] = 2  # 80
    label[24:28, 12:16, 7:9] = 3  # 32
    label[0, 0, 0] = 9
    return label


def scene_of(case: PatientCase, num_slices: int = 4) -> CaseScene:
    return case_scene("case", ["one line"], case, STRUCTURES, (-175.0, 250.0), num_slices, ["a warning"])


def test_volumes_in_voxels_and_millilitres() -> None:
    prediction = np.zeros((40, 30, 20), np.uint8)
    prediction[0:10, 0:10, 0:2] = 3
    prediction[5, 5, 5] = 9
    case = made(ct(), labelled(), prediction)
    liver, spleen, heart = structure_volumes(case, STRUCTURES)
    # A voxel is 0.5 x 2 x 5 = 5 mm3.
    assert (liver.label_voxels, liver.label_ml) == (400, 2.0)
    assert (liver.prediction_voxels, liver.prediction_ml) == (0, 0.0)
    assert (spleen.label_voxels, spleen.label_ml) == (32, 0.16)
    assert (spleen.prediction_voxels, spleen.prediction_ml) == (200, 1.0)
    assert (heart.label_voxels, heart.prediction_voxels) == (0, 0)
    assert unlisted_values(case, STRUCTURES) == {9: 2}
    assert (liver.dice, spleen.dice, np.isnan(heart.dice or 0.0)) == (0.0, 0.0, True)
    alone = structure_volumes(made(ct(), labelled()), STRUCTURES)[0]
    assert (alone.prediction_voxels, alone.prediction_ml, alone.dice) == (None, None, None)


def test_dice_counts_all_values_of_a_structure_as_one() -> None:
    prediction = labelled()
    prediction[prediction == 2] = 1  # another value of the liver
    prediction[24:26, 12:16, 7:9] = 0  # half of the spleen
    liver, spleen, _ = structure_volumes(made(ct(), labelled(), prediction), STRUCTURES)
    assert (liver.dice, spleen.dice) == (1.0, 2 * 16 / (32 + 16))


def test_planes_show_most_of_the_structures() -> None:
    shown = scene_of(made(ct(), labelled()))
    assert [one.name for one in shown.volumes] == ["liver", "spleen"]
    assert [one.colour for one in shown.volumes] == [one.colour for one in STRUCTURES[:2]]
    # y 12 to 15 and z 7 cut both at their largest; x 12 is the first to cut the liver alone, as nothing cuts both.
    assert shown.planes == (12, 12, 7)
    assert shown.strip == (4, 5, 7, 8)


def test_middle_is_shown_where_nothing_is_labelled() -> None:
    assert scene_of(made(ct())).planes == (20, 15, 10)
    assert scene_of(made(ct(), np.zeros((40, 30, 20), np.uint8))).planes == (20, 15, 10)


def test_prediction_is_shown_where_the_label_is_empty() -> None:
    case = made(ct(), np.zeros((40, 30, 20), np.uint8), labelled())
    assert scene_of(case).planes == (12, 12, 7)


def test_air_and_table_are_cut_away_but_nothing_labelled() -> None:
    label = labelled()
    label[0, 0, 0] = 0
    shown = scene_of(made(ct(), label))
    # The body with a margin of 3 %, rounded up: 2 voxels of 40, 1 of 30.
    assert (shown.low, shown.high) == ((8, 7, 0), (32, 26, 20))
    assert shown.shown_mm == pytest.approx((12.0, 38.0, 100.0))
    label[1, 27, 10] = 1
    shown = scene_of(made(ct(), label))
    assert (shown.low, shown.high) == ((0, 7, 0), (32, 29, 20))


def test_other_images_are_shown_whole() -> None:
    shown = scene_of(made(ct() + 1000, labelled()))
    assert (shown.low, shown.high) == ((0, 0, 0), (40, 30, 20))
