"""`voco cache` through the app; interruption and death through processes of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.data.cache.made_scans import make_entries
from tests.waiting import is_alive, wait_until
from voco_cli.cli.app import app
from voco_cli.errors import VocoError

VOCO = [sys.executable, "-c", "from voco_cli.cli.app import main; main()"]
SETTINGS = ["--set", "preprocess.spacing_mm=1.5,1.5,1.5", "--set", "cache.workers=1"]


@dataclass(frozen=True)
class Answer:
    """What a command said and how it ended, as the front door would have it."""

    code: int
    stdout: str
    message: str


def voco(*arguments: str | Path) -> Answer:
    """Run a command in this process; errors become what `main` makes of them."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(result.exception, VocoError):
        return Answer(result.exception.exit_code, result.stdout, f"{result.stderr} {result.exception.message}")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Answer(result.exit_code, result.stdout, result.stderr)


def write_data(folder: Path, count: int = 2, shape: tuple[int, int, int] = (40, 36, 20)) -> Path:
    """A datalist with paths relative to it."""
    entries = make_entries(folder, count, shape)
    training: list[dict[str, Any]] = [{"image": entry.image.name, "patient": entry.patient} for entry in entries]
    path = folder / "data.json"
    path.write_text(json.dumps({"format": "voco-data/1", "name": "made", "training": training}))
    return path


def test_build_verify_stats_prune(tmp_path: Path) -> None:
    data = write_data(tmp_path)
    planned = json.loads(voco("cache", "build", data, *SETTINGS, "--dry-run", "--json").stdout)
    assert (planned["scans"], planned["missing"]) == (2, 2)
    assert not (tmp_path / ".voco-cache").exists()

    built = voco("cache", "build", data, *SETTINGS)
    assert built.code == 0, built.message
    assert "2 built, 0 reused, 0 failed" in built.stdout
    assert f"next: voco pretrain {data}" in built.stdout.replace("\n", "")
    again = json.loads(voco("cache", "build", data, *SETTINGS, "--json").stdout)
    assert (again["built"], again["reused"], again["failed"]) == (0, 2, [])

    assert voco("cache", "verify", data, *SETTINGS).code == 0
    counted = json.loads(voco("cache", "stats", data, "--json").stdout)
    files = list((tmp_path / ".voco-cache").rglob("*.b2nd"))
    assert counted["volumes"] == len(files) == 2
    assert counted["bytes"] == sum(file.stat().st_size for file in files)

    rehearsed = json.loads(voco("cache", "prune", data, "--json").stdout)  # other settings: both are superfluous
    assert (len(rehearsed["removed"]), rehearsed["rehearsal"]) == (2, True)
    assert json.loads(voco("cache", "prune", data, *SETTINGS, "--yes", "--json").stdout)["removed"] == []
    assert voco("cache", "prune", data, "--yes").code == 0
    assert list((tmp_path / ".voco-cache").rglob("*.b2nd")) == []


def test_verify_exits_1_for_missing_and_3_for_damaged_volumes(tmp_path: Path) -> None:
    data = write_data(tmp_path)
    missing = voco("cache", "verify", data, *SETTINGS)
    assert missing.code == 1
    assert "2 of 2 scans are not in" in missing.message
    voco("cache", "build", data, *SETTINGS)
    victim = next((tmp_path / ".voco-cache").rglob("*.b2nd"))
    victim.write_bytes(victim.read_bytes()[:-200])
    damaged = voco("cache", "verify", data, *SETTINGS)
    assert damaged.code == 3
    assert victim.name in damaged.message.replace("\n", "")
    assert voco("cache", "verify", data, *SETTINGS, "--repair").code == 1  # gone, and so to be built again
    assert voco("cache", "build", data, *SETTINGS).code == 0
    assert voco("cache", "verify", data, *SETTINGS).code == 0


def test_bad_scans_are_named_and_exit_1_and_only_bad_scans_exit_3(tmp_path: Path) -> None:
    data = write_data(tmp_path)
    (tmp_path / "case_1.nii.gz").write_bytes(b"no image")
    partly = voco("cache", "build", data, *SETTINGS)
    assert partly.code == 1
    assert "case_1.nii.gz" in partly.message
    (tmp_path / "case_0.nii.gz").write_bytes(b"no image")
    assert voco("cache", "build", data, *SETTINGS).code == 3


@pytest.mark.parametrize("command", ["build", "verify", "stats", "prune"])
def test_a_missing_data_file_is_one_sentence(tmp_path: Path, command: str) -> None:
    result = voco("cache", command, tmp_path / "no.json")
    assert result.code == 3
    assert "no.json does not exist" in result.message


@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_leaves_nothing_half_written(tmp_path: Path, workers: int) -> None:
    data = write_data(tmp_path, count=8, shape=(120, 120, 60))
    command = [*VOCO, "cache", "build", str(data), "--workers", str(workers)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True)
    folder = tmp_path / ".voco-cache"
    wait_until(lambda: list(folder.rglob("[!.]*.b2nd")), process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers too
    _, messages = process.communicate()
    if process.returncode != 0:  # it may just have finished
        assert process.returncode == 75, messages
    assert [path for path in folder.rglob("*") if path.is_file() and path.name.startswith(".")] == []
    checked = json.loads(voco("cache", "verify", data, "--workers", "1", "--json").stdout)
    assert checked["damaged"] == []
    assert checked["checked"] >= 1


def test_killed_build_is_taken_up_again_and_its_workers_end(tmp_path: Path) -> None:
    data = write_data(tmp_path, count=6, shape=(120, 120, 60))
    process = subprocess.Popen([*VOCO, "cache", "build", str(data), "--workers", "2"], stderr=subprocess.DEVNULL)
    folder = tmp_path / ".voco-cache"
    wait_until(lambda: list(folder.rglob("[!.]*.b2nd")), process)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    workers = [int(pid) for pid in children.read_text().split()] if children.exists() else []
    process.kill()
    process.wait()
    wait_until(lambda: not any(map(is_alive, workers)))
    assert voco("cache", "build", data, "--workers", "1").code == 0
    assert voco("cache", "verify", data, "--workers", "1").code == 0
