"""Whole fine-tuning runs: every preset end to end, resumed equals unbroken, what is refused."""

from __future__ import annotations

import csv
import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.data.cache.made_scans import write_nifti
from tests.finetune.tiny_task import killed_finetune, make_data, tiny_finetune
from tests.pretrain.tiny_run import At, tiny_run, write_data
from tests.tasks.made_task import write_task
from voco_cli.data.index.datalist_file import read_datalist
from voco_cli.data.io.reader import read_scan, write_scan
from voco_cli.errors import DataError, Interrupted, UsageError
from voco_cli.evaluate.read_results import read_results
from voco_cli.evaluate.segmentation.table import summarise
from voco_cli.predict.classification import classify_entries
from voco_cli.predict.predictor import load_trained
from voco_cli.training.loggers import read_metrics
from voco_cli.workflows.evaluate import measure_run

ORGANS = ("btcv", "lits", "msd_spleen", "mmwhs", "amos", "flare22", "word", "msd_hippocampus")


def weights(run: Path) -> bytes:
    return (run / "weights" / "model.safetensors").read_bytes()


def figures(run: Path) -> list[dict[str, float]]:
    lines = read_metrics(run / "metrics.jsonl")
    return [
        {key: value for key, value in line.items() if key not in ("compute_s", "cases_per_s", "data_wait")}
        for line in lines
    ]


@pytest.mark.parametrize("task", [*ORGANS, "brats21"])
def test_every_preset_trains_predicts_and_evaluates(tmp_path: Path, task: str) -> None:
    """On generated scans laid out as the public set is; two steps."""
    steps = ("train.steps=2", "train.validate_every=2", "train.checkpoint_every=2")
    result = tiny_finetune(make_data(tmp_path / "data", task), tmp_path / "run", *steps, task=task)
    assert result.evaluated_split == ("test" if task == "word" else "validation")
    assert result.evaluation is not None
    table = read_results(result.evaluation).table
    assert len(table.cases) == (1 if task == "word" else 2)
    predictions = sorted((tmp_path / "run" / "predictions" / result.evaluated_split).glob("*.nii.gz"))
    assert [path.name.removesuffix(".nii.gz") for path in predictions] == list(table.cases)
    listed = {0, *(value for one in table.structures for value in one.labels)}
    for path in predictions:
        assert set(np.unique(read_scan(path).array_zyx).tolist()) <= listed  # in the label files' own values
    regions = [one.name for one in table.structures if one.is_region]
    assert regions == {"brats21": ["TC", "WT", "ET"], "lits": ["liver with tumour"]}.get(task, [])


def test_resumed_equals_unbroken_to_the_bit(tmp_path: Path) -> None:
    data = make_data(tmp_path / "data")
    unbroken = tiny_finetune(data, tmp_path / "unbroken")
    killed_finetune(data, tmp_path / "killed", At(advanced=6))
    resumed = tiny_finetune(data, tmp_path / "killed")
    assert weights(tmp_path / "killed") == weights(tmp_path / "unbroken")
    assert figures(tmp_path / "killed") == figures(tmp_path / "unbroken")
    assert (resumed.chosen_step, resumed.how_chosen) == (unbroken.chosen_step, unbroken.how_chosen)
    assert (
        tiny_finetune(data, tmp_path / "killed").how_chosen == unbroken.how_chosen
    )  # once more: nothing is left to do


def test_a_signal_ends_with_a_checkpoint_and_75(tmp_path: Path) -> None:
    data = make_data(tmp_path / "data")
    stop = At(advanced=3, then=lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Interrupted) as caught:
        tiny_finetune(data, tmp_path / "run", callback=stop)
    assert caught.value.exit_code == 75
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-000003"]


