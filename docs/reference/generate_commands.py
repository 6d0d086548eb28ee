"""Write docs/reference/commands.md from the command line itself.

Usage: python docs/reference/generate_commands.py
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

import typer

from voco_cli.atomic_files import write_atomic
from voco_cli.cli.app import EVERYWHERE, EXAMPLES, EXIT_CODES, NUMBER, PANELS, app
from voco_cli.document.blocks import Column, Table
from voco_cli.document.markdown import to_markdown

PAGE = Path(__file__).with_name("commands.md")
OWN = {"help", "version", "install_completion", "show_completion"}
"""Options of the program that no command explains again."""

HEAD = """# Commands

This page is made from the command line itself by `make docs`; a test fails where it is out of date.

Results go to stdout; progress, notes, warnings and errors to stderr. An error is one sentence, with a hint below it
where there is something to do. Without a terminal, with `TERM=dumb` or with `NO_COLOR`, nothing is coloured or redrawn;
tables in files and pipes keep a row on a line up to 200 columns, and `COLUMNS` sets another width. `--json` prints the
result for machines, and nothing else on stdout.

`voco --install-completion` installs completion of commands, options, recipes, tasks and settings for bash, zsh, fish
or PowerShell; `voco --show-completion` prints it. `voco --version` prints the version.
"""


def commands_page() -> str:
    """Return the whole page."""
    root: Any = typer.main.get_command(app)
    shared = [option for option in root.params if option.rich_help_panel == EVERYWHERE]
    parts = [HEAD, _exit_codes(), f"## {EVERYWHERE}\n\n{_table(shared, root)}", _contents(root)]
    for name, command in root.commands.items():
        parts += _command(name, command, 2)
    return "\n".join(parts)


def _exit_codes() -> str:
    rows = [[str(code), meaning] for code, meaning in EXIT_CODES.items()]
    return f"## Exit codes\n\n{to_markdown([Table.of('', [*map(Column, ('code', 'meaning'))], rows)])}"


def _contents(root: Any) -> str:
    """Return a table of the commands in the order of work."""
    rows = []
    for panel, names in PANELS.items():
        rows += [[f"**{panel}**", ""]]
        rows += [[f"[`voco {name}`](#voco-{name})", _paragraphs(root.commands[name])[0]] for name in names]
    return f"## All commands\n\n{to_markdown([Table.of('', [*map(Column, ('command', 'what it does'))], rows)])}"


def _command(path: str, command: Any, level: int) -> Iterator[str]:
    """Yield a command and those below it, each with a heading of its own."""
    below = getattr(command, "commands", {})
    texts = [f"{'#' * level} voco {path}", *_paragraphs(command)]
    if not below:
        pieces = command.collect_usage_pieces(typer.Context(command))
        texts.insert(1, f"`voco {path} {' '.join(pieces).replace('{', '').replace('}', '')}`")
    own = [one for one in command.params if one.name not in OWN and one.rich_help_panel != EVERYWHERE]
    if own:
        texts.append(_table(own, command).rstrip("\n"))
    if path in EXAMPLES and not below:
        texts.append("\n".join(["```bash", *EXAMPLES[path], "```"]))
    yield "\n\n".join(texts) + "\n"
    for name, child in below.items():
        yield from _command(f"{path} {name}", child, level + 1)


def _paragraphs(command: Any) -> list[str]:
    return [" ".join(paragraph.split()) for paragraph in command.help.split("\n\n")]


def _table(parameters: Sequence[Any], command: Any) -> str:
    context = typer.Context(command)
    rows = [[_name(one, context), _value(one, context), _default(one), one.help] for one in parameters]
    columns = [*map(Column, ("argument or option", "value", "default", "what it is"))]
    return to_markdown([Table.of("", columns, rows)])


def _name(parameter: Any, context: typer.Context) -> str:
    if parameter.param_type_name == "argument":
        return f"`{parameter.metavar or parameter.name.upper()}`{'' if parameter.nargs == 1 else ' ...'}"
    return ", ".join(f"`{option}`" for option in sorted(parameter.opts, key=len, reverse=True))


def _value(parameter: Any, context: typer.Context) -> str:
    """Return what to give: nothing, a choice, a number between limits, or what the help calls it."""
    if getattr(parameter, "is_flag", False):
        return ""
    if parameter.param_type_name == "option" and parameter.metavar not in (None, NUMBER):
        return f"`{parameter.metavar}`"
    shown = str(parameter.display_type(context)).strip("<>")
    if "|" in shown:
        return ", ".join(f"`{choice}`" for choice in shown.split("|"))
    kind = shown.removeprefix("list[").removesuffix("]").removesuffix(" range").lower()
    words = {"str": "text", "int": "whole number", "float": "number", "path": "path"}.get(kind, kind)
    least, most = parameter.min, parameter.max
    if least is not None and most is not None:
        return f"{words}, {least:g} to {most:g}"
    return words if least is None else f"{words}, at least {least:g}"


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    value = parameter.default
    if value is None or value is False or value == "" or callable(value):
        return ""
    return f"`{value.value if isinstance(value, Enum) else value}`"


if __name__ == "__main__":
    write_atomic(PAGE, commands_page().encode())
    print(f"wrote {PAGE}")
