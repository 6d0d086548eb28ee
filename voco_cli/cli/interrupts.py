"""Being stopped: SIGTERM, SIGHUP and SIGUSR2 unwind a command as Ctrl-C does, and it says if the same call goes on."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from voco_cli.errors import Interrupted, VocoError
from voco_cli.operating_system import STOPPING


class Terminated(KeyboardInterrupt):
    """SIGTERM, SIGHUP or SIGUSR2, which Python itself does not raise."""


class Stopped(VocoError):
    """Stopped where nothing goes on: the same command begins anew."""

    def __init__(self, interrupt: KeyboardInterrupt) -> None:
        super().__init__("Interrupted; nothing half-written was left behind.")
        self.exit_code = exit_code(interrupt)


def listen() -> None:
    """Raise `Terminated` in the main thread on what stops a command, where nobody has decided otherwise (as nohup)."""
    for number in STOPPING:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _raise)


def deafen() -> None:
    """Ignore from now on what `listen` heard: the command has ended, and its exit code says how.

    Python takes a second or two to leave where large libraries are loaded, and would die of the signal meanwhile.
    """
    for number in STOPPING:
        if signal.getsignal(number) in (_raise, signal.default_int_handler):
            signal.signal(number, signal.SIG_IGN)


def _raise(number: int, frame: FrameType | None) -> None:
    raise Terminated


def exit_code(interrupt: KeyboardInterrupt) -> int:
    """Return 128 and the number of the signal, as shells do."""
    return 128 + (signal.SIGTERM if isinstance(interrupt, Terminated) else signal.SIGINT)


@contextmanager
def going_on() -> Iterator[None]:
    """Say of what runs inside that it keeps what it has done: the same command goes on.

    Raises:
        Interrupted: it was stopped.
    """
    try:
        yield
    except KeyboardInterrupt as interrupt:
        raise Interrupted("Interrupted; what is done so far is kept.", "the same command goes on") from interrupt
