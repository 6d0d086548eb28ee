"""`voco demo`: the whole way on generated scans, command by command."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from voco_cli.cli.output import done, is_quiet, note, out, progress, shell_words

if TYPE_CHECKING:
    from voco_cli.demo.record import DemoRecord, StageTime
    from voco_cli.demo.run import DemoResult
    from voco_cli.demo.stages import Stage

LINE = "\N{BOX DRAWINGS HEAVY HORIZONTAL}"
ARROW = "\N{RIGHTWARDS ARROW}"
STYLES = {"learned": "bold green", "not yet": "bold yellow", "collapsed": "bold red"}


def demo(
    output: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="Folder of the demo; the same command on it goes on.")
    ] = Path("voco-demo"),
    minutes: Annotated[
        float | None,
        typer.Option(
            "--minutes",
            min=0.1,
            metavar="N",
            help="Minutes that there are, 10 if not given: how much is done is chosen by the speed of this machine.",
        ),
    ] = None,
) -> None:
    """See what it does without any data, in ten minutes.

    Generates CTs and runs the commands of the README on them, one by one, up to a page that shows what came of it.
    """
    from voco_cli.demo.run import run_demo

    result = run_demo(output, minutes, DemoProgress(), command=_command)
    _print_summary(result)
    paths = result.paths
    done([paths.commands, paths.record, paths.report], "voco index YOUR_SCANS/ -o data.json, and on as above")


def _command(stage: str, arguments: Sequence[str]) -> None:
    from voco_cli.demo.subprocesses import run_command

    run_command(stage, (*arguments, "--quiet") if is_quiet() else arguments)


class DemoProgress:
    """A heading, what there is to see and the command before each stage; what to look at after it."""

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """Say why nothing happens for some seconds."""
        note("Measuring how fast this machine trains ...")
        yield

    def chosen(self, record: DemoRecord, expected: float, before: bool) -> None:
        """How much will be done."""
        speed, size = record.speed, record.size
        if before:
            _tell(f"This demo was begun by an earlier call and goes on: {size.words}.")
            return
        _tell(
            "Generated CTs, and the commands of the README on them, each as you may type it for your own scans. Here a "
            f"step of pre-training takes {speed.pretraining_step_s:.2f} s, one of the study {speed.study_step_s:.2f} s "
            f"and the start of a command {speed.start_s:.1f} s, so {record.minutes:g} minutes are enough for "
            f"{size.words}: about {expected / 60:.1f} minutes."
        )

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
    out.print(f"The largest process took {result.peak_bytes / 1e9:.1f} GB of memory.", highlight=False)
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
