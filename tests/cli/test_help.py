"""Every command says what it does, and errors are a sentence, a hint and an exit code."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer
from rich.text import Text
from typer.testing import CliRunner

from tests.command import voco
from voco_cli import __version__
from voco_cli.cli.app import app
from voco_cli.config import recipe_names


def commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from commands(child, (*path, name))


ALL = list(commands(typer.main.get_command(app)))


@pytest.mark.parametrize(("path", "command"), ALL, ids=[" ".join(path) or "voco" for path, _ in ALL])
def test_every_command_and_option_has_help(path: tuple[str, ...], command: click.Command) -> None:
    assert command.help
    for parameter in command.params:
        assert getattr(parameter, "help", None), f"{' '.join(path)} {parameter.name}"
    shown = CliRunner().invoke(app, [*path, "--help"])
    assert shown.exit_code == 0
    assert f"Usage: {' '.join(['voco', *path])}" in " ".join(shown.stdout.split())


@pytest.mark.parametrize(("path", "command"), ALL, ids=[" ".join(path) or "voco" for path, _ in ALL])
def test_no_help_loses_what_is_in_square_brackets(path: tuple[str, ...], command: click.Command) -> None:
    """Rich takes [default: this] for markup and leaves it out."""
    for text in (command.help, *(getattr(parameter, "help", None) for parameter in command.params)):
        if text:
            assert Text.from_markup(text).plain == text, path


def test_the_commands_of_the_main_job_are_there() -> None:
    paths = {" ".join(path) for path, _ in ALL}
    assert paths >= {
        "index",
        "preview-labels",
        "pretrain",
        *(f"cache {name}" for name in ("build", "verify", "stats", "prune")),
        *(f"config {name}" for name in ("show", "schema", "init")),
    }


def test_version(tmp_path: Path) -> None:
    shown = voco("--version", cwd=tmp_path)
    assert (shown.returncode, shown.stdout.strip()) == (0, f"voco {__version__}")


def test_an_error_is_a_sentence_a_hint_and_an_exit_code(tmp_path: Path) -> None:
    shown = voco("config", "show", "--recipe", "cvrp", cwd=tmp_path)
    assert shown.returncode == 2
    assert shown.stdout == ""
    assert shown.stderr.splitlines() == [
        "error: There is no recipe 'cvrp'.",
        f"hint: use one of {', '.join(recipe_names())}, or a YAML file",
    ]


def test_several_errors_are_told_in_full_whatever_they_hold(tmp_path: Path) -> None:
    (tmp_path / "my[1].yaml").write_text("train:\n  steps: '[bold]'\n  lrr: 1\n")
    shown = voco("config", "show", "--config", "my[1].yaml", cwd=tmp_path)
    assert shown.returncode == 2
    assert sorted(shown.stderr.splitlines()) == [
        "  my[1].yaml:2: train.steps: input should be a valid integer (got '[bold]').",
        "  my[1].yaml:3: train.lrr is not a setting; the nearest is train.lr.",
        "error: 2 settings are wrong:",
    ]


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    shown = voco("--debug", "config", "show", "--recipe", "cvrp", cwd=tmp_path)
    assert shown.returncode != 0
    assert "Traceback" in shown.stderr
    assert "UsageError" in shown.stderr


def test_pretrain_without_data_names_what_is_missing(tmp_path: Path) -> None:
    shown = voco("pretrain", "gone.json", "--set", "train.stpes=1", cwd=tmp_path)
    assert shown.returncode == 2
    assert "the nearest is train.steps" in shown.stderr  # settings are checked before anything heavy is imported
