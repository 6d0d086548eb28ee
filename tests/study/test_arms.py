from __future__ import annotations

import pytest

from voco_cli.errors import UsageError
from voco_cli.study.arms import Arm, make_arms


def test_from_scratch_comes_first_and_with_more_time_last() -> None:
    arms = make_arms(["runs/x"], ["none+", "none", "voco", "voco + rotation=0.5", "voco:rotation=1"])
    assert arms == (
        Arm("none"),
        Arm("x", weights="runs/x"),
        Arm("voco", objective="voco"),
        Arm("voco+rotation=0.5", objective="voco+rotation=0.5"),
        Arm("voco:rotation", objective="voco:rotation"),
        Arm("none+"),
    )
    assert [arm.is_fresh for arm in arms] == [True, False, False, False, False, True]


def test_the_same_objective_spelled_twice_is_one_arm() -> None:
    assert [arm.name for arm in make_arms([], ["voco", "voco=1", " voco "])] == ["none", "voco"]


def test_weights_are_not_called_like_an_objective_or_a_folder_of_the_study() -> None:
    assert [arm.name for arm in make_arms(["runs/voco", "runs/pretraining"], ["voco"])] == [
        "none",
        "voco-2",
        "pretraining-2",
        "voco",
    ]


def test_folders_have_names_that_every_file_system_takes() -> None:
    assert make_arms([], ["voco:rotation:voco"])[1].folder == "voco-then-rotation-then-voco"


def test_more_time_needs_a_pretraining_that_it_is_the_time_of() -> None:
    with pytest.raises(UsageError, match=r"^none\+ gets the time of a pre-training, and no objective is asked for\.$"):
        make_arms(["runs/x"], ["none+"])


def test_an_unknown_objective_is_refused() -> None:
    with pytest.raises(UsageError, match="There is no objective 'vocoo'"):
        make_arms([], ["vocoo"])
