"""The commands of a demo: those that the pages show, and a script of them that any name of a folder leaves whole."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, blocks
from voco_cli.demo.stages import PRETRAINING_STEPS, SEEDS, STUDY_STEPS, DemoPaths, command_script, demo_stages

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
    stages = [stage for stage in demo_stages(Path("d")) if stage.arguments]
    assert [stage.name for stage in stages] == [
        *("index", "preview-labels", "pretrain", "locate", "tasks new", "study", "compare", "report")
    ]
    for stage in stages:
        assert " ".join(stage.arguments).startswith(stage.name)
    assert {stage.name for stage in stages} <= shown_commands()


def test_the_numbers_of_steps_and_seeds_are_in_the_commands() -> None:
    commands = {stage.name: stage.command for stage in demo_stages(Path("d"))}
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
        assert stage.wrote
        assert all(path.parts[0] == "d" for path in stage.wrote)
        assert "should help" not in stage.shows + stage.look


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
    stages = demo_stages(Path(name))
    script = tmp_path / "commands.sh"
    script.write_text(command_script(stages, there))
    subprocess.run(["sh", "-n", str(script)], check=True)
    subprocess.run(["sh", str(script)], check=True, cwd="/")
    calls = [call.split("\0")[:-1] for call in heard.read_text().split("end\0")[:-1]]
    assert calls == [["-P", "-m", "voco_cli", *stage.arguments] for stage in stages if stage.arguments]
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
    assert DemoPaths(Path("-o"))("data.json") == "./-o/data.json"
    assert DemoPaths(Path("d"))("data.json") == "d/data.json"
    for stage in demo_stages(Path("-o")):
        assert not any(word.startswith("-o/") for word in stage.arguments)
