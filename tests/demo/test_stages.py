"""The commands of a demo: those that the pages show, a script of them, and how a demo goes on."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.docs.pages import PAGES, blocks
from voco_cli.demo import stages
from voco_cli.demo.stages import PRETRAINING_STEPS, SEEDS, STUDY_STEPS, Stage, command_script, demo_stages, run_demo
from voco_cli.errors import Interrupted, ResourceError, UsageError, VocoError

HOSTILE = [
    "my demo",
    "$(touch broken)",
    "`touch broken`",
    "it's; touch broken",
    "-o",
    'a"b',
    "new\nline",
    "#x",
    "~",
    "ü",
]


def shown_commands() -> set[str]:
    """Names of the commands in the shell blocks of the README and of the pages behind it: ``index``, ``tasks new``."""
    lines = [line for page in PAGES for block in blocks(page) for line in block.text.splitlines()]
    found = (re.match(r"(?:\.venv/bin/)?voco ((?:tasks |weights |config |cache )?[a-z-]+)", line) for line in lines)
    return {match[1] for match in found if match}


def test_every_stage_is_a_command_that_the_pages_show() -> None:
    shown = [stage for stage in demo_stages(Path("d")) if stage.arguments]
    assert [stage.name for stage in shown] == [
        *("index", "preview-labels", "pretrain", "locate", "tasks new", "study", "compare", "report")
    ]
    for stage in shown:
        assert " ".join(stage.arguments).startswith(stage.name)
    assert {stage.name for stage in shown} <= shown_commands()


def test_the_numbers_of_steps_and_seeds_are_in_the_commands() -> None:
    commands = {stage.name: shlex.join(("voco", *stage.arguments)) for stage in demo_stages(Path("d"))}
    assert commands["pretrain"] == (
        f"voco pretrain d/data.json --config d/pretrain.yaml --steps {PRETRAINING_STEPS} -o d/runs/pretrain"
    )
    assert commands["study"] == (
        "voco study --task d/task.yaml --config d/study.yaml --weights d/runs/pretrain --cases 4 "
        f"--seeds {SEEDS} --steps {STUDY_STEPS} -o d/runs/study"
    )
    assert commands["compare"] == (
        "voco compare d/runs/study/none/n004-seed0 d/runs/study/pretrain/n004-seed0 -o d/comparison"
    )


def test_every_stage_leaves_something_below_the_folder() -> None:
    for stage in demo_stages(Path("d")):
        assert stage.wrote.parts[0] == "d"
        assert "should help" not in stage.shows + stage.result


@pytest.mark.parametrize("name", HOSTILE)
def test_the_script_calls_each_command_with_its_very_arguments(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interpreter that only writes down what it is given stands in for Python."""
    there = tmp_path / name
    there.mkdir()
    heard = there / "heard"
    stub = there / "stub"
    stub.write_text('#!/bin/sh\nprintf "%s\\0" "$@" end >> heard\n')
    stub.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(stub))
    made = demo_stages(Path(name))
    script = tmp_path / "commands.sh"
    script.write_text(command_script(made, there))
    subprocess.run(["sh", "-n", str(script)], check=True)
    subprocess.run(["sh", str(script)], check=True, cwd="/")
    calls = [call.split("\0")[:-1] for call in heard.read_text().split("end\0")[:-1]]
    assert calls == [["-P", "-m", "voco_cli", *stage.arguments] for stage in made if stage.arguments]
    assert not list(tmp_path.rglob("broken"))


def test_a_task_file_that_is_there_is_not_drafted_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`voco tasks new` refuses to replace a file; the script goes on without it."""
    stub = tmp_path / "stub"
    stub.write_text('#!/bin/sh\necho "$4" >> heard\n')
    stub.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(stub))
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "task.yaml").touch()
    script = command_script(demo_stages(Path("d")), tmp_path)
    subprocess.run(["sh", "-c", script], check=True)
    heard = (tmp_path / "heard").read_text().split()
    assert heard == ["index", "preview-labels", "pretrain", "locate", "study", "compare", "report"]


def test_paths_that_look_like_options_are_no_options() -> None:
    index = demo_stages(Path("-o"))[1]
    assert "./-o/data.json" in index.arguments
    for stage in demo_stages(Path("-o")):
        assert not any(word.startswith("-o/") for word in stage.arguments)


STAGES = ["scans", "index", "preview-labels", "pretrain", "locate", "tasks new", "study", "compare", "report"]


class Heard:
    """Remembers which stages began, and which were done before."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.skipped: list[str] = []

    def begun(self, stage: Stage, number: int, total: int, is_done: bool) -> None:
        assert (STAGES[number - 1], total) == (stage.name, len(STAGES))
        (self.skipped if is_done else self.started).append(stage.name)

    def ended(self, stage: Stage) -> None:
        assert self.started[-1] == stage.name


