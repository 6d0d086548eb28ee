"""`voco demo`: the whole way on generated scans, command by command."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from voco_cli.cli.exit import tell
from voco_cli.cli.interrupts import going_on
from voco_cli.document.terminal import be_quiet, done, is_quiet, out, progress, shell_words
from voco_cli.errors import Interrupted

if TYPE_CHECKING:
    from voco_cli.demo.run import DemoResult, StageTime
    from voco_cli.demo.stages import Stage

LINE = "\N{BOX DRAWINGS HEAVY HORIZONTAL}"
ARROW = "\N{RIGHTWARDS ARROW}"
IDLE_S, WANTED_CORES = 180, 2
"""What all stages took together on two idle cores of a server, and the cores that they keep busy."""
STYLES = {"learned": "bold green", "not yet": "bold yellow", "collapsed": "bold red"}


@going_on()
def demo(
    output: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="Folder of the demo; the same command on it goes on.")
    ] = Path("voco-demo"),
) -> None:
    """See what it does without any data, in about five minutes.

    Generates CTs and runs the commands of the README on them, one by one, up to a page that shows what came of it.
    """
    from voco_cli.demo.run import run_demo

    _tell(
        "Generated CTs, and the commands of the README on them, each as you may type it for your own scans. "
        + _expectation(*_machine())
    )
    result = run_demo(output, DemoProgress(), _command)
    _print_summary(result)
    paths = result.paths
    done([paths.commands, paths.record, paths.report], "voco index YOUR_SCANS/ -o data.json, and on as above")


def _machine() -> tuple[int, float]:
    """Return the cores of this machine, and how many of them other processes keep busy, from a look of a second."""
    import psutil

    from voco_cli.operating_system import usable_cores

    return usable_cores(), psutil.cpu_percent(interval=1.0) / 100 * (psutil.cpu_count() or 1)


def _expectation(cores: int, busy: float) -> str:
    """Say how long it will take, and why."""
    slower = max(1.0, (WANTED_CORES + busy) / cores)
    minutes = max(1, round(IDLE_S * slower / 60))
    words = f"Takes about {IDLE_S / 60:.0f} minutes on two free cores"
    if slower < 1.2:
        return f"{words}."
    why = f"other processes keep {busy:.1f} of {cores} cores busy" if busy >= 0.3 else f"there is {cores} core here"
    return f"{words}; {why}, so expect about {minutes}."


def _command(arguments: Sequence[str]) -> int:
    """Run a command in this process, which has the libraries loaded; what it raises is told as the command tells it."""
    from voco_cli.cli.app import app

    quiet = is_quiet()
    try:
        return app([*arguments, *(["--quiet"] if quiet else [])], prog_name="voco", standalone_mode=False) or 0
    except Interrupted as stopped:  # the demo has a sentence for it
        return stopped.exit_code
    except Exception as error:
        return tell(error)
    finally:
        be_quiet(quiet)


class DemoProgress:
    """A heading, what there is to see and the command before each stage; what to look at after it."""

    def generating(self, total: int) -> AbstractContextManager[Callable[[], object]]:
        """A bar."""
        return progress("scans", total)

    def stage_started(self, stage: Stage, number: int, total: int) -> None:
        """What it shows, and its command."""
        _heading(f"{number} of {total}: {stage.name}")
        _tell(f"{stage.shows}\n")
        if stage.arguments:
            line = f"$ {_program()} {shell_words(*stage.arguments)}"
            out.print(line, style="bold cyan", markup=False, highlight=False, soft_wrap=True)

    def stage_skipped(self, stage: Stage, number: int, total: int) -> None:
        """That nothing happens."""
        _heading(f"{number} of {total}: {stage.name}")
        _tell("Done by an earlier call.")

    def stage_ended(self, stage: Stage, took: StageTime) -> None:
        """What to look at."""
        if not stage.arguments:
            done(list(stage.wrote))
        _tell(f"\n{ARROW} {stage.look} ({took.seconds:.0f} s)")


def _program() -> str:
    """`voco` where the shell finds the one that runs, else the way to it."""
    here = Path(sys.executable).with_name("voco")
    if not here.is_file():
        return shell_words(sys.executable, "-m", "voco_cli")
    if shutil.which("voco") == str(here):
        return "voco"
    near = here.is_relative_to(Path.cwd())
    return shell_words(here.relative_to(Path.cwd()) if near else here)


def _print_summary(result: DemoResult) -> None:
    from rich.table import Table

    _heading("what came out")
    table = Table(box=None, header_style="bold", pad_edge=False, show_footer=True)
    whole_s = sum(took.seconds for _, took in result.stages)
    cpu_s = sum(took.cpu_s for _, took in result.stages)
    table.add_column("stage", footer="together")
    table.add_column("seconds", footer=f"{whole_s:.0f}", justify="right")
    table.add_column("CPU seconds", footer=f"{cpu_s:.0f}", justify="right")
    for stage, took in result.stages:
        table.add_row(stage.name, f"{took.seconds:.0f}", f"{took.cpu_s:.0f}")
    out.print(table)
    peak_bytes = max(took.peak_bytes for _, took in result.stages)
    out.print(f"At most {peak_bytes / 1e9:.1f} GB of memory were taken.", highlight=False)
    status, sentence = result.verdict
    out.print(f"\nPre-training: {sentence}", style=STYLES[status], markup=False, highlight=False, soft_wrap=True)
    for conclusion in result.conclusions:
        out.print(f"Study, {conclusion}", style="bold", markup=False, highlight=False, soft_wrap=True)
    out.print(
        "Scans are generated and training took minutes: this shows how it is measured, and says nothing of your data.",
        highlight=False,
    )


def _heading(text: str) -> None:
    if not is_quiet():
        out.print(f"\n{LINE * 3} {text} {LINE * 3}", style="bold", highlight=False)


def _tell(text: str) -> None:
    """Prose, broken between words."""
    if not is_quiet():
        out.print(text, markup=False, highlight=False)
