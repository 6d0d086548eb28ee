"""What all commands share: their place in the list, examples below their help, options that may stand anywhere."""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from voco_cli.cli.examples import EXAMPLES
from voco_cli.cli.interrupts import Stopped
from voco_cli.cli.output import be_quiet
from voco_cli.cli.streams import VisibleFormatter

PANELS = {
    "First look": ("demo",),
    "Data": ("index", "preview-labels", "preview-case", "cache"),
    "Pre-training": ("plan", "pretrain", "locate", "embed"),
    "Downstream": ("tasks", "finetune", "predict", "evaluate", "compare", "study", "report"),
    "Machine and settings": ("doctor", "bench", "config", "weights"),
}
"""Commands in the order of work."""
ORDER = [name for names in PANELS.values() for name in names]
EVERYWHERE = "Anywhere in any command"
NUMBER = "N"
"""What help calls a number that has limits."""

EXIT_CODES = {
    0: "done",
    1: "a finding, such as missing scans",
    2: "wrong usage or input",
    3: "data damaged or missing",
    4: "out of disk or memory",
    75: "interrupted, and the same command goes on",
    130: "interrupted; 143 by SIGTERM",
}


class Commands(TyperGroup):
    """The commands in the order of work, each with its examples and the options that may stand anywhere."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = dict(sorted(self.commands.items(), key=lambda item: _rank(item[0])))
        for panel, names in PANELS.items():
            for name in set(names).intersection(self.commands):
                self.commands[name].rich_help_panel = panel  # type: ignore[attr-defined]
        shared = _everywhere()
        self.params += shared
        for path, command in _below(self):
            command.params += shared
            _with_short_types(command.get_params(typer.Context(command)))
            paragraphs = (command.help or "").split("\n\n")
            command.help = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
            command.epilog = _examples(path) or command.epilog
        codes = "; ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items())
        self.epilog = f"{_examples('')}\n\nExit codes: {codes}."

    def get_params(self, ctx: Any) -> Any:
        """Those of the whole program; Typer adds two of its own after the group is made."""
        return _with_short_types(super().get_params(ctx))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Each call begins as talkative as any."""
        be_quiet(False)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Typer ends on Ctrl-C without a word; we have a sentence for it."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            raise Stopped(interrupt) from interrupt


def _examples(path: str) -> str:
    lines = EXAMPLES.get(path, ())
    return "\n".join(["Example:" if len(lines) == 1 else "Examples:", *lines]) if lines else ""


def _with_short_types(parameters: Any) -> Any:
    """Typer writes <bool> for flags, which take no value, and <int range> [x>=1], which leaves no room for the help."""
    for parameter in parameters:
        if getattr(parameter, "is_flag", False):
            parameter.metavar = ""
        elif parameter.metavar is None and (getattr(parameter, "min", None), getattr(parameter, "max", None)) != (
            None,
            None,
        ):
            parameter.metavar = NUMBER
    return parameters


def _rank(name: str) -> int:
    return ORDER.index(name) if name in ORDER else len(ORDER)


def _below(group: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """All commands under a group, each with its full name."""
    for name, command in group.commands.items():
        yield f"{path}{name}", command
        if hasattr(command, "commands"):
            yield from _below(command, f"{path}{name} ")


def _quiet(wanted: bool) -> None:
    if wanted:
        be_quiet(True)


def _debug(wanted: bool) -> None:
    if wanted:
        os.environ["VOCO_DEBUG"] = "1"
        to_terminal = logging.StreamHandler()
        to_terminal.setFormatter(VisibleFormatter("%(asctime)s %(name)s: %(message)s"))
        logging.basicConfig(level=logging.INFO, handlers=[to_terminal])
        if sys.__stderr__ is not None:
            faulthandler.enable(sys.__stderr__)


def _only_options(
    quiet: Annotated[
        bool,
        typer.Option(
            "--quiet",
            "-q",
            callback=_quiet,
            expose_value=False,
            is_eager=True,
            help="No progress, no notes, no next step; results, warnings and errors stay.",
        ),
    ] = False,
    debug: Annotated[
        bool,
        typer.Option(
            "--debug",
            callback=_debug,
            expose_value=False,
            is_eager=True,
            help="Show the traceback of an error, and what the libraries log; also VOCO_DEBUG=1.",
        ),
    ] = False,
) -> None:
    raise AssertionError("only its parameters are of use")


def _everywhere() -> list[Any]:
    """The parameters ``--quiet`` and ``--debug``, which every command gets."""
    app = typer.Typer(add_completion=False)
    app.command()(_only_options)
    options: list[Any] = list(typer.main.get_command(app).params)
    for option in options:
        option.rich_help_panel = EVERYWHERE
    return options
