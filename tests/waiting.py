"""Waiting for what another process does: no number of seconds, as a busy machine needs any; pytest ends what hangs."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

LOOK_EVERY_S = 0.02


def wait_until(happened: Callable[[], object], running: subprocess.Popen[Any] | None = None) -> None:
    """Return when it has happened.

    Args:
        running: who is to do it; a test fails where this process has ended before.
    """
    while not happened():
        ended = running is not None and running.poll() is not None
        assert not ended or happened(), f"ended with {running.returncode if running else None} before it happened"
        time.sleep(LOOK_EVERY_S)


def is_alive(process: int) -> bool:
    """Whether a process runs or sleeps, and is no zombie that nobody has collected."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
