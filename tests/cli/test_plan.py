"""`voco plan` as a user types it: the word that may be left out, exit codes, what is printed and left behind."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.pretrain.tiny_run import TINY, write_data
from tests.waiting import wait_until
from voco_cli.cli import app
from voco_cli.cli.interrupts import Stopped
from voco_cli.cli.plan import bytes_words, duration, seconds_words, show_dry_run, size
from voco_cli.errors import Interrupted
from voco_cli.resources.amounts import Amount, Need, Part, Plan

SETTINGS = [part for value in TINY for part in ("--set", value)]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"), 4, 1)


@pytest.fixture
def voco(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the front door in this process; exit code, stdout, stderr."""

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["voco", *map(str, arguments)])
        with pytest.raises(SystemExit) as leaving:
            app.main()
        said = capsys.readouterr()
        return int(leaving.value.code or 0), said.out, said.err

    monkeypatch.delenv("VOCO_DEBUG", raising=False)
    return run


def made_plan(free_bytes: int) -> Plan:
    """Something that needs 3 GB, 2 to 4."""
    part = Part("training", Amount(3e9, "measured", 2e9, 4e9))
    needs = (Need("memory", "training", (part,), free_bytes),)
    times = (Part("steps", Amount(7200, "measured", 6000, 9000)),)
    return Plan("pre-training", needs, times, ("a [note]",), ("--set a=1 takes less.", "and more"))


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> Callable[[Plan], list[Any]]:
    """Let the planning give a known plan; returns what it was asked with."""

    def know(plan: Plan) -> list[Any]:
        asked: list[Any] = []

        def give(settings: Any, budget_s: float, tell: Any) -> Plan:
            asked.extend((settings, budget_s))
            return plan

        for kind, command in (("pretraining", "pretrain"), ("finetuning", "finetune")):
            ready = f"voco_cli.workflows.{command}_checks.before_{kind}"
            monkeypatch.setattr(ready, lambda resolved, callback: (resolved, None))
            monkeypatch.setattr(f"voco_cli.resources.plan.plan_{kind}", give)
        return asked

    return know


@pytest.mark.parametrize("word", [[], ["pretrain"]])
def test_what_fits_exits_with_0_and_says_what_to_run(voco: Run, planned: Any, data: Path, word: list[str]) -> None:
    asked = planned(made_plan(int(5e9)))
    options = ["--recipe", "tpami", "--steps", "7", "--seconds", "9", "-o", "runs/a b", "--device", "cpu"]
    code, out, err = voco("plan", *word, data, *options)
    assert (code, err) == (0, "")
    settings, budget_s = asked
    assert (settings.recipe, settings.train.steps, settings.data.file, budget_s) == ("tpami", 7, data, 9)
    rows = [" ".join(line.split()) for line in out.splitlines()]
    assert "memory, training 3 GB, up to 4 GB 5 GB yes measured" in rows
    assert "steps 2 h 00 min (1 h 40 min to 2 h 30 min) measured" in rows
    assert "note: a [note]" in out
    assert out.splitlines()[-2] == "It fits."
    assert out.splitlines()[-1] == f"next: voco pretrain {data} --recipe tpami -o 'runs/a b' --steps 7 --device cpu"


def test_what_does_not_fit_exits_with_1_and_says_what_to_change(voco: Run, planned: Any, data: Path) -> None:
    planned(made_plan(int(3.5e9)))
    code, out, err = voco("plan", "--recipe", "debug", data)
    assert code == 1
    assert err.splitlines() == [
        "error: This does not fit here: memory, training needs 3 GB, up to 4 GB, 3.5 GB free.",
        "hint: --set a=1 takes less.",
    ]
    assert "What to change:\n  --set a=1 takes less.\n  and more\n" in out
    assert "next:" not in out
    code, out, _ = voco("plan", data, "--json")
    told = json.loads(out)
    assert code == 1
    assert (told["fits"], told["needs"][0]["high_bytes"], told["time_s"]["value"]) == (False, 4e9, 7200)


