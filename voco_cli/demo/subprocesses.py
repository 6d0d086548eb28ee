"""Commands of a demo as processes of their own, which are stopped with it."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from voco_cli.demo.settings import PRETRAINING
from voco_cli.demo.size import Speed
from voco_cli.errors import Interrupted, ResourceError, VocoError

PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
KILOBYTE = 1024
"""Unit of the kernel's memory figures."""


@dataclass(frozen=True)
class Cost:
    """What processes took: CPU seconds, and the largest footprint of one of them."""

    cpu_s: float
    peak_bytes: int


def python_module(module: str, *arguments: str) -> list[str]:
    """The command line of a module of ours, whatever else lies in the current folder."""
    return [sys.executable, "-P", "-m", module, *arguments]


def run_command(name: str, arguments: Sequence[str]) -> None:
    """Run `voco` with its output where ours goes, and pass signals on to it.

    Args:
        name: of the stage, for messages.
    Raises:
        Interrupted: a signal came; a training has written its checkpoint.
        ResourceError: the process was killed.
        VocoError: the command failed and has said why; the error has its exit code.
    """
    signals: list[int] = []
    process: subprocess.Popen[bytes] | None = None

    def pass_on(number: int, frame: FrameType | None) -> None:
        signals.append(number)
        if process is not None:
            process.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in PASSED_ON}
    try:
        # In a group of its own: a terminal's Ctrl-C would reach it twice, and the second one means at once.
        process = subprocess.Popen(python_module("voco_cli", *arguments), stdin=subprocess.DEVNULL, process_group=0)
        for number in signals[:1]:
            process.send_signal(number)
        code = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if code:
        raise _failure(name, code, bool(signals))


def _failure(name: str, code: int, asked: bool) -> VocoError:
    if asked or code == Interrupted.exit_code:
        return Interrupted(f"The demo was stopped in its stage {name}.", "the same command goes on")
    if code == -signal.SIGKILL:
        return ResourceError(
            f"The stage {name} was killed, as the system does where memory runs out.",
            "close other programs; the same command goes on",
        )
    error = VocoError(
        f"The stage {name} ended with exit code {code}; why is said above.",
        "once that is mended, the same command goes on",
    )
    error.exit_code = code if code > 0 else 1
    return error


def measure_speed() -> Speed:
    """How fast this machine starts a command and trains, from a process that does both.

    Raises:
        VocoError: it failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder) / "pretrain.yaml"
        settings.write_text(PRETRAINING)
        began_s = time.monotonic()
        command = python_module("voco_cli.demo.speed", str(settings))
        found = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        whole_s = time.monotonic() - began_s
    if found.returncode:
        last = found.stderr.strip().splitlines()[-1:] or [f"exit code {found.returncode}"]
        raise VocoError(f"The speed of this machine could not be measured: {last[0]}")
    measured = json.loads(found.stdout.splitlines()[-1])
    return Speed(
        measured["pretraining_step_s"], measured["study_step_s"], max(0.0, whole_s - measured["measured_for_s"])
    )


def cost_so_far() -> Cost:
    """What this process and those that it started and that have ended took."""
    own, others = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = own.ru_utime + own.ru_stime + others.ru_utime + others.ru_stime
    return Cost(cpu_s, max(own.ru_maxrss, others.ru_maxrss) * KILOBYTE)
