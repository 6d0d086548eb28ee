"""`voco demo`: the whole way on generated scans, command by command."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated

import typer

from voco_cli.cli.exit import tell
from voco_cli.cli.interrupts import going_on
from voco_cli.document.terminal import be_quiet, done, is_quiet, out, shell_words
from voco_cli.errors import Interrupted

if TYPE_CHECKING:
    from voco_cli.demo.stages import Stage

LINE = "\N{BOX DRAWINGS HEAVY HORIZONTAL}"
ARROW = "\N{RIGHTWARDS ARROW}"


@going_on()
def demo(
    context: typer.Context,
    output: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="Folder of the demo; the same command on it goes on.")
    ] = Path("voco-demo"),
) -> None:
    """See what voco does, without any data, in about five minutes.

    Generates CTs and runs the commands of the README on them, one by one, up to a page that shows what came of it.
    """
    from voco_cli.demo.stages import SCRIPT, run_demo

    _tell(
        "Generated CTs, and the commands of the README on them, each as you may type it for your own scans. Takes "
        "about 3 minutes on two free cores, and longer where other programs keep them busy."
    )
    shown = StageOutput()
    outcome = run_demo(output, partial(run_command, context.find_root().command), shown.begun, shown.ended)
    _heading("what came out")
    out.print(outcome, style="bold", markup=False, highlight=False, soft_wrap=True)
    out.print(
        "Scans are generated and training took minutes: this shows how it is measured, and says nothing of your data.",
        highlight=False,
    )
    done([output / SCRIPT, output / "report.html"], "voco index YOUR_SCANS/ -o data.json, and on as above")


def run_command(program: Callable[..., int | None], arguments: Sequence[str]) -> int:
    """Run a command in this process, which has the libraries loaded; what it raises is told as the command tells it.

    Args:
        program: all commands.
        arguments: of one of them.
    """
    quiet = is_quiet()
    try:
        return program([*arguments, *(["--quiet"] if quiet else [])], prog_name="voco", standalone_mode=False) or 0
    except Interrupted as stopped:  # the demo has a sentence for it
        return stopped.exit_code
    except Exception as error:
        return tell(error)
    finally:
        be_quiet(quiet)


class StageOutput:
    """Prints a heading, what there is to see and the command before each stage; what to look at after it."""

    def __init__(self) -> None:
        self.began_s = 0.0

    def begun(self, stage: Stage, number: int, total: int, is_done: bool) -> None:
        """Print what a stage shows and its command, or that an earlier call has done it."""
        self.began_s = monotonic()
        _heading(f"{number} of {total}: {stage.name}")
        _tell("Done by an earlier call." if is_done else f"{stage.shows}\n")
        if stage.arguments and not is_done:
            line = f"$ {_program()} {shell_words(*stage.arguments)}"
            out.print(line, style="bold cyan", markup=False, highlight=False, soft_wrap=True)

    def ended(self, stage: Stage) -> None:
        """Print what to look at."""
        if not stage.arguments:
            done([stage.wrote])
        _tell(f"\n{ARROW} {stage.result} ({monotonic() - self.began_s:.0f} s)")


def _program() -> str:
    """Return `voco` where the shell finds the one that runs, else the way to it."""
    here = Path(sys.executable).with_name("voco")
    if not here.is_file():
        return shell_words(sys.executable, "-m", "voco_cli")
    if shutil.which("voco") == str(here):
        return "voco"
    near = here.is_relative_to(Path.cwd())
    return shell_words(here.relative_to(Path.cwd()) if near else here)


def _heading(text: str) -> None:
    if not is_quiet():
        out.print(f"\n{LINE * 3} {text} {LINE * 3}", style="bold", highlight=False)


def _tell(text: str) -> None:
    """Print prose, broken between words."""
    if not is_quiet():
        out.print(text, markup=False, highlight=False)
