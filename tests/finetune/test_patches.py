from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.tasks.made_cases import make_case
from voco_cli.config import Settings
from voco_cli.config.schema import Augment
from voco_cli.config.task_schema import LabelClass, Task
from voco_cli.errors import DataError
from voco_cli.finetune.augment import augment_patches
from voco_cli.finetune.dataset import CaseSamples, LabelledBatch, collate
from voco_cli.finetune.patches import (
    ANNOTATED,
    MOST_POINTS,
    PatchDataset,
    patch_starts,
    read_patch,
    survey_label,
    survey_labels,
)
from voco_cli.tasks.targets import IGNORED

CLASSES = (LabelClass(name="a", values=1), LabelClass(name="b", values=2))


def task(**changes: object) -> Task:
    return Task.model_validate({"name": "made", "classes": CLASSES, "patch_size": (8, 6, 4), **changes})


def test_patches_lie_inside_and_a_share_is_centred_on_each_class_in_turn() -> None:
    points = {1: np.array([[10, 10, 10]], np.int16), 2: np.array([[0, 19, 5]], np.int16)}
    counts: Counter[tuple[int, ...]] = Counter()
    for number in range(2000):
        starts = patch_starts(0, number, "case", (20, 20, 20), points, task(foreground_share=0.5, patches_per_volume=1))
        assert (starts >= 0).all()
        assert (starts + np.array([8, 6, 4]) <= 20).all()
        counts[tuple(starts[0].tolist())] += 1
    # Centred on (10, 10, 10); and on (0, 19, 5), moved inside. A uniform draw hits one of 13 * 15 * 17 places.
    for place in ((6, 7, 8), (0, 14, 3)):
        assert abs(counts[place] - 500) < 5 * (2000 * 0.25 * 0.75) ** 0.5


def test_a_case_without_foreground_is_drawn_from_everywhere() -> None:
    found = [patch_starts(0, n, "case", (9, 6, 4), {}, task(foreground_share=1.0))[0].tolist() for n in range(50)]
    assert {tuple(one) for one in found} == {(0, 0, 0), (1, 0, 0)}


def test_an_axis_shorter_than_the_patch_is_centred_in_it() -> None:
    points = {1: np.array([[0, 0, 0]], np.int16)}
    starts = patch_starts(0, 0, "case", (5, 6, 10), points, task(foreground_share=1.0, patches_per_volume=1))
    assert starts.tolist() == [[-1, 0, 0]]  # 3 voxels are missing along x: one before, two behind


def test_the_same_step_is_the_same_draw_and_another_is_another() -> None:
    draws = [
        patch_starts(s, n, c, (60, 60, 60), {}, task(patches_per_volume=3)).tolist()
        for s, n, c in ((0, 5, "a"), (0, 5, "a"), (0, 6, "a"), (1, 5, "a"), (0, 5, "b"))
    ]
    assert draws[0] == draws[1]
    assert all(draws[0] != other for other in draws[2:])


def test_a_patch_outside_the_volume_is_zeros_and_background(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 250, (5, 7, 6)).astype(np.uint8)
    label = rng.integers(0, 3, (5, 7, 6)).astype(np.uint8)
    case = make_case(tmp_path, image, label, channels=2)
    got, got_label = read_patch(case, (-2, 3, 1), (8, 6, 4))
    want = np.zeros((2, 8, 6, 4), np.uint8)
    want[0, 2:7, :4] = image[:, 3:, 1:5]
    want[1, 2:7, :4] = image[:, 3:, 1:5] + 1
    np.testing.assert_array_equal(got, want)
    want_label = np.zeros((8, 6, 4), np.uint8)
    want_label[2:7, :4] = label[:, 3:, 1:5]
    np.testing.assert_array_equal(got_label, want_label)


def test_batches_hold_class_indices_and_can_be_replayed(tmp_path: Path) -> None:
    image = np.arange(10 * 9 * 8).reshape(10, 9, 8).astype(np.uint8)
    label = np.zeros((10, 9, 8), np.uint8)
    label[5, 5, 5] = 7
    cases = [make_case(tmp_path, image, label, name) for name in ("one", "two")]
    settings = Settings(
        task=task(classes=(LabelClass(name="a", values=3), LabelClass(name="b", values=7)), foreground_share=1.0),
        augment=Augment(flip_prob=0.5),
    )
    points = survey_labels(cases, settings.task)
    dataset = PatchDataset(cases, points, settings)
    items = [dataset[3, 0], dataset[3, 1], dataset[3, 2]]
    assert all(isinstance(item, CaseSamples) for item in items)
    first, _, again = (item for item in items if isinstance(item, CaseSamples))
    # Every patch is centred on the one voxel of class 2, which lies at index 4, 3, 2 of a patch of 8 x 6 x 4.
    assert np.argwhere(first.targets == 2).tolist() == [[0, 4, 3, 2], [1, 4, 3, 2]]
    # Index 2 is case "one" for the second time in a step of few cases: other draws, the same case.
    assert again.name == first.name == "one"
    assert not torch.equal(again.draws.seeds_N, first.draws.seeds_N)
    batch = collate(items)
    assert isinstance(batch, LabelledBatch)
    assert batch.names == ["one", "two", "one"]
    assert batch.images_NCXYZ.shape == (6, 1, 8, 6, 4)
    assert batch.images_NCXYZ.dtype == torch.uint8
    replay = collate([dataset[3, index] for index in range(3)])
    assert isinstance(replay, LabelledBatch)
    assert torch.equal(replay.images_NCXYZ, batch.images_NCXYZ)
    assert torch.equal(replay.draws.affine_N34, batch.draws.affine_N34)


def test_no_patch_is_centred_on_what_nobody_annotated(tmp_path: Path) -> None:
    label = np.full((20, 20, 20), 9, np.uint8)
    label[10, 10, 10] = 1
    label[4:6, 10, 10] = 0
    case = make_case(tmp_path, np.zeros((20, 20, 20), np.uint8), label)
    asked = task(ignore_value=9, foreground_share=0.5, patches_per_volume=1)
    points = survey_labels([case], asked)[case.name]
    starts = [patch_starts(0, n, "case", (20, 20, 20), points, asked)[0] for n in range(600)]
    counts = Counter(tuple((start + np.array([4, 3, 2])).tolist()) for start in starts)
    assert set(counts) == {(10, 10, 10), (4, 10, 10), (5, 10, 10)}
    # Half are centred on the class, and the others on any of three voxels.
    assert abs(counts[10, 10, 10] - 400) < 5 * (600 * 2 / 3 / 3) ** 0.5


def test_ignored_voxels_stay_ignored_and_outside_the_volume_is_background(tmp_path: Path) -> None:
    label = np.full((8, 6, 2), 9, np.uint8)
    label[0, 0, 0] = 2
    case = make_case(tmp_path, np.zeros((8, 6, 2), np.uint8), label)
    asked = task(ignore_value=9, patches_per_volume=1)
    settings = Settings(task=asked.model_copy(update={"preset": None}), augment=Augment(affine_prob=1.0))
    dataset = PatchDataset([case], survey_labels([case], asked), settings)
    item = dataset[0, 0]
    assert isinstance(item, CaseSamples)
    assert np.unique(item.targets[0, :, :, 1:3]).tolist() == [2, IGNORED]
    assert np.unique(item.targets[0, :, :, [0, 3]]).tolist() == [0]
    _, moved = augment_patches(torch.from_numpy(item.images_NCXYZ), torch.from_numpy(item.targets), item.draws)
    assert moved is not None
    assert set(moved.unique().tolist()) <= {0, 2, IGNORED}  # nothing in between


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
