"""`voco pretrain` as a user meets it: sentences, exit codes, signals, several processes."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.pretrain.tiny_run import TINY, write_data
from tests.training.made_job import numbers, state, weights
from tests.waiting import wait_until
from voco_cli.cli import app

VOCO = [sys.executable, "-m", "voco_cli"]
TORCHRUN = [
    *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
    *("-m", "voco_cli"),
]
QUIET = {**os.environ, "OMP_NUM_THREADS": "1", "VOCO_DEBUG": ""}


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str


def tiny(data: Path | str, run: Path, *override: str) -> list[str]:
    """Arguments of the smallest run."""
    values = [part for value in (*TINY, *override) for part in ("--set", value)]
    return ["pretrain", str(data), "--recipe", "debug", "-o", str(run), *values]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture
def voco(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[object]:
    """Run the front door in this process."""

    def run(*arguments: str | Path) -> Answer:
        monkeypatch.setattr(sys, "argv", ["voco", *map(str, arguments)])
        with pytest.raises(SystemExit) as leaving:
            app.main()
        said = capsys.readouterr()
        return Answer(int(leaving.value.code or 0), said.out, said.err)

    monkeypatch.delenv("VOCO_DEBUG", raising=False)
    yield run
    os.environ.pop("VOCO_DEBUG", None)


def _is_one_sentence(answer: Answer) -> bool:
    """An error line, perhaps a hint, and no traceback."""
    lines = [line for line in answer.err.splitlines() if line]
    return lines[0].startswith("error: ") and len(lines) <= 2 and "Traceback" not in answer.err


@pytest.mark.parametrize(
    ("content", "sentence", "code"),
    [
        (None, "data.json cannot be opened: No such file or directory", 3),
        ("{", "data.json is not valid JSON", 3),
        ('{"format": "voco-data/1", "trainig": []}', "'training'", 2),
        ('{"training": []}', "None of the 0 training scans", 3),
        ('{"training": [{"image": "gone.nii.gz"}]}', "lists 1 file that is missing: .*gone.nii.gz", 3),
    ],
)
def test_faulty_data_file(voco, tmp_path: Path, content: str | None, sentence: str, code: int) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "data.json"
    if content is not None:
        path.write_text(content)
    answer = voco(*tiny(path, tmp_path / "run"))
    assert re.search(sentence, answer.err)
    assert answer.code == code
    assert _is_one_sentence(answer)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--recipe", "crpr"], "There is no recipe 'crpr'"),
        (["--set", "preprocess.resize_vox=48x48x24"], "does not fit into preprocess.resize_vox 48x48x24"),
        (["--set", "trian.lr=1"], "train"),
        (["--device", "cuda"], "run.device is cuda, but there is no CUDA device here"),
        (["--device", "toaster"], "run.device"),
    ],
)
def test_faulty_settings(voco, data: Path, tmp_path: Path, arguments: list[str], sentence: str) -> None:  # type: ignore[no-untyped-def]
    recipe = [] if "--recipe" in arguments else ["--recipe", "debug"]
    answer = voco("pretrain", data, "-o", tmp_path / "run", *recipe, *arguments)
    assert sentence in answer.err
    assert answer.code == 2
    assert _is_one_sentence(answer)
    assert not (tmp_path / "run").exists()


def test_fewer_scans_than_a_step_needs(voco, data: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    answer = voco(*tiny(data, tmp_path / "run", "train.batch_size=9"))
    assert "error: A step needs 9 different scans" in answer.err
    assert answer.code == 2


def test_no_data_file(voco) -> None:  # type: ignore[no-untyped-def]
    answer = voco("pretrain")
    assert (answer.code, _is_one_sentence(answer)) == (2, True)
    assert "No data file was given." in answer.err


def test_folder_of_other_files_and_of_other_settings(voco, data: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "a.txt").touch()
    answer = voco(*tiny(data, tmp_path / "letters"))
    assert (answer.code, _is_one_sentence(answer)) == (2, True)
    assert voco(*tiny(data, tmp_path / "run", "train.steps=1")).code == 0
    answer = voco(*tiny(data, tmp_path / "run", "train.steps=1", "seed=4"))
    assert answer.code == 2
    assert "  seed: 0 -> 4\n" in answer.err


def test_run_without_a_terminal_says_what_it_does_in_twenty_lines(voco, data: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    answer = voco(*tiny(data, tmp_path / "run", "train.steps=41", "train.validate_every=20"))
    assert answer.code == 0
    lines = [line for line in answer.err.splitlines() if line.startswith("step ")]
    assert len(lines) == len(set(lines))
    trained = [int(line.split()[1]) for line in lines if "loss" in line]
    assert trained == [*range(2, 41, 2), 41]
    assert [int(line.split()[1]) for line in lines if "held-out" in line] == [0, 20, 40, 41]
    assert re.search(r"step 2 of 41: loss \d.*regularisation \d\.\d+ \| \d+\.\d+ scans/s, wait \d+%", answer.err)
    for words in (
        "rank of the true base crop",
        "step 0",
        "chance",
        "wrote ",
        "next: voco report ",
        "with labels: voco tasks new LABELLED.json --weights ",
    ):
        assert words in answer.out


def test_finished_run_again_and_as_json(voco, data: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    first = voco(*tiny(data, tmp_path / "run"), "--json")
    again = voco(*tiny(data, tmp_path / "run"), "--json")
    assert (first.code, again.code) == (0, 0)
    assert json.loads(first.out) == json.loads(again.out)
    assert json.loads(first.out)["verdict"] in ("learned", "not yet")
    assert "resumed at step 12" in again.err


def test_collapsed_run_exits_1(voco, data: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    answer = voco(*tiny(data, tmp_path / "run", "train.steps=1", "health.max_base_cosine=0"))
    assert answer.code == 1
    assert "error: Collapsed: on " in answer.err
    assert "base crops look alike" in answer.err


def test_ctrl_c_before_training_goes_on_too(voco, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("voco_cli.config.load_settings", interrupt)
    answer = voco("pretrain", "data.json")
    told = "error: Interrupted; what is done so far is kept.\nhint: the same command goes on\n"
    assert (answer.code, answer.err) == (75, told)


@pytest.mark.parametrize(
    ("error", "sentence", "code"),
    [
        (KeyError("gone"), "The command failed unexpectedly (KeyError: 'gone').", 1),
        (PermissionError(13, "Permission denied", "/scans/a"), "/scans/a: Permission denied.", 3),
        (OSError(28, "No space left on device"), "No space left on device.", 4),
    ],
)
def test_what_nobody_foresaw(voco, monkeypatch: pytest.MonkeyPatch, error: Exception, sentence: str, code: int) -> None:  # type: ignore[no-untyped-def]
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("voco_cli.config.load_settings", fail)
    answer = voco("pretrain", "data.json")
    assert answer.code == code
    assert answer.err.startswith(f"error: {sentence}\n")
    assert "Traceback" not in answer.err
    debugged = voco("--debug", "pretrain", "data.json")
    assert debugged.code == code
    assert "Traceback" in debugged.err


def test_usage_errors_of_the_command_line_exit_2(voco) -> None:  # type: ignore[no-untyped-def]
    assert voco("pretrain", "--no-such-option").code == 2
    assert voco("no-such-command").code == 2
    assert voco("--help").code == 0


def test_reader_that_goes_away_is_no_error() -> None:
    command = f"{sys.executable} -m voco_cli config schema | head -c 10; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.returncode in (0, 141)


@pytest.mark.parametrize("arguments", [["config", "schema"], ["cache"], ["--help"]])
def test_reader_that_was_never_there(arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([*VOCO, *arguments], stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def _children(process: int) -> set[int]:
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process)], capture_output=True, text=True, check=False)
    return {int(line) for line in listed.stdout.split()}


def test_ctrl_c_in_a_terminal_and_on_again(data: Path, tmp_path: Path) -> None:
    """A terminal shows the bar; Ctrl-C typed into it reaches the loader processes too."""
    run = tmp_path / "run"
    command = [*VOCO, *tiny(data, run, "train.steps=300", "train.checkpoint_every=300", "data.workers=1")]
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvpe(command[0], command, {**QUIET, "TERM": "xterm", "COLUMNS": "160"})
    screen, helpers, asked = b"", set(), False
    while True:
        try:
            screen += os.read(terminal, 65536)
        except OSError:  # the other end is closed
            break
        if not asked and re.search(rb"scans/s", screen):
            helpers = _children(pid)
            os.write(terminal, b"\x03")
            asked = True
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 75
    shown = screen.decode(errors="replace")
    assert re.search(r"scans/s .*loss \d\.\d+ prediction .* wait \d+%", shown, re.DOTALL)
    assert "left" in shown
    assert "Stopped by SIGINT after step" in shown
    assert "Traceback" not in shown
    assert helpers
    assert not any(Path(f"/proc/{helper}").exists() for helper in helpers)
    assert state(run)["status"] == "interrupted"
    assert (run / "checkpoints" / f"step-{state(run)['step']:06d}").is_dir()


@pytest.mark.slow
def test_sigkill_of_the_command_and_on_again(data: Path, tmp_path: Path) -> None:
    def start(run: Path) -> subprocess.Popen[bytes]:
        arguments = tiny(data, run, "train.steps=40", "train.checkpoint_every=20", "data.workers=1")
        return subprocess.Popen([*VOCO, *arguments], env=QUIET, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    assert start(tmp_path / "unbroken").wait() == 0
    broken = start(tmp_path / "broken")
    wait_until((tmp_path / "broken" / "checkpoints" / "step-000020").is_dir, broken)
    broken.send_signal(signal.SIGKILL)
    broken.wait()
    assert state(tmp_path / "broken")["status"] == "running"
    assert start(tmp_path / "broken").wait() == 0  # at once, while its loader process may still be there
    assert weights(tmp_path / "broken", 40) == weights(tmp_path / "unbroken", 40)
    assert numbers(tmp_path / "broken") == numbers(tmp_path / "unbroken")


def _torchrun(*arguments: str) -> Answer:
    done = subprocess.run(
        [*TORCHRUN, *arguments],
        env=QUIET,
        capture_output=True,
        text=True,
        check=False,
    )
    return Answer(done.returncode, done.stdout, done.stderr)


@pytest.mark.slow
def test_two_processes_train_together_and_save_once(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    answer = _torchrun(*tiny(data, run, "train.steps=3", "train.validate_every=3", "train.checkpoint_every=3"))
    assert answer.code == 0, answer.err
    wrote = [line.split()[1].rstrip(":") for line in answer.out.splitlines() if line.startswith("wrote ")]
    names = ("weights/encoder.safetensors", "metrics.jsonl", "figures/validation")
    assert wrote == [str(run / name) for name in names]
    assert len(re.findall(r"step 3 of 3: loss", answer.err)) == 1
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step-000003"]
    assert [line["step"] for line in numbers(run)] == [0, 1, 2, 3, 3]
    assert state(run)["status"] == "done"


@pytest.mark.slow
def test_faults_of_two_processes_are_told_once(data: Path, tmp_path: Path) -> None:
    for override, code, sentence in (
        ("train.batch_size=4", 2, "error: A step needs 8 different scans"),
        ("health.max_base_cosine=0", 1, "error: Collapsed"),
    ):
        answer = _torchrun(*tiny(data, tmp_path / override, "train.steps=1", override))
        assert answer.err.count(sentence) == 1, answer.err
        assert f"exitcode: {code})" in answer.err or f"exitcode  : {code} " in answer.err
        assert answer.err.count("error: ") == 1
        assert 'File "/' not in answer.err.split("ChildFailedError")[0].split("torch/distributed")[0]
