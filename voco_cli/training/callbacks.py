"""The hooks of everything that runs for a while: a training with what comes before and after it, and a study."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

Values = Mapping[str, float]
"""Figures by name."""


class Callback:
    """Hooks that do nothing; a subclass overrides those that it needs.

    The workflows say what ``prepared`` and the hooks of a study are given.
    """

    def say(self, text: str, style: str | None = None) -> None:
        """Take a line on what is done, and why."""

    def warn(self, text: str, style: str | None = None) -> None:
        """Take a line that one should know of before using the result."""

    def building(self, total: int) -> AbstractContextManager[Callable[[str, str | None], None]]:
        """Follow the making of the cache; the callable gets each of ``total`` files and why it failed, or None."""
        return _ignored()

    def progress(self, description: str, total: int) -> AbstractContextManager[Callable[..., None]]:
        """Follow anything else that takes a while; the callable gets how many more are done, 1 if nothing is said."""
        return _ignored()

    def prepared(self, prepared: Any) -> None:
        """Take what a run is about to work on: a `PreparedPretraining` or `PreparedFinetuning`."""

    def started(self, step: int, steps: int) -> None:
        """Called when training begins at ``step``."""

    def trained(self, step: int, values: Values) -> None:
        """Take the means over the steps since the last call."""

    def advanced(self, step: int) -> None:
        """Called after every step; must be cheap."""

    def validated(self, step: int, values: Values) -> None:
        """Take the figures on held-out cases."""

    def ended(self) -> None:
        """Called when training has ended, well or not."""

    def planned(self, total: int, finished: int, data: Any) -> None:
        """Take how many runs of a study are asked for and finished already, and its cases, a `TaskData`."""

    def run_started(self, run: Any, number: int, total: int) -> None:
        """Called when a run of a study, a `PlannedRun`, begins or goes on."""

    def run_ended(self, record: Any, left_s: float) -> None:
        """Take how a run of a study ended, a `StudyRun`, and how long the others may take."""


@contextmanager
def _ignored() -> Iterator[Callable[..., None]]:
    yield lambda *done: None