@pytest.mark.parametrize("choose", ["best", "last"])
def test_chosen_weights_and_the_validation_that_predictions_reproduce(tmp_path: Path, choose: str) -> None:
    result = tiny_finetune(
        make_data(tmp_path / "data"),
        tmp_path / "run",
        f"task.choose={choose}",
        "train.lr=0.01",
        "train.validate_every=2",
    )
    validated = {line["step"]: line["dice"] for line in figures(tmp_path / "run") if line["split"] == "validation"}
    best = max(validated, key=lambda step: validated[step])
    assert sorted(validated) == [2, 4, 6, 8]
    assert result.chosen_step == (best if choose == "best" else 8)
    about = json.loads((tmp_path / "run" / "weights" / "model.json").read_text())
    assert (about["step"], about["chosen"]) == (result.chosen_step, result.how_chosen)
    kept = load_file(tmp_path / "run" / "checkpoints" / f"step-{result.chosen_step:06d}" / "model.safetensors")
    written = load_file(result.weights)
    assert all(np.array_equal(written[name], kept[name]) for name in written)
    # Predicted anew from the scans, written, read and measured: the number of the validation in training.
    assert result.evaluation is not None
    overall = summarise(read_results(result.evaluation).table, resamples=100).overall["dice"]
    assert overall.mean == pytest.approx(validated[result.chosen_step], abs=1e-9)
    if choose == "best":
        assert f"the best of 4 validations by mean Dice ({overall.mean:.4f} on 2 validation cases)" in result.how_chosen
    else:
        assert "no validation chose them" in result.how_chosen


def test_few_cases_are_a_nested_share_and_fewer_than_a_step_takes_do(tmp_path: Path) -> None:
    data = make_data(tmp_path / "data")
    used = {}
    for count in (1, 2):
        tiny_finetune(data, tmp_path / str(count), f"task.cases={count}", "train.steps=2")
        listed = json.loads((tmp_path / str(count) / "data.json").read_text())
        used[count] = {entry["case"] for entry in listed["training"]}
        assert len(listed["validation"]) == 2
    assert len(used[1]) == 1
    assert used[1] < used[2]


def test_other_settings_or_cases_are_refused_on_the_same_folder(tmp_path: Path) -> None:
    data = make_data(tmp_path / "data")
    tiny_finetune(data, tmp_path / "run", "train.steps=1")
    with pytest.raises(UsageError, match=r"started with other settings:\n  train\.lr: 0\.0003 -> 0\.1"):
        tiny_finetune(data, tmp_path / "run", "train.steps=1", "train.lr=0.1")
    (data / "imagesTr" / "img0001.nii.gz").unlink()
    words = "other scans: 3 training, 2 validation and 1 test, and now 2 training, 2 validation and 1 test"
    with pytest.raises(UsageError, match=words):
        tiny_finetune(data, tmp_path / "run", "train.steps=1")


def test_weights_of_a_pretraining_fill_the_encoder_and_the_report_is_kept(tmp_path: Path) -> None:
    same = ("model.levels=3", "train.steps=1")
    tiny_run(write_data(tmp_path / "scans"), tmp_path / "pretrain", *same)
    data = make_data(tmp_path / "data")
    tiny_finetune(data, tmp_path / "run", f"model.weights={tmp_path / 'pretrain'}", "task.freeze_encoder=true")
    report = json.loads((tmp_path / "run" / "weights_report.json").read_text())
    assert (report["kind"], report["encoder_share"]) == ("voco-encoder", 1.0)
    before = load_file(tmp_path / "pretrain" / "weights" / "encoder.safetensors")
    after = load_file(tmp_path / "run" / "weights" / "model.safetensors")
    assert all(np.array_equal(after[name], tensor) for name, tensor in before.items())  # frozen
    assert any(not name.startswith(("input_block", "downsamples", "bottleneck")) for name in after)


