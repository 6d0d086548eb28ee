from __future__ import annotations

from pathlib import Path

import pytest

from voco_cli.config import Settings, load_settings
from voco_cli.config.objective_schema import cube_edge
from voco_cli.data.index.datalist import Datalist, Entry
from voco_cli.errors import UsageError
from voco_cli.study.plan import StudyPlan, make_plan
from voco_cli.study.pretraining import draft_crops, equal_steps, steps_within, unlabelled, write_recipe
from voco_cli.workflows.study_pretrain import longer_steps


def test_crops_of_small_volumes() -> None:
    # 25th percentiles of the edges are 35, 50, 34: a fourth is about 8, and a network of 4 levels needs 9; a third is
    # about 12 and 16.
    found = draft_crops([(35, 50, 33), (36, 51, 40)], "unet", 4)
    assert found == {
        "crops.grid": [3, 3],
        "crops.size": [12, 16, 32],
        "crops.input_size": None,
        "preprocess.min_size_vox": [36, 48, 32],
    }


def test_crops_of_large_volumes_are_no_larger_than_96_voxels_and_keep_to_multiples() -> None:
    found = draft_crops([(300, 600, 250)], "swinunetr", 5)
    assert found["crops.grid"] == [4, 4]
    assert found["crops.size"] == [76, 96, 96]
    assert found["crops.input_size"] == [64, 96, 96]


def test_crops_that_are_too_small_for_the_network_are_enlarged_for_it() -> None:
    found = draft_crops([(20, 24, 30)], "unet", 5)
    assert found["crops.grid"] == [2, 2]
    assert found["crops.size"] == [8, 12, 24]
    assert found["crops.input_size"] == [17, 17, 24]


@pytest.mark.parametrize(("shape", "cube"), [((256, 256, 96), 16), ((96, 96, 24), 8), ((35, 50, 33), 4)])
def test_cubes_of_a_masked_autoencoder_fit_the_crops(shape: tuple[int, int, int], cube: int) -> None:
    network = load_settings(None, None, (), task="msd_hippocampus").settings.model
    size = draft_crops([shape], network.backbone, network.levels)["crops.size"]
    assert cube_edge("auto", size) == cube


def test_volumes_that_cannot_be_cut_are_refused() -> None:
    with pytest.raises(UsageError, match=r"^The scans are of about 3x3x9 voxels, too small to be cut into crops\.$"):
        draft_crops([(3, 3, 9)], "unet", 3)


def test_time_is_shared_evenly_by_the_stages() -> None:
    assert steps_within(120, [0.5]) == (240,)
    assert steps_within(120, [0.5, 0.25, 1000]) == (80, 160, 1)


@pytest.mark.parametrize(("steps", "stages", "of_each"), [(7, 1, (7,)), (7, 2, (3, 4)), (2, 3, (1, 1, 1))])
def test_steps_are_shared_evenly_by_the_stages(steps: int, stages: int, of_each: tuple[int, ...]) -> None:
    assert equal_steps(steps, stages) == of_each


def test_steps_from_scratch_with_the_time_of_the_longest_pretraining() -> None:
    # 100 steps in 50 s are 0.5 s each; 30 s more are 60 steps.
    assert longer_steps(100, 50.0, [20.0, 30.0]) == 160


def test_images_are_listed_without_labels_and_those_of_the_test_split_not_at_all() -> None:
    entry = Entry(
        image=Path("/a_0000.nii.gz"),
        label=Path("/l.nii.gz"),
        patient="a",
        case="a",
        category="x",
        channels=(Path("/a_0001.nii.gz"),),
    )
    found = unlabelled(Datalist(name="n", training=(entry,), validation=(entry,), test=(entry,)))
    assert [one.image.name for one in found.training] == ["a_0000.nii.gz", "a_0001.nii.gz"]
    assert {(one.label, one.category, one.case, one.patient) for one in found.training} == {(None, None, None, "a")}
    assert (len(found.validation), len(found.test)) == (2, 0)


def drafted(folder: Path, *overrides: str) -> tuple[StudyPlan, Settings]:
    """A plan whose recipe is written, and the settings of its task."""
    task = load_settings(None, None, overrides, task="msd_hippocampus").settings
    plan = make_plan(folder, "msd_hippocampus", [], [4], 1, objectives=["voco", "voco:voco"])
    write_recipe(folder / "pretraining.yaml", "debug", task, [(35, 50, 33)])
    return plan, task


def test_a_pretraining_has_preprocessing_network_and_batch_of_its_task(tmp_path: Path) -> None:
    plan, task = drafted(tmp_path, "model.feature_size=12", "train.batch_size=3")
    own = plan.pretraining_settings(plan.pretrained[0], 7, tmp_path / "cache", [100]).settings
    assert own.preprocess == task.preprocess.model_copy(update={"min_size_vox": (36, 48, 32)})
    assert (own.model.backbone, own.model.feature_size, own.model.levels) == ("unet", 12, 4)
    assert own.train.batch_size == 3
    assert (own.train.steps, own.train.validate_every, own.train.checkpoint_every) == (100, 25, 25)
    assert own.train.lr == 1e-3  # of the recipe, not of the task
    assert own.model.projector_out == 256
    assert (own.seed, own.cache.dir, own.data.file) == (7, tmp_path / "cache", tmp_path / "pretraining" / "data.json")
    assert own.run.dir == tmp_path / "pretraining" / "voco-seed7"


@pytest.mark.parametrize(
    ("task", "drafted_size"), [("resize_vox=[64,64,64]", None), ("min_size_vox=[40,40,40]", (40, 48, 40))]
)
def test_a_pretraining_pads_no_volume_that_the_task_resizes_and_none_less(
    task: str, drafted_size: tuple[int, int, int] | None, tmp_path: Path
) -> None:
    plan, settings = drafted(tmp_path, f"preprocess.{task}")
    own = plan.pretraining_settings(plan.pretrained[0], 0, tmp_path / "cache", [8]).settings
    assert own.preprocess == settings.preprocess.model_copy(update={"min_size_vox": drafted_size})


def test_stages_have_steps_of_their_own(tmp_path: Path) -> None:
    plan, _ = drafted(tmp_path)
    own = plan.pretraining_settings(plan.pretrained[1], 0, tmp_path / "cache", [5, 9]).settings
    assert [stage["train"]["steps"] for stage in own.stages] == [5, 9]


def test_a_file_goes_before_the_draft(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("crops: {grid: [2, 2], size: [16, 20, 20]}\ntrain: {lr: 0.5}\n")
    plan, _ = drafted(tmp_path)
    asked = make_plan(
        tmp_path,
        "msd_hippocampus",
        [],
        [4],
        1,
        objectives=["voco"],
        pretraining=plan.pretraining.__class__(1.0, None, "debug", own),
    )
    settings = asked.pretraining_settings(asked.pretrained[0], 0, tmp_path / "cache", [8]).settings
    assert (settings.crops.grid, settings.crops.size, settings.train.lr) == ((2, 2), (16, 20, 20), 0.5)
    assert settings.train.steps == 8


def test_a_recipe_that_is_there_stays(tmp_path: Path) -> None:
    drafted(tmp_path)
    before = (tmp_path / "pretraining.yaml").read_text()
    drafted(tmp_path, "model.feature_size=12")
    assert (tmp_path / "pretraining.yaml").read_text() == before
