"""`voco bench` on tiny settings: real processes, real steps, and nothing left behind."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.pretrain.tiny_run import TINY, write_data
from voco_cli.cli.app import app
from voco_cli.errors import DataError, UsageError

VOCO = [sys.executable, "-c", "from voco_cli.cli.app import main; main()"]
SETTINGS = [word for one in TINY for word in ("--set", one)]
SMALL = ["--recipe", "debug", *SETTINGS, "--task", "msd_hippocampus", "--scan-size", "64x64x32", "--minutes", "0.1"]


def test_json_has_every_figure_and_nothing_is_left(tmp_path: Path) -> None:
    data = write_data(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    result = CliRunner().invoke(app, ["bench", "--data", str(data), *SMALL, "--json"])
    assert result.exception is None, result.output
    found = json.loads(result.stdout)
    assert (found["recipe"], found["device"], found["precision"], found["scans"]) == ("debug", "cpu", "fp32", 6)
    assert found["place"] == str(tmp_path.resolve())
    measured = found["measured"]
    assert set(measured) == {
        *("disk_write", "disk_read", "build", "cached", "loader_volumes", "loader_crops"),
        *("step", "step_volumes", "wait", "memory", "window", "scan"),
    }
    assert all(one["least"] <= one["median"] <= one["most"] for one in measured.values())
    assert measured["loader_crops"]["median"] == pytest.approx(6 * measured["loader_volumes"]["median"])
    assert measured["step_volumes"]["most"] == pytest.approx(2 / measured["step"]["least"])
    assert found["limit"].startswith("Without loader processes")
    assert sorted(tmp_path.rglob("*")) == before


def test_ctrl_c_leaves_nothing(tmp_path: Path) -> None:
    data = write_data(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    process = subprocess.Popen([*VOCO, "bench", "--data", str(data), *SMALL], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("steps"):
            break
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130
    process.stderr.close()
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("size", ["512x512", "0x5x5", "a lot"])
def test_a_size_that_is_none(size: str) -> None:
    result = CliRunner().invoke(app, ["bench", "--scan-size", size])
    assert isinstance(result.exception, UsageError)
    assert result.exception.message == f"--scan-size {size} is no size."


def test_a_list_that_is_missing(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["bench", "--data", str(tmp_path / "data.json")])
    assert isinstance(result.exception, DataError)
