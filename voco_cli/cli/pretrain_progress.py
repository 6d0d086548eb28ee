"""What one sees while pre-training runs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from voco_cli.cli.output import err, progress
from voco_cli.engine.job import Values
from voco_cli.pretraining.run import Prepared

SHOWN_LEFT_OUT = 5
PLAIN_LINES = 20
"""Lines of a whole run where there is no terminal."""
TERMS = ("loss", "prediction", "regularisation", "inter")


class PretrainProgress:
    """A bar with loss terms, rate and data-wait on a terminal; plain lines elsewhere."""

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._task: Any = None
        self._train = ""
        self._health = ""
        self._steps = 0
        self._next_line = 0

    @contextmanager
    def building(self, total: int) -> Iterator[Callable[[str, str | None], None]]:
        """Progress of the cache."""
        with progress("cache", total) as advance:

            def on_done(scan: str, reason: str | None) -> None:
                advance()

            yield on_done

    def prepared(self, prepared: Prepared) -> None:
        """One line on what is about to run, and the scans that are left out."""
        for path, reason in prepared.left_out[:SHOWN_LEFT_OUT]:
            err.print(f"left out: {path.name}: {reason}", markup=False, highlight=False, soft_wrap=True)
        if len(prepared.left_out) > SHOWN_LEFT_OUT:
            err.print(f"left out: {len(prepared.left_out) - SHOWN_LEFT_OUT} more scans")
        resumed = f", resumed at step {prepared.resumed_step}" if prepared.resumed_step else ""
        recompute = ", activations recomputed" if prepared.recompute else ""
        err.print(
            f"{prepared.folder}: {prepared.num_training} scans to train on, {prepared.num_held_out} held out; "
            f"{prepared.num_parameters / 1e6:.2f} M parameters on {prepared.device} in {prepared.precision}"
            f"{recompute}{resumed}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )

    def started(self, step: int, steps: int) -> None:
        """Open the bar."""
        self._steps = steps
        self._next_line = step + max(1, steps // PLAIN_LINES)
        if not err.is_terminal:
            return
        self._bar = Progress(
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(bar_width=20),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
            console=err,
        )
        self._task = self._bar.add_task("", total=steps, completed=step)
        self._bar.start()

    def advanced(self, step: int) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.update(self._task, completed=step)

    def trained(self, step: int, values: Values) -> None:
        """Show loss terms, rate and data-wait."""
        terms = " ".join(f"{name} {values[name]:.3f}" for name in TERMS if name in values)
        self._train = f"{terms} | {values['cases_per_s']:.2f} scans/s, wait {values['data_wait']:.0%}"
        if self._bar is not None:
            self._describe(self._bar)
        elif step >= self._next_line or step == self._steps:
            self._next_line = step + max(1, self._steps // PLAIN_LINES)
            self._line(step, self._train)

    def validated(self, step: int, values: Values) -> None:
        """Show the figures on held-out scans."""
        self._health = f"rank {values['rank']:.2f} corr {values['correlation']:.2f} top-1 {values['top1']:.2f}"
        if self._bar is not None:
            self._describe(self._bar)
        else:
            self._line(step, f"held-out {self._health}")

    def ended(self) -> None:
        """Leave the bar as it stands."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _describe(self, bar: Progress) -> None:
        bar.update(self._task, description=" | ".join(part for part in (self._train, self._health) if part))

    def _line(self, step: int, text: str) -> None:
        print(f"step {step} of {self._steps}: {text}", file=sys.stderr, flush=True)
