"""Commands as processes: what their ends mean, and how they are stopped."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from voco_cli.demo import subprocesses
from voco_cli.demo.subprocesses import measure_speed, run_command
from voco_cli.errors import Interrupted, ResourceError, VocoError

WAITS = """
import signal, sys, time
heard = []
signal.signal(signal.SIGINT, lambda *_: heard.append(1))
signal.signal(signal.SIGTERM, lambda *_: heard.append(1))
open(sys.argv[1], "w").close()
while not heard:
    time.sleep(0.01)
time.sleep(0.2)
open(sys.argv[2], "w").write(str(len(heard)))
sys.exit(75)
"""


def python(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    monkeypatch.setattr(subprocesses, "python_module", lambda module, *words: [sys.executable, "-c", code, *words])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_reaches_the_command_once_and_the_demo_ends_after_it(
    number: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    python(monkeypatch, WAITS)
    ready, told = tmp_path / "ready", tmp_path / "told"

    def stop() -> None:
        while not ready.exists():
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=stop)
    thread.start()
    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match="stopped in its stage study") as stopped:
        run_command("study", [str(ready), str(told)])
    thread.join()
    assert told.read_text() == "1"
    assert stopped.value.exit_code == 75
    assert signal.getsignal(number) is before


@pytest.mark.parametrize(("code", "kind"), [(1, VocoError), (2, VocoError), (4, VocoError), (75, Interrupted)])
def test_the_exit_code_of_a_command_is_that_of_the_demo(
    code: int, kind: type[VocoError], monkeypatch: pytest.MonkeyPatch
) -> None:
    python(monkeypatch, f"import sys; sys.exit({code})")
    with pytest.raises(kind) as failed:
        run_command("index", [])
    assert failed.value.exit_code == code


def test_a_killed_command_is_told_as_out_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    python(monkeypatch, "import os; os.kill(os.getpid(), 9)")
    with pytest.raises(ResourceError, match="The stage study was killed"):
        run_command("study", [])


def test_a_command_that_ends_well_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    python(monkeypatch, "import sys; assert sys.argv[1:] == ['a b', '$c']")
    run_command("index", ["a b", "$c"])


def test_a_measurement_that_fails_is_told_by_its_last_line(monkeypatch: pytest.MonkeyPatch) -> None:
    python(monkeypatch, "raise ValueError('no such instruction')")
    with pytest.raises(VocoError, match="could not be measured: ValueError: no such instruction"):
        measure_speed()


def test_the_start_is_what_is_not_measured_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"pretraining_step_s": 2.0, "study_step_s": 1.0, "measured_for_s": 0.1}
    code = f"import json, time; time.sleep(0.3); print(json.dumps({found}))"
    python(monkeypatch, code)
    speed = measure_speed()
    assert (speed.pretraining_step_s, speed.study_step_s) == (2.0, 1.0)
    assert 0.2 <= speed.start_s < 5
