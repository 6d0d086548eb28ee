"""A fine-tuning goes on where task file, split and data are called otherwise; another label map is refused."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.data.cache.made_scans import oriented_affine, write_nifti
from voco_cli.config import load_settings
from voco_cli.data.index.datalist_file import read_datalist
from voco_cli.errors import UsageError
from voco_cli.training.callbacks import Callback
from voco_cli.workflows.finetune import run_finetuning

TASK = """
task:
  name: ball
  classes: [{name: ball, values: 1}]
  split: split.json
  patch_size: [8, 8, 8]
data: {file: data.json, workers: 0}
preprocess: {window_hu: [0, 255], foreground_above: null}
model: {backbone: unet, feature_size: 2, levels: 3}
train: {steps: 1, batch_size: 1, checkpoint_every: 1, validate_every: 1}
run: {device: cpu, threads: 1, keep_memory: false}
cache: {workers: 1}
"""
CASES = ("a", "b", "c")


def write_label(folder: Path, name: str, edge: int = 6) -> Path:
    label = np.zeros((12, 12, 12), np.uint8)
    label[3 : 3 + edge, 3:9, 3:9] = 1
    return write_nifti(folder / f"{name}_seg.nii.gz", label, oriented_affine("RAS", (1.0, 1.0, 1.0)))


def write_all(folder: Path) -> Path:
    """Three scans with a box, their list, a split, and the task file, which is returned."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    items = []
    for name in CASES:
        label = write_label(folder, name)
        image = rng.integers(0, 200, (12, 12, 12)).astype(np.int16)
        write_nifti(folder / f"{name}.nii.gz", image, oriented_affine("RAS", (1.0, 1.0, 1.0)))
        items.append({"image": f"{name}.nii.gz", "label": label.name, "patient": name})
    (folder / "data.json").write_text(json.dumps({"training": items}))
    split = {"format": "voco-split/1", "training": ["a", "b"], "validation": ["c"]}
    (folder / "split.json").write_text(json.dumps(split))
    (folder / "task.yaml").write_text(TASK)
    return folder / "task.yaml"


def go(task: Path | str, run: Path, *override: str) -> Path | None:
    return run_finetuning(load_settings(None, None, override, {"run.dir": run}, task=str(task)), Callback()).evaluation


def test_task_file_split_and_data_that_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task, run = write_all(tmp_path / "data"), tmp_path / "run"
    go(task, run)
    go(os.path.relpath(task), run)
    renamed = task.rename(task.with_name("another name.yaml"))
    task.with_name("split.json").rename(task.with_name("folds.json"))
    go(renamed, run, f"task.split={task.with_name('folds.json')}")
    moved = Path(shutil.move(task.parent, tmp_path / "moved"))
    monkeypatch.chdir(moved)
    shutil.rmtree(run / "evaluation")
    evaluation = go(renamed.name, run, "task.split=folds.json")
    assert evaluation is not None  # the run knows where its cases lie now
    assert (evaluation / "cases.csv").is_file()
    assert read_datalist(run / "data.json").validation[0].image == moved / "c.nii.gz"


def test_a_split_of_other_cases_is_refused(tmp_path: Path) -> None:
    task, run = write_all(tmp_path / "data"), tmp_path / "run"
    go(task, run)
    other = {"format": "voco-split/1", "training": ["c", "b"], "validation": ["a"]}
    task.with_name("split.json").write_text(json.dumps(other))
    with pytest.raises(UsageError, match=r"2 training and 1 validation, and now .*; new are"):
        go(task, run)


def test_a_label_map_that_was_changed_is_refused_by_name(tmp_path: Path) -> None:
    task, run = write_all(tmp_path / "data"), tmp_path / "run"
    go(task, run)
    write_label(task.parent, "b", 5)
    with pytest.raises(UsageError) as caught:
        go(task, run)
    assert caught.value.message == f"{run} was started with other voxels or labels than the files hold now of b."
    write_label(task.parent, "b")
    go(task, run)


def test_other_label_values_of_a_class_are_refused_as_settings(tmp_path: Path) -> None:
    task, run = write_all(tmp_path / "data"), tmp_path / "run"
    go(task, run)
    task.write_text(TASK.replace("values: 1", "values: [1, 2]"))
    with pytest.raises(UsageError, match=r"other settings:\n  task\.classes: "):
        go(task, run)
