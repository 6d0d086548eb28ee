"""Tasks as a layer of settings: names, files, paths beside a file, and which source wins."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from voco_cli.config import load_settings, task_names
from voco_cli.errors import UsageError

OWN = """
task:
  name: own
  classes: [{name: a, values: 1}, {name: b, values: [2, 3]}]
  split: s.json
  table: t.csv
  patch_size: [32, 32, 32]
data: {file: sub/data.json}
model: {backbone: unet}
"""


def refusal(text: str) -> str:
    Path("own.yaml").write_text(text)
    with pytest.raises(UsageError) as caught:
        load_settings(task="own.yaml")
    return caught.value.message


def test_paths_of_a_task_file_are_from_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "tasks"
    folder.mkdir()
    (folder / "own.yaml").write_text(OWN)
    os.chdir("/")
    settings = load_settings(task=str(folder / "own.yaml")).settings
    assert settings.data.file == folder / "sub/data.json"
    assert settings.task.split == str(folder / "s.json")
    assert settings.task.table == Path("t.csv")  # it is not beside the file, so it lies in the data folder
    (folder / "t.csv").write_text("case,label\n")
    assert load_settings(task=str(folder / "own.yaml")).settings.task.table == folder / "t.csv"


def test_flags_environment_and_task_win_in_this_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOCO_TRAIN__STEPS", "7")
    monkeypatch.setenv("VOCO_TRAIN__LR", "0.5")
    resolved = load_settings(task="btcv", overrides=["train.steps=3"])
    assert (resolved.settings.train.steps, resolved.settings.train.lr) == (3, 0.5)
    assert resolved.sources["train.batch_size"] == "task btcv"


def test_voco_data_is_the_data_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VOCO_DATA", str(tmp_path))
    assert load_settings(task="btcv").settings.data.root == tmp_path


def test_a_value_of_one_is_a_list_of_one() -> None:
    Path("own.yaml").write_text(OWN)
    assert [one.values for one in load_settings(task="own.yaml").settings.task.classes] == [(1,), (2, 3)]


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        ("[{name: a, values: 1}, {name: a, values: 2}]", "the classes have the name 'a' more than once"),
        ("[{name: a, values: 1}, {name: b, values: [1, 2]}]", "the classes have the label value 1 more than once"),
        ("[{name: a, values: 0}]", "the label value 0 is background"),
        ("[{name: a, values: 70000}]", "less than or equal to 65535"),
        ("[{name: a, values: []}]", "at least 1 item"),
    ],
)
def test_classes_that_cannot_be(classes: str, said: str) -> None:
    assert said in refusal(f"task: {{classes: {classes}}}\n")


def test_layouts_stay_inside_the_data_folder_and_have_all_channels() -> None:
    one = "task: {{classes: [{{name: a, values: 1}}], layouts: [{{image: {image}, label: 'l/{{case}}.nii'}}]}}\n"
    assert "leaves the data folder" in refusal(one.format(image="'../{case}.nii'"))
    assert "leaves the data folder" in refusal(one.format(image="'/{case}.nii'"))
    assert "has no {case}" in refusal(one.format(image="'i/a.nii'"))
    assert "2 images a case, and there are 1 channels" in refusal(one.format(image="['{case}_0.nii', '{case}_1.nii']"))


def test_regions_name_classes() -> None:
    assert "the regions name b, which no class is called" in refusal(
        "task: {classes: [{name: a, values: 1}], regions: [{name: both, classes: [a, b]}]}\n"
    )


def test_sizes_that_the_network_cannot_take() -> None:
    with pytest.raises(UsageError, match="80x96x96 voxels, not multiples of 32"):
        load_settings(task="btcv", overrides=["task.patch_size=80x96x96", "augment.rotate_prob=0"])
    with pytest.raises(UsageError, match="a classification sees whole scans of one size"):
        load_settings(task="cc_ccii", overrides=["preprocess.resize_vox=null"])
    with pytest.raises(UsageError, match="the channels would be cut differently"):
        load_settings(task="brats21", overrides=["preprocess.foreground_above=0"])


def test_an_unknown_task_names_the_known() -> None:
    with pytest.raises(UsageError, match="no task 'bctv'") as caught:
        load_settings(task="bctv")
    assert ", ".join(task_names()) in str(caught.value.hint)