def test_a_bad_label_is_left_out_and_a_foreign_value_is_refused(tmp_path: Path) -> None:
    data = make_data(tmp_path / "data")
    label = data / "labelsTr" / "label0001.nii.gz"
    good = read_scan(label)
    affine = np.diag([*good.spacing_xyz_mm, 1.0])
    write_nifti(label, np.zeros((4, 4, 4), np.uint8), affine)
    result = tiny_finetune(data, tmp_path / "left out", "train.steps=1")
    assert len(json.loads((tmp_path / "left out" / "data.json").read_text())["training"]) == 3
    assert result.evaluation is not None
    other = data / "labelsTr" / "label0002.nii.gz"
    array = read_scan(other).array_zyx.copy()
    array[8, 18, 20] = 77
    write_scan(array, read_scan(data / "imagesTr" / "img0002.nii.gz"), other)
    with pytest.raises(DataError, match=r"no class of the task btcv has: .*label0002\.nii\.gz holds 77\."):
        tiny_finetune(data, tmp_path / "foreign", "train.steps=1")


def test_measuring_again_changes_nothing(tmp_path: Path) -> None:
    result = tiny_finetune(make_data(tmp_path / "data"), tmp_path / "run", "train.steps=1")
    assert result.evaluation is not None
    before = (result.evaluation / "cases.csv").read_bytes()
    measure_run(tmp_path / "run")
    assert (result.evaluation / "cases.csv").read_bytes() == before


def test_cc_ccii_trains_measures_its_test_split_and_predicts_probabilities(tmp_path: Path) -> None:
    """Grey volumes laid out as the authors hold them; the test split is what stood in all validation lists."""
    data = write_task(tmp_path / "data", "cc_ccii", training=6, validation=3, test=3, shape_xyz=(32, 32, 32))
    steps = ("preprocess.resize_vox=32x32x32", "train.steps=2", "train.validate_every=2", "train.checkpoint_every=2")
    result = tiny_finetune(data, tmp_path / "run", *steps, task="cc_ccii")
    assert (result.evaluated_split, result.chosen_step) == ("test", 2)
    assert result.evaluation is not None
    summary = json.loads((result.evaluation / "summary.json").read_text())
    assert (summary["format"], summary["cases"]) == ("voco-classification/1", 3)
    trained = load_trained(tmp_path / "run")
    entries = read_datalist(tmp_path / "run" / "data.json").test
    found = classify_entries(trained, entries, tmp_path / "out")
    assert not found.failed
    with (tmp_path / "out" / "probabilities.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["case"] for row in rows] == sorted(entry.name for entry in entries)
    for row in rows:
        assert sum(float(row[name]) for name in ("p_Normal", "p_CP", "p_NCP")) == pytest.approx(1, abs=1e-6)


def test_deep_supervision_trains_coarser_outputs_and_predicts_with_the_finest(tmp_path: Path) -> None:
    data = make_data(tmp_path / "data")
    steps = ("train.steps=2", "train.validate_every=2", "train.checkpoint_every=2")
    result = tiny_finetune(data, tmp_path / "run", "task.deep_supervision=1", *steps)
    tensors = load_file(result.weights)
    assert any(name.startswith("deep_supervision_heads.0.") for name in tensors)
    validated = [line["dice"] for line in figures(tmp_path / "run") if line["split"] == "validation"]
    assert result.evaluation is not None
    overall = summarise(read_results(result.evaluation).table, resamples=100).overall["dice"]
    assert overall.mean == pytest.approx(validated[-1], abs=1e-9)
    resumed = tiny_finetune(data, tmp_path / "run", "task.deep_supervision=1", *steps)
    assert resumed.how_chosen == result.how_chosen


def test_recomputed_activations_give_the_same_weights(tmp_path: Path) -> None:
    data = make_data(tmp_path / "data")
    for switch in ("on", "off"):
        tiny_finetune(data, tmp_path / switch, "train.steps=3", f"model.checkpointing={switch}", "task.choose=last")
    on, off = (load_file(tmp_path / switch / "weights" / "model.safetensors") for switch in ("on", "off"))
    assert all(np.array_equal(on[name], off[name]) for name in off)
