"""A run whose label maps are annotated in part: training, validation, the end figure and an evaluation agree."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.data.cache.made_scans import oriented_affine, write_nifti
from voco_cli.cli.app import app
from voco_cli.config import load_settings
from voco_cli.data.index.datalist_file import read_datalist
from voco_cli.data.io.reader import read_scan
from voco_cli.errors import DataError
from voco_cli.evaluate.read_results import read_results
from voco_cli.training.callbacks import Callback
from voco_cli.training.loggers import read_metrics
from voco_cli.workflows.finetune import run_finetuning

TASK = """
task:
  name: ball
  classes: [{name: ball, values: 1}]
  ignore_value: 2
  patch_size: [8, 8, 8]
data: {file: data.json, workers: 0}
preprocess: {window_hu: [0, 255], foreground_above: null, spacing_mm: [1.5, 1.5, 1.5]}
model: {backbone: unet, feature_size: 2, levels: 3}
train: {steps: 6, batch_size: 1, checkpoint_every: 2, validate_every: 2, lr: 0.01}
run: {device: cpu, threads: 1, keep_memory: false}
cache: {workers: 1}
evaluate: {resamples: 100}
"""


def write_data(folder: Path, ignored: int = 2, there: bool = True) -> Path:
    """Bright balls in noise; the lower third of each label map was annotated by nobody. Returns the task file."""
    rng = np.random.default_rng(0)
    affine = oriented_affine("LPS", (1.0, 1.0, 1.5))
    items = []
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    for name in ("a", "b", "c", "d"):
        distance = np.linalg.norm(np.stack(np.indices((14, 12, 10)), -1) - rng.integers(4, 7, 3), axis=-1)
        ball = distance < 4
        label = ball.astype(np.uint8) * there
        label[:, :, :3] = ignored
        image = (rng.normal(60, 10, ball.shape) + 100 * ball).clip(0, 255).astype(np.int16)
        write_nifti(folder / "imagesTr" / f"{name}_0000.nii.gz", image, affine)
        write_nifti(folder / "labelsTr" / f"{name}.nii.gz", label, affine)
        items.append({"image": f"imagesTr/{name}_0000.nii.gz", "label": f"labelsTr/{name}.nii.gz", "patient": name})
    listed = {"training": items[:2], "validation": items[2:], "labels": {"1": "ball"}}
    (folder / "data.json").write_text(json.dumps(listed))
    (folder / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "ball": 1, "ignore": ignored}}))
    (folder / "task.yaml").write_text(TASK)
    return folder / "task.yaml"


def test_validation_the_end_figure_and_an_evaluation_are_those_of_the_annotated_voxels(tmp_path: Path) -> None:
    task, run = write_data(tmp_path), tmp_path / "run"
    result = run_finetuning(load_settings(None, None, (), {"run.dir": run}, task=str(task)), Callback())
    assert result.evaluation is not None
    expected = []
    for name in ("c", "d"):
        label = read_scan(tmp_path / "labelsTr" / f"{name}.nii.gz").array_zyx
        predicted = read_scan(run / "predictions" / "validation" / f"{name}.nii.gz").array_zyx
        assert set(np.unique(predicted)) <= {0, 1}  # it is never a class
        known = label != 2
        ours, theirs = predicted[known] == 1, label[known] == 1
        expected.append(2 * (ours & theirs).sum() / (ours.sum() + theirs.sum()))
    assert max(expected) > 0.1
    table = read_results(result.evaluation).table
    np.testing.assert_allclose(table.of_metric("dice")[:, 0], expected)
    assert [one.name for one in table.structures] == ["ball"]
    validated = {line["step"]: line["dice"] for line in read_metrics(run / "metrics.jsonl") if "dice" in line}
    assert validated[result.chosen_step] == pytest.approx(np.mean(expected), abs=1e-9)
    held = json.loads((result.evaluation / "summary.json").read_text())
    assert (held["ignored_label"], held["unlisted_labels"]) == (2, {})
    assert read_datalist(run / "data.json").labels == {"1": "ball", "2": "ignore"}

    # The same by folders: the dataset.json above the labels names the value; else what the predictions say.
    for number in range(2):
        arguments = ["--predictions", run / "predictions" / "validation", "--labels", tmp_path / "labelsTr"]
        shown = CliRunner().invoke(app, ["evaluate", *map(str, arguments), "-o", str(tmp_path / f"out{number}")])
        assert shown.exit_code == 0, shown.output
        assert "Voxels of label 2 (ignore) are left out of every measure" in shown.output
        again = read_results(tmp_path / f"out{number}").table
        np.testing.assert_array_equal(again.values_NCM, table.values_NCM)
        (tmp_path / "dataset.json").unlink(missing_ok=True)


def test_without_the_setting_the_value_is_refused(tmp_path: Path) -> None:
    task = write_data(tmp_path)
    task.write_text(TASK.replace("  ignore_value: 2\n", ""))
    with pytest.raises(DataError, match=r"Label values that no class of the task ball has: .* holds 2"):
        run_finetuning(load_settings(None, None, (), {"run.dir": tmp_path / "run"}, task=str(task)), Callback())


def test_tasks_new_drafts_it_and_tasks_check_and_preview_case_know_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_data(tmp_path / "data", ignored=5)
    monkeypatch.chdir(tmp_path)
    for command in (
        ["index", "data", "-o", "data.json"],
        ["tasks", "new", "data.json", "-o", "my.yaml", "--modality", "CT"],
        ["tasks", "check", "--task", "my.yaml"],
    ):
        shown = CliRunner().invoke(app, command)
        assert shown.exit_code == 0, shown.output + str(shown.exception)
    task = load_settings(task="my.yaml").settings.task
    assert task.ignore_value == 5
    assert [(one.name, one.values) for one in task.classes] == [("ball", (1,))]
    shown = CliRunner().invoke(app, ["tasks", "preview", "data.json", "--case", "a", "--json"])
    seen = json.loads(shown.stdout)
    label = read_scan(tmp_path / "data" / "labelsTr" / "a.nii.gz").array_zyx
    assert [(one["name"], one["label_voxels"]) for one in seen["structures"]] == [("ball", int((label == 1).sum()))]
    assert seen["unlisted"] == {}
    shown = CliRunner().invoke(app, ["tasks", "preview", "data.json", "--case", "a"])
    assert f"ignored: {14 * 12 * 3} voxels of value 5, which nobody annotated" in shown.output


def test_a_validation_in_which_nothing_is_there_runs_to_its_end(tmp_path: Path) -> None:
    task, run = write_data(tmp_path), tmp_path / "run"
    for name in ("c", "d"):
        empty = np.zeros((14, 12, 10), np.uint8)
        write_nifti(tmp_path / "labelsTr" / f"{name}.nii.gz", empty, oriented_affine("LPS", (1.0, 1.0, 1.5)))
    result = run_finetuning(load_settings(None, None, (), {"run.dir": run}, task=str(task)), Callback())
    lines = [line for line in read_metrics(run / "metrics.jsonl") if line["split"] == "validation"]
    assert len(lines) == 3
    for line in lines:  # either a false positive somewhere, or nothing to measure
        assert (line["error"], line.get("dice")) in ((1.0, 0.0), (0.0, None))
    errors = {line["step"]: line["error"] for line in lines}
    assert errors[result.chosen_step] == min(errors.values())
