"""`voco demo`: the whole way on generated scans, command by command."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from voco_cli.cli.output import done, err, out, progress

if TYPE_CHECKING:
    from voco_cli.demo.record import DemoRecord, StageTime
    from voco_cli.demo.run import DemoResult
    from voco_cli.demo.stages import Stage

BAR = "\N{BOX DRAWINGS HEAVY HORIZONTAL}"
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
            help="Minutes that there are, 10 by default: how much is done is chosen by the speed of this machine.",
        ),
    ] = None,
) -> None:
    """See what it does, without data: generated CTs, then the commands of the README on them, up to one page."""
    from voco_cli.demo.run import run_demo

    result = run_demo(output, minutes, DemoProgress())
    _print_summary(result)
    paths = result.paths
    done(
        [paths.commands, paths.record, paths.report], "voco index YOUR_SCANS -o data.json, and the same commands on it"
    )


class DemoProgress:
    """A heading, a sentence and the command before each stage; what to look at after it."""

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """Say why nothing happens for some seconds."""
        err.print("Measuring how fast this machine trains ...", highlight=False)
        yield

    def chosen(self, record: DemoRecord, expected: float, before: bool) -> None:
        """How much will be done."""
        speed = record.speed
        if before:
            _say(f"Going on with the demo in {record.out}: {record.size.words}.")
            return
        _say(
            f"{record.minutes:g} minutes at most. Here a step of pre-training takes {speed.pretraining_step_s:.2f} s, "
            f"one of the study {speed.study_step_s:.2f} s, and the start of a command {speed.start_s:.1f} s. So there "
            f"will be {record.size.words}: about {expected / 60:.1f} minutes."
        )

    def generating(self, total: int) -> AbstractContextManager[Callable[[], object]]:
        """A bar."""
        return progress("scans", total)

    def stage_started(self, stage: Stage, number: int, total: int) -> None:
        """What it shows, and its command."""
        self._heading(stage, number, total)
        _say(stage.shows)
        if stage.arguments:
            out.print(f"$ {stage.command}", style="bold cyan", markup=False, highlight=False, soft_wrap=True)

    def stage_skipped(self, stage: Stage, number: int, total: int) -> None:
        """That nothing happens."""
        self._heading(stage, number, total)
        _say("Done by an earlier call.")

    def stage_ended(self, stage: Stage, took: StageTime) -> None:
        """What to look at."""
        if not stage.arguments:
            done(list(stage.wrote))
        _say(f"{stage.look} ({took.seconds:.0f} s)")

    def _heading(self, stage: Stage, number: int, total: int) -> None:
        out.print(f"\n{BAR * 3} {number} of {total}: {stage.name} {BAR * 40}", style="bold", highlight=False)


def _print_summary(result: DemoResult) -> None:
    from rich.table import Table

    out.print(f"\n{BAR * 3} What came out {BAR * 40}", style="bold", highlight=False)
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("stage")
    table.add_column("seconds", justify="right")
    table.add_column("of the cores", justify="right")
    for stage, took in result.stages:
        table.add_row(stage.name, f"{took.seconds:.0f}", f"{took.cpu_s:.0f}")
    whole_s, cpu_s = (sum(getattr(took, name) for _, took in result.stages) for name in ("seconds", "cpu_s"))
    table.add_row("together", f"{whole_s:.0f}", f"{cpu_s:.0f}", style="bold")
    out.print(table)
    _say(f"Largest memory of a process: {result.peak_bytes / 1e9:.1f} GB.")
    status, sentence = result.verdict
    out.print(f"Pre-training: {sentence}", style=STYLES[status], markup=False, highlight=False, soft_wrap=True)
    for conclusion in result.conclusions:
        out.print(f"Study, {conclusion}", style="bold", markup=False, highlight=False, soft_wrap=True)
    _say(
        "This is of generated scans and a training of minutes, and says nothing about yours: voco study measures that."
    )


def _say(text: str) -> None:
    out.print(text, markup=False, highlight=False, soft_wrap=True)
