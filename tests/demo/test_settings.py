"""The settings files of a demo: what they say is accepted, and the encoder fits into the task's network."""

from __future__ import annotations

import pytest

from voco_cli.config import Settings, load_settings
from voco_cli.demo.stages import PRETRAINING, SHAPE_XYZ, STUDY, write_scans
from voco_cli.tasks.new_task import source_of_list, task_file


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Settings, Settings]:
    """Settings of the pre-training and of a run of the study, whose task file is drafted as `voco tasks new` does."""
    folder = tmp_path_factory.mktemp("demo")
    _, listed = write_scans(folder / "scans", 0)
    task = folder / "task.yaml"
    task.write_text(task_file(source_of_list(listed), task, "unet", lambda n: None, 1))
    for name, text in (("pretrain.yaml", PRETRAINING), ("study.yaml", STUDY)):
        (folder / name).write_text(text)
    pretraining = load_settings(config=folder / "pretrain.yaml").settings
    return pretraining, load_settings(config=folder / "study.yaml", task=str(task)).settings


def test_the_encoder_is_the_same_and_sees_the_same_intensities(both: tuple[Settings, Settings]) -> None:
    pretraining, study = both
    for name in ("backbone", "feature_size", "levels"):
        assert getattr(pretraining.model, name) == getattr(study.model, name)
    for name in ("intensity", "window_hu", "foreground_above", "spacing_mm"):
        assert getattr(pretraining.preprocess, name) == getattr(study.preprocess, name)


def test_the_grid_tiles_the_whole_scan_and_a_patch_is_one(both: tuple[Settings, Settings]) -> None:
    pretraining, study = both
    assert pretraining.crops.region_vox == pretraining.preprocess.resize_vox == SHAPE_XYZ
    assert study.task.patch_size == SHAPE_XYZ
    assert [one.name for one in study.task.classes] == ["liver", "spleen", "right kidney", "left kidney", "aorta"]


def test_left_stays_left(both: tuple[Settings, Settings]) -> None:
    """A flip would make one kidney the other, and one base crop another."""
    for settings in both:
        assert settings.augment.flip_prob == settings.augment.rotate_prob == 0
