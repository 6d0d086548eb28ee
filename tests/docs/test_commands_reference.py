"""docs/reference/commands.md is what the command line says today."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import typer

from tests.docs.pages import ROOT
from voco_cli.cli.app import app

PAGE = ROOT / "docs" / "reference" / "commands.md"


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_commands", PAGE.with_name("generate_commands.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def commands(command: Any, path: str = "voco") -> Iterator[tuple[str, Any]]:
    for name, child in getattr(command, "commands", {}).items():
        yield f"{path} {name}", child
        yield from commands(child, f"{path} {name}")


def sections() -> dict[str, str]:
    """The text below each heading."""
    found: dict[str, list[str]] = {}
    heading = ""
    for line in PAGE.read_text().splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        found.setdefault(heading, []).append(line)
    return {name: "\n".join(lines) for name, lines in found.items()}


def test_the_page_is_up_to_date() -> None:
    told = "docs/reference/commands.md is out of date: make docs"
    assert generator().commands_page() == PAGE.read_text(), told


def test_where_weights_are_given_trust_can_be_typed() -> None:
    """The refusal of a pickle that names code says --trust-pickle, whichever command it was."""
    with_weights = [
        (path, {name for one in command.params for name in one.opts})
        for path, command in commands(typer.main.get_command(app))
        if path.startswith("voco weights ") or any("--weights" in one.opts for one in command.params)
    ]
    assert {"voco pretrain", "voco study", "voco weights inspect"} <= {path for path, _ in with_weights}
    assert [path for path, names in with_weights if "--trust-pickle" not in names] == []


def test_every_command_has_a_section_with_all_its_options() -> None:
    told = sections()
    for path, command in commands(typer.main.get_command(app)):
        for parameter in command.params:
            if parameter.param_type_name == "option" and parameter.name not in ("help", "quiet", "debug"):
                assert f"| `{max(parameter.opts, key=len)}`" in told[path], f"{path} {parameter.name}"
                assert parameter.help.replace("|", "\\|") in told[path]


def test_defaults_choices_and_limits_are_told() -> None:
    told = sections()
    assert "| `--output`, `-o` | path | `data.json` | The data.json to write. |" in told["voco index"]
    assert "| `--check` | `headers`, `full` | `headers` |" in told["voco index"]
    assert "| `--resamples` | whole number, at least 100 | `2000` |" in told["voco compare"]
    assert "| `--task` | text | required |" in told["voco finetune"]
    assert "| `--set` | `KEY=VALUE` |  |" in told["voco pretrain"]


def test_exit_codes_are_those_of_the_errors() -> None:
    from voco_cli.errors import DataError, Interrupted, ResourceError, UsageError, VocoError

    told = sections()["Exit codes"]
    for kind, words in (
        (VocoError, "a finding"),
        (UsageError, "wrong usage"),
        (DataError, "data damaged"),
        (ResourceError, "out of disk"),
        (Interrupted, "the same command goes on"),
    ):
        row = next(line for line in told.splitlines() if line.startswith(f"| {kind.exit_code} |"))
        assert words in row
