"""The demo as a newcomer runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import command

VOCO = [sys.executable, "-m", "voco_cli"]


def voco(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "120", "NO_COLOR": "1"}
    return subprocess.run([*VOCO, *arguments], capture_output=True, text=True, cwd=cwd, env=environment)


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").touch()
    refused = command.voco("demo", "--out", "mine", cwd=tmp_path, COLUMNS="120")
    assert refused.returncode == 2
    assert "mine holds files but no demo (notes.txt)" in refused.stderr
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]


def test_what_is_said_around_a_stage(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from voco_cli.cli import demo
    from voco_cli.demo.stages import demo_stages

    monkeypatch.setattr(demo, "_program", lambda: ".venv/bin/voco")
    (index,) = (stage for stage in demo_stages(Path("my [demo]")) if stage.name == "index")
    clock = iter((10.0, 12.6))
    monkeypatch.setattr(demo, "monotonic", lambda: next(clock))
    told = demo.StageOutput()
    told.begun(index, 2, 9, is_done=False)
    told.ended(index)
    lines = [line for line in capsys.readouterr().out.splitlines() if line]
    assert lines[0].strip("\u2501 ") == "2 of 9: index"
    assert ".venv/bin/voco index 'my [demo]/scans/unlabelled' -o 'my [demo]/data.json' --validation 0.15" in lines[-2]
    assert lines[-2].startswith("$ ")
    assert lines[-1].endswith("(3 s)")


def test_a_command_runs_in_this_process_and_its_error_is_told(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from voco_cli.cli.app import app
    from voco_cli.cli.demo import run_command

    assert run_command(app, ["index", str(tmp_path / "nowhere"), "-o", str(tmp_path / "data.json")]) == 3
    assert "nowhere" in capsys.readouterr().err
    assert run_command(app, ["config", "show", "--recipe", "debug"]) == 0
    assert run_command(app, ["tasks", "show", "btcv", "--no-such-option"]) == 2


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_whole_demo(tmp_path: Path) -> None:
    """Whatever the study says: both arms are measured, neither is trivial, and the page is there."""
    run = voco("demo", "--out", "d", cwd=tmp_path)
    assert run.returncode == 0, run.stdout + run.stderr
    out = tmp_path / "d"
    assert (out / "report.html").stat().st_size > 100_000
    encoder = json.loads((out / "runs" / "pretrain" / "weights" / "encoder.json").read_text())
    assert encoder["verdict"]["status"] == "learned"
    assert encoder["verdict"]["sentence"] in run.stdout

    study = json.loads((out / "runs" / "study" / "study.json").read_text())
    scores = {name: [one["score"] for one in study["runs"] if one["arm"] == name] for name in ("none", "pretrain")}
    assert {name: len(found) for name, found in scores.items()} == {"none": 3, "pretrain": 3}
    for found in scores.values():
        assert all(0.1 < score < 0.95 for score in found)
    assert study["measured_on"]["patients"] == 12
    for seen in json.loads((out / "comparison" / "comparison.json").read_text())["leakage"]:
        assert "none of 12 evaluated cases was among" in seen["sentences"][0]
    assert all(f"Study, {sentence}" in run.stdout for sentence in study["conclusions"])
    assert "report.html" in run.stdout.splitlines()[-2]

    again = voco("demo", "--out", "d", cwd=tmp_path)
    assert again.returncode == 0
    assert again.stdout.count("Done by an earlier call.") == 9

    repeated = subprocess.run(["sh", str(out / "commands.sh")], capture_output=True, text=True)
    assert repeated.returncode == 0, repeated.stdout + repeated.stderr
