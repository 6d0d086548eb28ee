"""`voco study` as a command: what it prints, writes, and refuses."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from tests.study.made_study import PRESET, StandIn, weights_file
from voco_cli.cli.study import study
from voco_cli.config import Resolved, Settings
from voco_cli.errors import DataError, UsageError, VocoError

app = typer.Typer()
app.command()(study)


def score(settings: Settings) -> float:
    return 0.6 + 0.01 * settings.seed + 0.05 * (settings.model.weights is not None)


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """Nothing is trained: a run's Dice follows from its settings."""
    known = StandIn(score)
    monkeypatch.setattr("voco_cli.workflows.finetune.run_finetuning", lambda resolved, callback: known(resolved))
    monkeypatch.setattr(
        "voco_cli.workflows.study.require_fitting_weights", lambda plan: None
    )  # of files that hold nothing
    return known


@pytest.fixture
def no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voco_cli.workflows.study_outcome.draw_label_efficiency", lambda found: b"a picture")


def list_cases(folder: Path) -> Path:
    """A list of ten cases to train on and two to test; nobody reads the scans."""
    splits = {"training": [f"a{i}" for i in range(10)], "test": ["b0", "b1"]}
    for name in (name for names in splits.values() for name in names):
        for kind in ("image", "label"):
            (folder / kind).mkdir(exist_ok=True)
            (folder / kind / f"{name}.nii.gz").touch()
    listed = {
        split: [{"image": f"image/{name}.nii.gz", "label": f"label/{name}.nii.gz", "patient": name} for name in names]
        for split, names in splits.items()
    }
    path = folder / "data.json"
    path.write_text(json.dumps({"format": "voco-data/1", "name": "tiny", **listed}))
    return path


def call(folder: Path, *more: str) -> Result:
    (folder / "tiny.yaml").write_text(PRESET)
    own = ["--task", str(folder / "tiny.yaml"), "--weights", weights_file(folder), "-o", str(folder / "study")]
    data = ["--data", str(list_cases(folder)), "--set", "task.split=null"]
    return CliRunner().invoke(app, [*own, *data, "--cases", "5,10", "--seeds", "2", *more])


def test_tables_words_and_files(tmp_path: Path) -> None:
    shown = call(tmp_path)
    assert shown.exit_code == 0, shown.output
    words = " ".join(shown.stdout.split())
    assert "5 labelled cases: voco is higher than none (+0.050 [+0.050, +0.050])." in words
    assert "by class, with the most labelled cases" in words
    assert "the time of pre-training comes on top" in words
    folder = tmp_path / "study"
    for name in ("study.json", "study.md", "study.png"):
        assert f"wrote {folder / name}" in words
        assert (folder / name).is_file()
    assert (
        f"next: voco compare {folder}/none/n010-seed1/evaluation/test {folder}/voco/n010-seed1/evaluation/test" in words
    )
    assert "run 1 of 8: none, 5 labelled cases, seed 0" in shown.stderr
    assert "none, 5 labelled cases, seed 0: Dice 0.6000" in shown.stderr


@pytest.mark.usefixtures("no_picture")
def test_the_last_step_is_measured_unless_asked_otherwise(tmp_path: Path, stand_in: StandIn) -> None:
    chosen = []
    stand_in.score = lambda settings: chosen.append(settings.task.choose) or 0.5  # type: ignore[func-returns-value]
    call(tmp_path)
    assert set(chosen) == {"last"}
    refused = call(tmp_path, "--choose", "best")
    assert isinstance(refused.exception, UsageError)
    assert "task.choose: last -> best" in refused.exception.message


@pytest.mark.usefixtures("no_picture")
def test_json_is_all_of_stdout(tmp_path: Path) -> None:
    found = json.loads(call(tmp_path, "--json").stdout)
    stored = json.loads((tmp_path / "study" / "study.json").read_text())
    assert found["runs"] == stored["runs"]
    assert found["differences"] == stored["differences"]
    assert len(found["runs"]) == 8


@pytest.mark.usefixtures("no_picture")
def test_the_same_command_runs_nothing_twice(tmp_path: Path, stand_in: StandIn) -> None:
    call(tmp_path)
    again = call(tmp_path)
    assert len(stand_in.called) == 8
    assert "8 runs, 8 of them finished already" in again.stderr
    assert again.exit_code == 0


@pytest.mark.usefixtures("no_picture")
def test_a_failed_run_is_told_at_the_end_with_exit_code_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(resolved: Resolved, callback: Any) -> Any:
        if resolved.settings.run.dir.match("voco/n005-seed1"):
            raise DataError("The loss is not finite at step 3.")
        return StandIn(score)(resolved)

    monkeypatch.setattr("voco_cli.workflows.finetune.run_finetuning", failing)
    shown = call(tmp_path)
    assert isinstance(shown.exception, VocoError)
    assert shown.exception.exit_code == 1
    assert "voco, 5 labelled cases, seed 1: The loss is not finite at step 3." in shown.exception.message
    assert "next: voco compare" in shown.stdout


@pytest.mark.parametrize("cases", ["", "5,x", "0,5", "5,,10"])
def test_numbers_of_cases_that_are_none(cases: str, tmp_path: Path) -> None:
    shown = call(tmp_path, "--cases", cases)
    assert isinstance(shown.exception, UsageError)
    assert "--cases" in f"{shown.exception.message} {shown.exception.hint}"
