"""Work in a process of its own: its answer, its faults, its memory, and that it ends."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from tests.resources import works
from tests.waiting import is_alive, wait_until
from voco_cli.errors import ResourceError, UsageError
from voco_cli.resources import subprocess_trial
from voco_cli.resources.subprocess_trial import TooLargeError, run_apart


def test_an_answer_and_the_time_until_it_began() -> None:
    outcome = run_apart(works.double, 21)
    assert outcome.result == 42
    assert outcome.start_s > 0
    assert run_apart("tests.resources.works:double", 21).result == 42


def test_memory_is_that_of_the_process_alone() -> None:
    """A test process that has had far more must not be counted."""
    works.take_memory(500)
    small, large = (run_apart(works.take_memory, size).result for size in (1, 200))
    assert small < 400e6
    assert 180e6 < large - small < 230e6


def test_faults_travel() -> None:
    with pytest.raises(UsageError, match="not like this") as found:
        run_apart(works.refuse, "not like this")
    assert found.value.hint == "a hint"
    with pytest.raises(RuntimeError, match="KeyError: 'x'"):
        run_apart(works.break_down, "x")
    with pytest.raises(TooLargeError):
        run_apart(works.be_killed, works.SIGKILL)
    with pytest.raises(ResourceError, match="A trial was ended by SIGABRT without a word") as ended:
        run_apart(works.be_killed, works.SIGABRT)
    assert not isinstance(ended.value, TooLargeError)


def test_it_is_stopped_before_memory_runs_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note = tmp_path / "note"

    def free_bytes() -> int:
        return 100 if note.exists() and note.read_text().endswith(" ") else 1000

    monkeypatch.setattr(subprocess_trial, "free_host_bytes", free_bytes)
    with pytest.raises(TooLargeError, match="stopped when it had taken") as found:
        run_apart(works.start_a_child_and_wait, note)
    assert found.value.reached_bytes > 1e6
    for process in note.read_text().split():
        wait_until(partial(has_ended, int(process)))


def test_what_work_takes_at_once_does_not_lower_what_must_stay_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Free memory was asked about again when the work had begun, so that a quick one was never stopped."""
    note, begun = tmp_path / "note", subprocess_trial._receive

    def receive(connection: Connection, process: BaseProcess, *least: int) -> object:
        message = begun(connection, process, *least)
        wait_until(lambda: note.exists() and note.read_text().endswith(" "))
        return message

    monkeypatch.setattr(subprocess_trial, "_receive", receive)
    monkeypatch.setattr(subprocess_trial, "free_host_bytes", lambda: 100 if note.exists() else 1000)
    with pytest.raises(TooLargeError):
        run_apart(works.start_a_child_and_wait, note)


def has_ended(process: int) -> bool:
    return not is_alive(process)


KILLED = """
import sys
from pathlib import Path
from tests.resources import works
from voco_cli.resources.subprocess_trial import run_apart, tidy_when_terminated
from voco_cli.resources.sampling import temporary_folder
if __name__ == "__main__":
    with tidy_when_terminated(), temporary_folder(Path(sys.argv[1])):
        run_apart(works.start_a_child_and_wait, Path(sys.argv[2]))
"""


@pytest.mark.parametrize("signal_name", ["SIGTERM", "SIGINT"])
def test_when_the_command_is_stopped_nothing_is_left(tmp_path: Path, signal_name: str) -> None:
    folder, note, script = tmp_path / "data", tmp_path / "note", tmp_path / "killed.py"
    folder.mkdir()
    script.write_text(KILLED)
    command = [sys.executable, str(script), str(folder), str(note)]
    root = str(Path(__file__).parents[2])
    started = subprocess.Popen(command, env={"PYTHONPATH": root}, stderr=subprocess.DEVNULL)
    wait_until(lambda: note.exists() and note.read_text().endswith(" "), started)
    assert len(list(folder.iterdir())) == 1
    started.send_signal(getattr(works.signal, signal_name))
    assert started.wait() != 0
    assert list(folder.iterdir()) == []
    for process in note.read_text().split():
        wait_until(partial(has_ended, int(process)))


def test_when_the_command_is_killed_its_trial_ends(tmp_path: Path) -> None:
    note, script = tmp_path / "note", tmp_path / "killed.py"
    script.write_text(KILLED)
    command = [sys.executable, str(script), str(tmp_path), str(note)]
    started = subprocess.Popen(command, env={"PYTHONPATH": str(Path(__file__).parents[2])}, stderr=subprocess.DEVNULL)
    wait_until(lambda: note.exists() and note.read_text().endswith(" "), started)
    started.kill()
    started.wait()
    for process in note.read_text().split():
        wait_until(partial(has_ended, int(process)))


def test_what_an_ended_process_held_is_not_spoken_of() -> None:
    code = (
        "from tests.resources.works import die_with_a_lock\n"
        "from voco_cli.resources.subprocess_trial import TooLargeError, run_apart\n"
        "if __name__ == '__main__':\n    try:\n        run_apart(die_with_a_lock, 1)\n"
        "    except TooLargeError:\n        print('ended')\n"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (said.stdout, said.stderr) == ("ended\n", "")
