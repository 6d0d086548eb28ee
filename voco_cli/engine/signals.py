"""Being asked to stop: a signal is remembered, and the loop ends after the step it is in."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Self

from voco_cli.operating_system import STOPPING


class StopRequest:
    """Context in which SIGTERM, SIGINT and SIGHUP set a flag; a second SIGINT interrupts at once."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> Self:
        for number in STOPPING:
            self._before[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = signal.Signals(number)
