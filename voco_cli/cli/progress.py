"""The progress of a run that trains: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from voco_cli.document.terminal import err, is_quiet, note, print_blocks, progress, shows_bars, warn
from voco_cli.foreign_text import named
from voco_cli.training.callbacks import Callback, Values
from voco_cli.workflows.leakage import sentences

if TYPE_CHECKING:
    from voco_cli.objectives.objective import FigureInfo
    from voco_cli.workflows.finetune import PreparedFinetuning
    from voco_cli.workflows.pretrain import PreparedPretraining


SHOWN_LEFT_OUT = 5
PLAIN_LINES = 20
"""Lines of a whole run where there is no terminal."""


class _RunBar(Progress):
    """Step, bar, rate and time in one line; what is being learned in lines of their own below, cut at the edge."""

    def get_renderables(self) -> Iterator[RenderableType]:
        """Yield the bar, then the terms of the loss, then the figures of the last validation."""
        yield self.make_tasks_table(self.tasks)
        for task in self.tasks:
            for name in ("train", "held_out"):
                if line := task.fields.get(name):
                    yield Text(line, no_wrap=True, overflow="ellipsis")


class RunProgress(Callback):
    """Loss terms, rate and data-wait, and the figures of the last validation."""

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._task: Any = None
        self._steps = 0
        self._next_line = 0
        self._terms: tuple[str, ...] = ("loss",)

    def figures(self, values: Values) -> str:
        """Return the figures of a validation in a few words."""
        raise NotImplementedError

    @contextmanager
    def building(self, total: int) -> Iterator[Callable[[str, str | None], None]]:
        """Show the progress of the cache."""
        with progress("cache", total) as advance:

            def on_done(scan: str, reason: str | None) -> None:
                advance()

            yield on_done

    def progress(self, description: str, total: int) -> AbstractContextManager[Callable[..., None]]:
        """Show the progress of anything else that takes a while."""
        return progress(description, total)

    def say(self, text: str, style: str | None = None) -> None:
        """Print a line on what is about to run."""
        note(text, style)

    def warn(self, text: str, style: str | None = None) -> None:
        """Print a line that one should know of before using the result."""
        warn(text, style)

    def left_out(self, reasons: Sequence[tuple[str, str]]) -> None:
        """Print which scans are left out, the first few by name."""
        for name, reason in reasons[:SHOWN_LEFT_OUT]:
            self.warn(f"left out: {name}: {reason}")
        if len(reasons) > SHOWN_LEFT_OUT:
            self.warn(f"left out: {len(reasons) - SHOWN_LEFT_OUT} more")

    def started(self, step: int, steps: int) -> None:
        """Open the bar."""
        self._steps = steps
        self._next_line = step + max(1, steps // PLAIN_LINES)
        if is_quiet() or not shows_bars():
            return
        self._bar = _RunBar(
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[rate]}"),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("after"),
            TimeElapsedColumn(),
            console=err,
        )
        self._task = self._bar.add_task("", total=steps, completed=step, rate="")
        self._bar.start()

    def advanced(self, step: int) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.update(self._task, completed=step)

    def trained(self, step: int, values: Values) -> None:
        """Show loss terms, rate and data-wait."""
        terms = " ".join(f"{name} {values[name]:.3f}" for name in self._terms if name in values)
        rate, wait = f"{values['cases_per_s']:.2f} scans/s", f"wait {values['data_wait']:.0%}"
        if self._bar is not None:
            self._bar.update(self._task, rate=rate, train=f"{terms} | {wait}")
        elif step >= self._next_line or step == self._steps:
            self._next_line = step + max(1, self._steps // PLAIN_LINES)
            self._line(step, f"{terms} | {rate}, {wait}")

    def validated(self, step: int, values: Values) -> None:
        """Show the figures on held-out scans."""
        figures = self.figures(values)
        if self._bar is not None:
            self._bar.update(self._task, held_out=f"held-out at step {step}: {figures}")
        else:
            self._line(step, f"held-out {figures}")

    def ended(self) -> None:
        """Leave the bar as it stands."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _line(self, step: int, text: str) -> None:
        if is_quiet():
            return
        print(f"step {step} of {self._steps}: {text}", file=sys.stderr, flush=True)


class PretrainProgress(RunProgress):
    """The held-out figures that the verdict rests on."""

    def __init__(self) -> None:
        super().__init__()
        self._figures: Mapping[str, FigureInfo] = {}

    def figures(self, values: Values) -> str:
        """Return the figures of a validation in a few words."""
        shown = [(info.short, values[name]) for name, info in self._figures.items() if info.short and name in values]
        return " ".join(f"{short} {value:.2f}" for short, value in shown)

    def prepared(self, prepared: PreparedPretraining) -> None:
        """Print one line on what is about to run, and the scans that are left out."""
        self._terms, self._figures = ("loss", *prepared.terms), prepared.figures
        self.left_out([(path.name, reason) for path, reason in prepared.left_out])
        resumed = f", resumed at step {prepared.resumed_step}" if prepared.resumed_step else ""
        recompute = ", activations recomputed" if prepared.recompute else ""
        if prepared.loaded is not None:
            self.say(str(prepared.loaded))
        self.say(
            f"{prepared.folder}: {prepared.num_training} scans to train on, {prepared.num_held_out} held out; "
            f"{prepared.num_parameters / 1e6:.2f} M parameters on {prepared.device} in {prepared.precision}"
            f"{recompute}{resumed}"
        )
        if prepared.drawn is not None:
            self.say(prepared.drawn)


class FinetuneProgress(RunProgress):
    """Dice or AUC on the validation cases."""

    def figures(self, values: Values) -> str:
        """Return the figures of a validation in a few words."""
        if "auc" in values:
            return f"AUC {values['auc']:.3f} accuracy {values['accuracy']:.3f}"
        return f"Dice {values['dice']:.4f}" if "dice" in values else "nothing there and nothing predicted, no Dice"

    def prepared(self, prepared: PreparedFinetuning) -> None:
        """Print the data and its split, what became of the weights, and what is about to run."""
        data = prepared.data
        self.say(f"{data.origin}: {data.split_words}")
        if data.missing:
            self.warn(f"{len(data.missing)} cases of the split are missing and left out: {named(data.missing, 3)}")
        self.left_out(prepared.left_out)
        if prepared.loaded is not None:
            if not is_quiet():
                print_blocks([prepared.loaded.table()], err)
            self.say(str(prepared.loaded))
            for note in prepared.loaded.notes:
                self.say(note)
        for line in sentences(prepared.leakage):
            if prepared.leakage.spotted:
                self.warn(line, style="yellow")
            else:
                self.say(line)
        resumed = f", resumed at step {prepared.resumed_step}" if prepared.resumed_step else ""
        still = prepared.num_parameters - prepared.num_trainable
        frozen = f" ({still / 1e6:.2f} M frozen)" if still else ""
        self.say(
            f"{prepared.folder}: {prepared.num_training} cases to train on, {prepared.num_validation} to validate on; "
            f"{prepared.num_parameters / 1e6:.2f} M parameters{frozen} on {prepared.device} in {prepared.precision}"
            f"{resumed}"
        )
