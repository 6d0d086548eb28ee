"""What the pages tell people to type exists: commands, options, settings, names to import."""

from __future__ import annotations

import ast
import importlib
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from tests.docs.pages import INLINE_CODE, PAGES, ROOT, Block, blocks, name_of, prose, shell_lines, voco_arguments
from voco_cli.cli.app import app
from voco_cli.config.load import field_descriptions
from voco_cli.config.sources import flatten

# Typer brings a click of its own; its classes are asked of what it makes.
UsageError: Any = typer.BadParameter.__base__
VOCO: Any = typer.main.get_command(app)
KNOWN = {key for key, _ in field_descriptions()}
BLOCKS = [block for page in PAGES for block in blocks(page)]


def of_language(language: str) -> list[Block]:
    return [block for block in BLOCKS if block.language == language]


def leaf(arguments: list[str]) -> tuple[Any, list[str]]:
    """The context of the command that the arguments name, and what is left for it.

    Raises:
        UsageError: there is no such command or option.
    """
    context = VOCO.context_class(VOCO, info_name="voco")
    while hasattr(context.command, "commands"):
        context.command.parse_args(context, list(arguments) or ["--"])
        rest = [*context._protected_args, *context.args]
        if not rest:
            raise UsageError("Missing command.")
        name, command, arguments = context.command.resolve_command(context, rest)
        context = VOCO.context_class(command, info_name=name, parent=context, **command.context_settings)
    return context, arguments


def check(arguments: list[str]) -> None:
    """Parse as the app would, with all types and all that is required, and run nothing.

    Raises:
        UsageError: what the app would refuse.
    """
    context, rest = leaf(arguments)
    context.command.parse_args(context, list(rest))
    if "words" in context.params:  # the command that `voco submit` sends
        check(context.params["words"])
        return
    for override in context.params.get("override") or ():
        key = override.partition("=")[0]
        if key not in KNOWN:
            raise UsageError(f"{key} is no setting")


@pytest.mark.parametrize("block", of_language("bash"), ids=lambda block: block.place)
def test_commands_of_shell_blocks_parse(block: Block) -> None:
    for words in shell_lines(block.text):
        arguments = voco_arguments(words)
        if arguments is not None and arguments[:1] not in (["--help"], ["--version"]):
            try:
                check(arguments)
            except UsageError as error:
                pytest.fail(f"{block.place}: voco {shlex.join(arguments)}: {error.format_message()}")


def test_every_block_with_a_command_is_marked_as_shell() -> None:
    others = [block for block in BLOCKS if block.language != "bash"]
    assert [block.place for block in others if any(line.startswith("voco ") for line in block.text.splitlines())] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_in_the_text_exist(page: Path) -> None:
    """``voco evaluate RUN`` in a sentence need not be complete, but what it names must be there."""
    for number, line in prose(page):
        for code in INLINE_CODE.findall(line):
            if code.startswith("voco ") and "|" not in code:
                check_named(f"{name_of(page)}:{number}", [word for word in shlex.split(code)[1:] if word != "..."])


def check_named(place: str, words: list[str]) -> None:
    """Commands and options that are named exist; values may be missing."""
    if not words or words[0].startswith("-"):
        return
    value = ["VALUE"] if words[-1].startswith("-") else []
    try:
        context, rest = leaf([*words, *value])
        context.command.make_parser(context).parse_args(rest)
    except UsageError as error:
        if "Missing command" not in error.format_message():
            pytest.fail(f"{place}: voco {shlex.join(words)}: {error.format_message()}")


@pytest.mark.parametrize("block", of_language("yaml"), ids=lambda block: block.place)
def test_settings_of_yaml_blocks_are_settings(block: Block) -> None:
    values = yaml.safe_load(block.text)
    assert [key for key, _ in flatten(values) if key not in KNOWN] == []


@pytest.mark.parametrize("block", of_language("python"), ids=lambda block: block.place)
def test_imports_of_python_blocks_exist(block: Block) -> None:
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.ImportFrom) and node.module:
            module = importlib.import_module(node.module)
            assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []


@pytest.mark.parametrize(
    "arguments",
    ["pretrian data.json", "index", "pretrain data.json --stpes 1", "pretrain data.json --set train.stpes=1"],
)
def test_what_does_not_exist_is_found(arguments: str) -> None:
    with pytest.raises(UsageError):
        check(arguments.split())


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("voco pretrain data.json  # minutes", [["pretrain", "data.json"]]),
        (".venv/bin/voco index a \\\n  -o b", [["index", "a", "-o", "b"]]),
        ("torchrun --nproc-per-node 8 -m voco_cli pretrain data.json", [["pretrain", "data.json"]]),
        ("srun bash -c 'RANK=$X exec voco pretrain data.json'", [["pretrain", "data.json"]]),
        ("VOCO_SEED=1 voco config show | grep seed", [["config", "show"]]),
        ("git clone URL voco && cd voco", []),
        ("python examples/api.py voco", []),
    ],
)
def test_calls_are_found_however_they_are_written(line: str, found: list[list[str]]) -> None:
    calls = (voco_arguments(words) for words in shell_lines(line))
    assert [call for call in calls if call is not None] == found


def test_names_of_the_python_page_exist() -> None:
    page = ROOT / "docs" / "reference" / "python.md"
    for line in (line for _, line in prose(page) if line.startswith("| ")):
        module: Any = None
        for name in INLINE_CODE.findall(line):
            if name.startswith("voco_cli."):
                path, _, last = name.rpartition(".")
                parent = importlib.import_module(path)
                module = parent
                assert hasattr(parent, last) or importlib.import_module(name), name
            else:
                assert hasattr(module, name), name


def test_the_example_of_the_python_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = (one for one in BLOCKS if one.place.startswith("docs/reference/python.md"))
    exec(compile(block.text, block.place, "exec"), {})
    # A shift by one voxel of 3.75 mm along x.
    assert capsys.readouterr().out.startswith("Dice 0.9")