class Commands:
    """Stands in for `voco`: leaves what a stage leaves, or ends with a code, or is interrupted."""

    def __init__(self, out: Path, fails_at: str | None = None, code: int | None = None) -> None:
        self.out, self.fails_at, self.code = out, fails_at, code

    def __call__(self, arguments: Sequence[str]) -> int:
        name = "tasks new" if arguments[0] == "tasks" else arguments[0]
        if name == self.fails_at:
            if self.code is None:
                raise KeyboardInterrupt
            return self.code
        leaves = {
            "index": ("data.json", {}),
            "preview-labels": ("preview.png", {}),
            "pretrain": (
                "runs/pretrain/weights/encoder.json",
                {"verdict": {"status": "learned", "sentence": "It did."}},
            ),
            "locate": ("location.png", {}),
            "tasks new": ("task.yaml", {}),
            "study": ("runs/study/study.json", {"conclusions": ["4 labelled cases: no difference shown."]}),
            "compare": ("comparison/comparison.json", {}),
            "report": ("report.html", {}),
        }
        place, content = leaves[name]
        (self.out / place).parent.mkdir(parents=True, exist_ok=True)
        (self.out / place).write_text(json.dumps(content))
        return 0


@pytest.fixture(autouse=True)
def _few_scans(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def write(folder: Path, unlabelled: int) -> None:
        for place in (folder / "unlabelled" / "x", folder / "labelled" / "dataset.json"):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()

    monkeypatch.setattr(stages, "write_scans", write)
    monkeypatch.chdir(tmp_path)


def demo(out: str = "d", heard: Heard | None = None, commands: Callable[[Sequence[str]], int] | None = None) -> str:
    heard = heard or Heard()
    return run_demo(Path(out), commands or Commands(Path(out)), heard.begun, heard.ended)


def done() -> list[str]:
    return Path("d/done.txt").read_text().splitlines()


def test_all_stages_run_once_in_their_order_and_the_words_are_those_of_the_runs() -> None:
    heard = Heard()
    result = demo(heard=heard)
    assert heard.started == STAGES
    assert result.splitlines() == ["Pre-training: It did.", "Study, 4 labelled cases: no difference shown."]
    assert done() == STAGES
    assert (Path("d") / "commands.sh").read_text().count("\nvoco ") == 7  # tasks new stands behind a test


@pytest.mark.parametrize("code", [75, 130, None])
def test_a_stopped_demo_goes_on_where_it_was(code: int | None) -> None:
    with pytest.raises(Interrupted, match="stopped in its stage study") as stopped:
        demo(commands=Commands(Path("d"), "study", code))
    assert stopped.value.exit_code == 75
    assert done() == STAGES[:6]
    heard = Heard()
    demo(heard=heard)
    assert heard.skipped == ["scans", "index", "preview-labels", "pretrain", "locate", "tasks new"]
    assert heard.started == ["study", "compare", "report"]


def test_a_demo_that_is_killed_goes_on() -> None:
    """Nothing is written at the end of the stage that is killed; those before it are done."""

    class Killed(BaseException):
        """Stands for the end of the process."""

    def kill(arguments: Sequence[str]) -> int:
        if arguments[0] == "pretrain":
            raise Killed
        return Commands(Path("d"))(arguments)

    with pytest.raises(Killed):
        demo(commands=kill)
    assert done() == ["scans", "index", "preview-labels"]
    heard = Heard()
    demo(heard=heard)
    assert heard.started == STAGES[3:]


def test_a_stage_that_fails_ends_the_demo_with_its_code() -> None:
    with pytest.raises(VocoError, match="The stage pretrain ended with exit code 4") as failed:
        demo(commands=Commands(Path("d"), "pretrain", 4))
    assert failed.value.exit_code == 4
    demo()
    assert done() == STAGES


@pytest.mark.parametrize("code", [75, 130, 143])
def test_a_stage_that_is_stopped_stops_a_demo_that_goes_on(code: int) -> None:
    with pytest.raises(Interrupted, match="The demo was stopped in its stage preview-labels"):
        demo(commands=Commands(Path("d"), "preview-labels", code))


def test_a_finished_demo_is_told_again_and_does_nothing() -> None:
    first = demo()
    heard = Heard()
    again = demo(heard=heard)
    assert (heard.started, heard.skipped) == ([], STAGES)
    assert again == first


def test_a_stage_whose_result_is_gone_runs_again() -> None:
    demo()
    Path("d/preview.png").unlink()
    heard = Heard()
    demo(heard=heard)
    assert heard.started == ["preview-labels"]


def test_settings_that_a_reader_has_changed_stay() -> None:
    demo()
    Path("d/study.yaml").write_text("train: {lr: 0.01}")
    demo()
    assert Path("d/study.yaml").read_text() == "train: {lr: 0.01}"


def test_foreign_files_are_left_alone() -> None:
    Path("d").mkdir()
    Path("d/thesis.tex").touch()
    with pytest.raises(UsageError, match=r"holds files but no demo \(thesis.tex\)"):
        demo()
    assert [path.name for path in Path("d").iterdir()] == ["thesis.tex"]
    Path("file").touch()
    with pytest.raises(UsageError, match="file is not a folder"):
        demo("file")


def test_too_small_a_disk_is_said_before_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages.shutil, "disk_usage", lambda path: SimpleNamespace(free=0.2e9))
    with pytest.raises(ResourceError, match=r"The demo may need .* GB, and 0.2 GB are free"):
        demo()
    assert not Path("d").exists()
