"""`voco finetune` as a user calls it: what is refused and how, interruption, JSON."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command import voco
from tests.finetune.tiny_task import TINY, make_data
from tests.waiting import wait_until


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "voco_cli", "finetune", *map(str, arguments)]


def finetune(*arguments: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return voco("finetune", *arguments, cwd=cwd, COLUMNS="200", **environment)


def tiny(*more: str) -> list[str]:
    return [part for setting in (*TINY, *more) for part in ("--set", setting)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("task") / "BTCV")


def test_without_data_it_says_what_is_expected_and_where_it_is_to_be_had(tmp_path: Path) -> None:
    shown = finetune("--task", "btcv", cwd=tmp_path)
    assert shown.returncode == 2
    assert shown.stderr.startswith("error: The data of btcv is nowhere")
    for words in ("imagesTr/img{case}.nii.gz with labelsTr/label{case}.nii.gz", "VOCO_DATA", "syn3193805"):
        assert words in shown.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_run_from_an_environment_ends_with_its_figures_as_json(tmp_path: Path, data: Path) -> None:
    """VOCO_DATA names the folder above the data set."""
    arguments = ["--task", "btcv", *tiny("train.steps=2", "train.validate_every=2"), "--json"]
    shown = finetune(*arguments, cwd=tmp_path, VOCO_DATA=str(data.parent))
    assert shown.returncode == 0, shown.stderr
    found = json.loads(shown.stdout)
    assert (found["run"], found["split"], found["step"]) == ("runs/finetune", "validation", 2)
    assert found["chosen"].startswith("weights of step 2, the best of 1 validations by mean Dice")
    assert found["summary"]["cases"] == 2
    assert "25 cases of the split are missing and left out: 0004 (imagesTr/img0004.nii.gz)," in shown.stderr
    assert " and 22 more\n" in shown.stderr
    again = finetune(*arguments[:-1], cwd=tmp_path, VOCO_DATA=str(data.parent))
    assert again.returncode == 0, again.stderr
    lines = again.stdout.splitlines()
    assert lines[0] == f"Result: {found['chosen']}."
    assert "The weights were chosen on the very cases that are measured here; a test split would say more." in lines
    assert lines[-1] == "next: voco predict runs/finetune NEW_SCANS -o predictions"


def test_ctrl_c_ends_with_a_checkpoint_and_75(tmp_path: Path, data: Path) -> None:
    arguments = command("--task", "btcv", "--data", data, *tiny("train.steps=100000"))
    with subprocess.Popen(arguments, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as running:
        metrics = tmp_path / "runs" / "finetune" / "metrics.jsonl"
        wait_until(lambda: metrics.is_file() and metrics.read_text(), running)
        running.send_signal(signal.SIGINT)
        assert running.wait() == 75
        assert running.stderr is not None
        assert "a checkpoint was written" in running.stderr.read()
    assert list((tmp_path / "runs" / "finetune" / "checkpoints").glob("step-*"))


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--task", "btvc"], 2, "There is no task 'btvc'."),
        (["--task", "btcv", "--data", "gone"], 2, "--data gone does not exist."),
        (["--task", "btcv", "--freeze-encoder"], 2, "task.freeze_encoder needs model.weights"),
        (
            ["--task", "btcv", "--cases", "2", "--fraction", "0.5"],
            2,
            "error: task.cases and task.fraction both say how",
        ),
        (["--task", "twice.yaml"], 2, "twice.yaml:1: the classes have the name 'liver' more than once."),
        (["--task", "channels.yaml"], 2, "a layout has 1 images a case, and there are 2 channels"),
        (["--task", "away.yaml"], 2, "leaves the data folder"),
        (["--task", "btcv", "--set", "task.patch_size=100x100x100"], 2, "not multiples of 32"),
    ],
)
def test_wrong_input_is_one_sentence(tmp_path: Path, arguments: list[str], code: int, words: str) -> None:
    (tmp_path / "twice.yaml").write_text("task:\n  classes: [{name: liver, values: 1}, {name: liver, values: 2}]\n")
    layout = (
        "task:\n  classes: [{name: a, values: 1}]\n  layouts: [{image: '%s/{case}.nii.gz', label: 'l/{case}.nii.gz'}]\n"
    )
    (tmp_path / "channels.yaml").write_text(layout % "i" + "  channels: [t1, t2]\n")
    (tmp_path / "away.yaml").write_text(layout % "../i")
    shown = finetune(*arguments, cwd=tmp_path)
    assert shown.returncode == code
    assert shown.stderr.startswith("error: ")
    assert words in shown.stderr
    assert "Traceback" not in shown.stderr


def test_a_case_with_too_few_channels_and_weights_of_another_network(tmp_path: Path, data: Path) -> None:
    names = [(f"imagesTr/img{i:04d}.nii.gz", f"labelsTr/label{i:04d}.nii.gz") for i in (1, 2, 3)]
    listed = {"training": [{"image": str(data / image), "label": str(data / label)} for image, label in names]}
    (tmp_path / "data.json").write_text(json.dumps(listed))
    (tmp_path / "two.yaml").write_text(
        "task: {name: two, classes: [{name: organ, values: [1,2,3,4,5,6,7,8,9,10,11,12,13]}], channels: [t1, t2],"
        " choose: last, split: seeded, validation_patients: 1}\npreprocess: {foreground_above: null}\n"
    )
    shown = finetune("--task", "two.yaml", "--data", "data.json", *tiny(), cwd=tmp_path)
    assert shown.returncode == 2
    assert "has 1 channels for img0001, and the task has 2 (t1, t2)." in shown.stderr
    first = finetune("--task", "btcv", "--data", data, *tiny("train.steps=1"), "-o", "first", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    other = tiny("train.steps=1", "model.feature_size=4")
    refused = finetune("--task", "btcv", "--data", data, *other, "--weights", "first", "-o", "second", cwd=tmp_path)
    assert refused.returncode == 2
    assert "is of DynUNet with filters 2-4-8, the network is DynUNet with filters 4-8-16" in refused.stderr
    assert "--set model.backbone=unet --set model.feature_size=2 --set model.levels=3" in refused.stderr
