"""`voco study` as a command: what it prints, writes, and refuses."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from tests.study.made_study import PRESET, StandIn, weights_file
from voco_cli.cli.app import app as whole_app
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


def words(folder: Path) -> list[str]:
    (folder / "tiny.yaml").write_text(PRESET)
    own = ["--task", str(folder / "tiny.yaml"), "--weights", weights_file(folder), "-o", str(folder / "study")]
    data = ["--data", str(list_cases(folder)), "--set", "task.split=null"]
    return [*own, *data, "--cases", "5,10", "--seeds", "2"]


def call(folder: Path, *more: str) -> Result:
    return CliRunner().invoke(app, [*words(folder), *more])


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


def outcome(folder: Path) -> tuple[dict[str, Any], list[bytes]]:
    """What a study found, but for how long its runs took, and its tables."""
    found = json.loads((folder / "study.json").read_text())
    for run in found["runs"]:
        run.pop("took_s")
    return found, [path.read_bytes() for path in sorted(folder.glob("*.md"))]


@pytest.mark.usefixtures("no_picture")
def test_shards_put_together_are_the_study_of_one_process(
    tmp_path: Path, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(resolved: Resolved, callback: Any) -> Any:
        if resolved.settings.run.dir.match("voco/n005-seed1"):
            raise DataError("The loss is not finite at step 3.")
        return stand_in(resolved)

    def voco(*more: str) -> Result:
        return CliRunner().invoke(whole_app, more)

    monkeypatch.setattr("voco_cli.workflows.finetune.run_finetuning", failing)
    study, asked = tmp_path / "study", words(tmp_path)
    assert isinstance(voco("study", *asked).exception, VocoError)
    study.rename(tmp_path / "whole")
    called, stand_in.called = sorted(stand_in.called), []

    early = voco("study", *asked, "--shard", "1/3")
    assert isinstance(early.exception, UsageError)
    assert "is not prepared" in early.exception.message
    assert not study.exists()
    assert voco("study", *asked, "--prepare").exit_code == 0
    assert stand_in.called == []
    before = (study / "study.json").read_bytes()
    # Dealt in turn: seed by seed, size by size, none before voco. The run that fails is the sixth, shard 3's second.
    for shard, said in (("3/3", "2 runs, 1 failed."), ("1/3", "3 runs."), ("2/3", "3 runs.")):
        shown = voco("study", *asked, "--shard", shard)
        assert shown.exit_code == 0, shown.exception
        assert f"Shard {shard}: {said}" in shown.stdout
    assert (study / "study.json").read_bytes() == before
    merged = voco("merge", str(study))
    assert isinstance(merged.exception, VocoError)
    assert "voco, 5 labelled cases, seed 1: The loss is not finite at step 3." in merged.exception.message
    assert sorted(stand_in.called) == called
    assert outcome(study) == outcome(tmp_path / "whole")
    assert not (tmp_path / "study.shards").exists()


@pytest.mark.usefixtures("no_picture")
def test_shards_of_several_tasks(tmp_path: Path, stand_in: StandIn) -> None:
    asked = ["study", *words(tmp_path), "--task", str(tmp_path / "other.yaml"), "--seeds", "1"]
    (tmp_path / "other.yaml").write_text(PRESET.replace("tiny", "other"))
    assert CliRunner().invoke(whole_app, asked).exit_code == 0
    (tmp_path / "study").rename(tmp_path / "whole")
    for more in (["--prepare"], ["--shard", "1/2"], ["--shard", "2/2"]):
        assert CliRunner().invoke(whole_app, [*asked, *more]).exit_code == 0
    assert CliRunner().invoke(whole_app, ["merge", str(tmp_path / "study")]).exit_code == 0
    assert len(stand_in.called) == 16
    for name in ("overview.json", "overview.md", "tiny/study.md", "other/study.md"):
        assert (tmp_path / "study" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
