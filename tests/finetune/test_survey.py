from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.tasks.made_cases import make_case
from voco_cli.config.task_schema import LabelClass, Task
from voco_cli.errors import DataError
from voco_cli.finetune.patches import ANNOTATED, MOST_POINTS, survey_label, survey_labels

TASK = Task(
    name="made",
    classes=(LabelClass(name="a", values=1), LabelClass(name="b", values=(4, 5)), LabelClass(name="c", values=9)),
)


def labels() -> np.ndarray:
    array = np.zeros((20, 18, 16), np.uint8)
    array[2:4, 3, 5] = 1
    array[10, 10:12, 2] = 4
    array[10, 12, 2] = 5
    return array


def test_points_are_the_voxels_of_each_class(tmp_path: Path) -> None:
    case = make_case(tmp_path, np.zeros((20, 18, 16), np.uint8), labels())
    survey = survey_label(case, TASK)
    assert sorted(survey.points) == [1, 2]  # the third class is not there, which is no error
    assert sorted(map(tuple, survey.points[1].tolist())) == [(2, 3, 5), (3, 3, 5)]
    assert sorted(map(tuple, survey.points[2].tolist())) == [(10, 10, 2), (10, 11, 2), (10, 12, 2)]
    assert survey.unlisted == ()


def test_many_voxels_are_drawn_evenly_and_the_same_every_time(tmp_path: Path) -> None:
    array = np.zeros((30, 30, 30), np.uint8)
    array[:, :, 10:] = 1
    case = make_case(tmp_path, array, array)
    points = survey_label(case, TASK).points[1]
    assert points.shape == (MOST_POINTS, 3)
    assert len({tuple(point) for point in points.tolist()}) == MOST_POINTS
    assert points[:, 2].min() >= 10
    # 18,000 voxels with a mean place of 14.5 and a deviation of 8.66 along x; 1,000 draws are within 5 standard errors.
    assert abs(points[:, 0].mean() - 14.5) < 5 * 8.66 / 1000**0.5
    np.testing.assert_array_equal(points, survey_label(case, TASK).points[1])


def test_a_case_without_foreground_has_no_points(tmp_path: Path) -> None:
    nothing = np.zeros((8, 8, 8), np.uint8)
    assert survey_labels([make_case(tmp_path, nothing, nothing)], TASK) == {"case": {}}


def test_values_outside_the_classes_are_refused_with_the_file(tmp_path: Path) -> None:
    array = labels()
    array[0, 0, 0], array[0, 0, 1] = 7, 3
    case = make_case(tmp_path, np.zeros_like(array), array)
    with pytest.raises(DataError, match=r"no class of the task made has: .*case_seg\.nii\.gz holds 3, 7\.") as caught:
        survey_labels([case], TASK)
    assert "task.unlisted=background" in str(caught.value.hint)
    lenient = TASK.model_copy(update={"unlisted": "background"})
    assert sorted(survey_labels([case], lenient)["case"]) == [1, 2]


def test_ignored_voxels_are_no_class_and_the_annotated_ones_are_known(tmp_path: Path) -> None:
    array = np.full((6, 5, 4), 7, np.uint8)  # nobody annotated them
    array[1, 1, 1] = 1
    array[2, 2, 2] = array[3, 3, 3] = 0
    case = make_case(tmp_path, np.zeros((6, 5, 4), np.uint8), array)
    survey = survey_label(case, TASK.model_copy(update={"ignore_value": 7}))
    assert {index: sorted(map(tuple, places.tolist())) for index, places in survey.points.items()} == {
        1: [(1, 1, 1)],
        ANNOTATED: [(1, 1, 1), (2, 2, 2), (3, 3, 3)],
    }
    assert survey.unlisted == ()
    whole = make_case(tmp_path, np.zeros((20, 18, 16), np.uint8), labels(), "whole")
    assert ANNOTATED not in survey_label(whole, TASK.model_copy(update={"ignore_value": 7})).points