def test_a_fine_tuning_is_planned_with_its_own_options(voco: Run, planned: Any, data: Path) -> None:
    asked = planned(made_plan(int(5e9)))
    code, out, _ = voco("plan", "finetune", "--task", "btcv", "--data", data.parent, "--cases", "5", "--freeze-encoder",
                        "--weights", "w.pt", "--min-loaded", "0.5", "--trust-pickle")  # fmt: skip
    assert code == 0
    task, model = asked[0].task, asked[0].model
    assert (task.preset, task.cases, task.freeze_encoder) == ("btcv", 5, True)
    assert (model.weights, model.min_loaded, model.trust_pickle) == ("w.pt", 0.5, True)
    assert out.splitlines()[-1] == (
        f"next: voco finetune --task btcv --data {data.parent} --weights w.pt --cases 5 --min-loaded 0.5 "
        "--freeze-encoder --trust-pickle"
    )


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["plan", "gone.json"], 3, "gone.json cannot be opened"),
        (["plan", "--recipe", "tpmi", "data.json"], 2, "There is no recipe 'tpmi'"),
        (["plan", "--recipe", "debug"], 2, "No data file was given."),
        (["plan", "data.json", "--set", "train.stpes=3"], 2, "the nearest is train.steps"),
        (["plan", "data.json", "--seconds", "0"], 2, "--seconds"),
        (["plan", "--task", "btcv"], 2, "--task"),
        (["plan", "finetune", "--task", "nothing"], 2, "There is no task 'nothing'"),
        (["plan", "finetune"], 2, "--task"),
        (["plan", "predict", "runs/none", "scans"], 2, "runs/none is not a run folder"),
        (["plan", "predict", "runs/none"], 2, "INPUT"),
    ],
)
def test_wrong_use_is_one_sentence(
    voco: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    found, out, err = voco(*arguments)
    assert (found, out) == (code, "")
    assert words in err
    assert "Traceback" not in err


def test_numbers_for_people() -> None:
    assert [size(one) for one in (0, 937_728, 1.5e6, 74.6e6, 999.4e6, 12.34e9, 30e12)] == [
        "0 kB",
        "938 kB",
        "1.5 MB",
        "74.6 MB",
        "999 MB",
        "12.3 GB",
        "30 TB",
    ]
    assert [duration(one) for one in (0.04, 9.96, 61, 200, 3599, 3600, 86_399, 90_000, 900_000)] == [
        "0.0 s",
        "10.0 s",
        "61 s",
        "3.3 min",
        "1 h 00 min",
        "1 h 00 min",
        "1 d 0 h",
        "1 d 1 h",
        "10 d 10 h",
    ]
    assert bytes_words(Amount.of(1e9, "measured", 1e8)) == "1 GB (900 MB to 1.1 GB)"
    assert seconds_words(Amount.of(100, "measured", 0.5)) == "1.7 min"


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        (["plan"], 130, "Interrupted; nothing half-written was left behind."),
        (["pretrain", "--dry-run"], 143, "Interrupted; nothing half-written was left behind."),
    ],
    ids=["plan", "dry run"],
)
def test_a_signal_leaves_nothing_behind(data: Path, command: list[str], code: int, said: str) -> None:
    """The whole command, stopped while it preprocesses in its temporary folder."""
    words = [*command, str(data), "--recipe", "debug", *SETTINGS, "-o", str(data.parent / "run")]
    before = sorted(path.name for path in data.parent.iterdir())
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    started = subprocess.Popen(
        [sys.executable, "-m", "voco_cli", *words], env=environment, stderr=subprocess.PIPE, text=True
    )
    wait_until(lambda: list(data.parent.glob(".voco-temporary-*")), started)
    started.send_signal(signal.SIGINT if code == 130 else signal.SIGTERM)
    _, told = started.communicate()
    assert started.returncode == code
    assert said in told
    assert "Traceback" not in told
    assert sorted(path.name for path in data.parent.iterdir()) == before


def test_a_dry_run_says_what_the_whole_takes_and_what_to_run(voco: Run, data: Path) -> None:
    before = sorted(path.name for path in data.parent.iterdir())
    words = ["pretrain", data, "--recipe", "debug", *SETTINGS, "-o", data.parent / "my run"]
    code, out, err = voco(*words, "--dry-run")
    assert code == 0
    assert "Traceback" not in err
    rows = [line.split() for line in out.splitlines()]
    assert any(row[:1] == ["steps"] and row[-1] == "measured" for row in rows)
    assert "note: Of 3 steps that ran" in out
    assert out.splitlines()[-1] == "next: " + shlex.join(["voco", *map(str, words)])
    assert sorted(path.name for path in data.parent.iterdir()) == before
    code, out, _ = voco(*words, "--dry-run", "--json")
    assert json.loads(out)["fits"] is True


def test_what_stops_the_trainer_stops_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """The trainer hears signals itself; nothing of a dry run goes on, so the exit code is the shell's."""
    for number, code in (("SIGINT", 130), ("SIGTERM", 143)):

        def stopped(number: str = number) -> Plan:
            raise Interrupted(f"Stopped by {number} after step 1; a checkpoint was written.")

        with pytest.raises(Stopped) as ended:
            show_dry_run(stopped, as_json=False)
        assert ended.value.exit_code == code
