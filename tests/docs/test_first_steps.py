"""The first commands of the README and of docs/start.md, as they stand there, on generated scans."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from tests.docs.pages import ROOT, blocks, shell_lines, voco_arguments
from tests.docs.test_snippets import check
from tests.tasks.made_run import make_run
from voco_cli.cli.app import app
from voco_cli.config import read_saved
from voco_cli.data.synthetic.generate import write_cts

START = ROOT / "docs" / "start.md"
CHEAP = ("index", "preview-labels")
SHORT = {"VOCO_TRAIN__STEPS": "4"}
"""Weaker than what is typed: pre-training takes it in place of its recipe's number, and `--steps` holds."""
ELSEWHERE = ("--recipe cvpr -o runs", "/data/BTCV")
"""Of the chain's commands those for a GPU and days, and for a public data set."""


def calls_of(page: Path) -> list[list[str]]:
    """What the page's blocks give to voco, in order."""
    calls = [
        voco_arguments(words) for block in blocks(page) if block.language == "bash" for words in shell_lines(block.text)
    ]
    return [call for call in calls if call]


@pytest.mark.parametrize("page", ["README.md", "docs/start.md"])
def test_first_steps_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cts(tmp_path / "scans", 5, 1, (48, 48, 24))
    monkeypatch.chdir(tmp_path)
    steps = [call for call in calls_of(ROOT / page) if call[0] in CHEAP]
    assert [call[0] for call in steps] == [*CHEAP]
    for call in steps:
        shown = CliRunner().invoke(app, call)
        assert shown.exit_code == 0, shown.output
        assert "wrote " in shown.output
    data = json.loads((tmp_path / "data.json").read_text())
    assert len(data["training"]) + len(data["validation"]) == 5
    assert list(tmp_path.glob("*.png"))


def test_a_task_for_ones_own_labels_takes_the_network_of_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_cts(tmp_path / "scans", 3, 1, (46, 44, 22), labelled=True)
    make_run(tmp_path / "runs" / "try", "model.levels=4", "model.feature_size=6")
    monkeypatch.chdir(tmp_path)
    steps = [call for call in calls_of(START) if call[0] == "index" or call[:2] == ["tasks", "new"]]
    assert len(steps) == 2
    for call in steps:
        shown = CliRunner().invoke(app, call)
        assert shown.exit_code == 0, shown.output
    task = yaml.safe_load((tmp_path / "my_task.yaml").read_text())
    assert task["model"] == {"backbone": "unet", "feature_size": 6, "levels": 4}
    assert task["task"]["patch_size"] == [48, 48, 24]  # three halvings: the next multiples of 8
    assert "next: voco tasks check --task my_task.yaml, then voco finetune" in shown.output
    assert "--weights runs/try" in shown.output


def voco(call: list[str], folder: Path) -> str:
    """Type a command in a folder; what it prints."""
    environment = {**os.environ, **SHORT, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-m", "voco_cli", *call],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"voco {shlex.join(call)}\n{done.stderr}"
    return done.stdout


def hinted(stdout: str) -> list[list[str]]:
    """The commands of the last line."""
    last = stdout.splitlines()[-1]
    assert last.startswith("next: "), stdout
    commands = re.split(r", then |, or with (?:the )?labels: |, or ", last.removeprefix("next: "))
    return [shlex.split(command)[1:] for command in commands]


@pytest.mark.slow
@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_the_chain_runs_as_it_is_written(modality: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cts(tmp_path / "scans", 6, 1, (32, 32, 16), labelled=True)
    about = {"channel_names": {"0": modality}, "labels": {"background": 0, "spleen": 1}, "file_ending": ".nii.gz"}
    (tmp_path / "scans" / "dataset.json").write_text(json.dumps(about))
    monkeypatch.chdir(tmp_path)
    chain = [call for call in calls_of(START) if not any(words in shlex.join(call) for words in ELSEWHERE)]
    names = ["index", "preview-labels", "pretrain", "tasks", "finetune"]
    assert [call[0] for call in chain] == [*names, "predict", "evaluate", "finetune", "compare", "study"]
    for call in chain:
        for hint in hinted(voco(call, tmp_path)):
            check(hint)  # as the app would parse it, with the files that it names
    intensity = read_saved(tmp_path / "runs" / "try" / "settings.yaml").preprocess.intensity
    assert intensity == {"CT": "window", "MR": "percentiles"}[modality]
