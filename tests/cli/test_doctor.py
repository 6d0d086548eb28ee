"""`voco doctor` as a user calls it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from rich.text import Text
from typer.testing import CliRunner

from voco_cli.cli.doctor import doctor
from voco_cli.errors import VocoError
from voco_cli.resources import doctor as examine
from voco_cli.resources.machine import Check

app = typer.Typer()
app.command()(doctor)

FINE = Check("memory", "ok", "8 GB free")
NOTED = Check("GPU", "warning", "none [at all]", "buy one")
WRONG = Check("cache folder", "problem", "/data may not be written to.", "--set cache.dir=FOLDER", {"free_bytes": 3})


@pytest.fixture
def finds(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Let the doctor find these things."""

    def know(*checks: Check) -> None:
        monkeypatch.setattr(examine, "examine", lambda data: iter(checks))

    return know


def test_lines_and_what_to_run_next(finds, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    finds(FINE, NOTED)
    shown = CliRunner().invoke(app, [])
    assert shown.exit_code == 0
    assert shown.stdout.splitlines() == [
        "ok      memory: 8 GB free",
        "warning GPU: none [at all]",
        "        buy one",
        "Pre-training can run here.",
        "next: voco index SCANS",
    ]
    data = tmp_path / "data.json"
    data.touch()
    shown = CliRunner().invoke(app, ["--data", str(data)])
    assert Text.from_ansi(shown.stdout).plain.splitlines()[-1] == f"next: voco plan {data}"


def test_a_problem_is_the_reason_of_exit_code_1(finds) -> None:  # type: ignore[no-untyped-def]
    finds(FINE, WRONG, NOTED)
    shown = CliRunner().invoke(app, [])
    error = shown.exception
    assert isinstance(error, VocoError)
    assert error.exit_code == 1
    assert error.message == "Pre-training cannot run here: cache folder: /data may not be written to."
    assert error.hint == "--set cache.dir=FOLDER"
    assert "next:" not in shown.stdout
    finds(WRONG, WRONG)
    error = CliRunner().invoke(app, []).exception
    assert isinstance(error, VocoError)
    assert error.message.endswith("1 more problem is above.")


def test_json(finds) -> None:  # type: ignore[no-untyped-def]
    finds(FINE, WRONG)
    shown = CliRunner().invoke(app, ["--json"])
    told = json.loads(shown.stdout)
    assert told["can_pretrain"] is False
    assert told["checks"][1] == {
        "name": "cache folder",
        "status": "problem",
        "found": "/data may not be written to.",
        "advice": "--set cache.dir=FOLDER",
        "values": {"free_bytes": 3},
    }
    assert isinstance(shown.exception, VocoError)


def test_this_machine(tmp_path: Path) -> None:
    shown = subprocess.run([sys.executable, "-m", "voco_cli", "doctor"], capture_output=True, text=True, cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert shown.stderr == ""
    lines = [line for line in shown.stdout.splitlines() if not line.startswith(" ")]
    assert lines[-2:] == ["Pre-training can run here.", "next: voco index SCANS"]
    assert all(line.startswith(("ok", "warning")) for line in lines[:-2])
    assert list(tmp_path.iterdir()) == []


def test_with_a_broken_torch_it_still_answers(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('libtorch.so: undefined symbol')\n")
    command = [sys.executable, "-m", "voco_cli", "doctor", "--json"]
    found_first = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": found_first}
    shown = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    told = {check["name"]: check for check in json.loads(shown.stdout)["checks"]}
    assert shown.returncode == 1
    assert told["torch"]["status"] == "problem"
    assert "libtorch.so: undefined symbol" in told["torch"]["found"]
    assert told["memory"]["status"] == "ok"
    assert "Pre-training cannot run here: torch: cannot be imported" in shown.stderr
    assert "Traceback" not in shown.stderr
