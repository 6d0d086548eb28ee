"""Commands that are stopped: one sentence, an exit code that says whether the same command goes on, nothing lost."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.command import voco
from tests.waiting import wait_until
from voco_cli.cli.app import app
from voco_cli.cli.interrupts import Stopped, Terminated, going_on, listen
from voco_cli.data.synthetic import write_cts
from voco_cli.errors import Interrupted

VOCO = [sys.executable, "-m", "voco_cli"]
GOES_ON = "error: Interrupted; what is done so far is kept.\nhint: the same command goes on\n"
BEGINS_ANEW = "error: Interrupted; nothing half-written was left behind.\n"


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scans")
    write_cts(folder, 12, 0, (96, 96, 24))
    return folder


def stopped(command: list[str], cwd: Path, number: int, ready: Callable[[], bool]) -> tuple[int, str]:
    """Run a command, send it a signal once it is ready, and return its code and its last words."""
    begun = subprocess.Popen([*VOCO, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=cwd)
    wait_until(ready, begun)
    begun.send_signal(number)
    _, told = begun.communicate()
    return begun.returncode, told


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR2])
def test_a_cache_build_goes_on_where_it_was_stopped(number: int, scans: Path, tmp_path: Path) -> None:
    def volumes() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in tmp_path.rglob("[!.]*.b2nd")}

    assert voco("index", scans, "-o", "data.json", "--modality", "CT", cwd=tmp_path).returncode == 0
    build = ["cache", "build", "data.json", "--recipe", "debug", "--workers", "1"]
    code, told = stopped(build, tmp_path, number, lambda: len(volumes()) > 0)
    assert (code, told[-len(GOES_ON) :]) == (75, GOES_ON)
    before = volumes()
    assert 0 < len(before) < 12
    assert voco(*build, cwd=tmp_path).returncode == 0
    after = volumes()
    assert len(after) == 12
    assert {path: after[path] for path in before} == before
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".unfinished")]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_workers_end_with_an_index_without_a_word(number: int, code: int, scans: Path, tmp_path: Path) -> None:
    command = ["index", str(scans), "--check", "full", "--workers", "2", "-o", "data.json"]
    begun = subprocess.Popen([*VOCO, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    children = Path(f"/proc/{begun.pid}/task/{begun.pid}/children")
    wait_until(lambda: len(children.read_text().split()) >= 3, begun)
    workers = [Path(f"/proc/{number}") for number in children.read_text().split()]
    begun.send_signal(number)
    shown, told = begun.communicate()
    assert (begun.returncode, shown, told) == (code, "", BEGINS_ANEW)
    # What tracks the workers' semaphores ends by itself, a moment after its pipe is closed.
    left = [path.joinpath("cmdline").read_bytes() for path in workers if path.exists()]
    assert [line for line in left if b"spawn_main" in line] == []
    assert list(tmp_path.iterdir()) == []


LONG = {
    "pretrain data.json --recipe debug": "voco_cli.workflows.pretrain.run_pretraining",
    "finetune --task btcv": "voco_cli.workflows.finetune.run_finetuning",
    "study --task btcv --weights none --cases 1": "voco_cli.workflows.study.run_study",
    "evaluate run": "voco_cli.cli.evaluate.evaluate_run",
    "demo": "voco_cli.demo.stages.run_demo",
}


@pytest.mark.parametrize("command", LONG)
def test_long_commands_go_on(command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise Terminated

    monkeypatch.chdir(tmp_path)
    module, _, name = LONG[command].rpartition(".")
    __import__(module)
    monkeypatch.setattr(LONG[command], interrupted)
    if name == "evaluate_run":
        monkeypatch.setattr("voco_cli.cli.evaluate.evaluate_run", interrupted, raising=False)
    with pytest.raises(Interrupted) as ended:
        app(command.split(), standalone_mode=False)
    assert (ended.value.exit_code, ended.value.hint) == (75, "the same command goes on")


def test_what_begins_anew_has_the_shells_exit_codes() -> None:
    assert Stopped(KeyboardInterrupt()).exit_code == 130
    assert Stopped(Terminated()).exit_code == 143
    with pytest.raises(Interrupted), going_on():
        raise KeyboardInterrupt


def test_a_signal_that_somebody_ignores_stays_ignored() -> None:
    """As nohup does with SIGHUP."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN), signal.getsignal(signal.SIGTERM)
    try:
        listen()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before[0])
        signal.signal(signal.SIGTERM, before[1])


def test_a_signal_that_comes_while_python_leaves_changes_nothing() -> None:
    """At the end Python puts the system's handlers back, and takes its time to let large libraries go."""
    late = (
        "import os, signal, sys\n"
        "class Late:\n"
        "    def __init__(self): self.kill = os.kill\n"
        "    def __del__(self): self.kill(os.getpid(), signal.SIGTERM)\n"
        "sys.argv = ['voco', '--version']\n"
        "from voco_cli.__main__ import main\n"
        "late = Late()\n"
        "main()\n"
    )
    shown = subprocess.run([sys.executable, "-c", late], capture_output=True, text=True, check=False)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.startswith("voco ")
