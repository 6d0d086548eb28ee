"""A function in a process of its own: its CPU seconds and its peak of memory are nobody else's."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

# Stops whatever fills the memory before the machine has to: private memory, not mapped files or libraries.
LIMIT = "import resource; resource.setrlimit(resource.RLIMIT_DATA, ({0}, {0}))"


@dataclass(frozen=True)
class Alone:
    """What a process did.

    Attributes:
        result: what the function returned, by way of JSON.
        import_s: CPU seconds until the module of the function was imported.
        cpu_s: CPU seconds of the function.
        peak_bytes: largest resident set of the process (Linux).
    """

    result: Any
    import_s: float
    cpu_s: float
    peak_bytes: int


class AloneError(Exception):
    """The process failed; what it said on its error stream."""


def run_alone(place: str, *arguments: Any, limit_bytes: int | None = None) -> Alone:
    """Call ``module:function`` with arguments that JSON can carry.

    Args:
        limit_bytes: the function fails with MemoryError, or torch's own, where it takes more.
    Raises:
        AloneError: the process ended otherwise than well.
    """
    with tempfile.TemporaryDirectory(prefix="voco-benchmarks-") as folder:
        into = Path(folder) / "alone.json"
        code = f"{LIMIT.format(limit_bytes)}; " if limit_bytes else ""
        code += "from benchmarks.alone import main; main()"
        command = [sys.executable, "-c", code, place, json.dumps(arguments), str(into)]
        ended = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
        if ended.returncode or not into.is_file():
            raise AloneError(ended.stderr.strip()[-2000:] or f"exit code {ended.returncode}")
        return Alone(**json.loads(into.read_text()))


def peak_bytes() -> int:
    """The largest resident set of this process so far (Linux)."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) * 1024


def main() -> None:
    """What the process does."""
    place, arguments, into = sys.argv[1:]
    module, function = place.split(":")
    called = getattr(import_module(module), function)
    imported = time.process_time()
    result = called(*json.loads(arguments))
    found = Alone(result, imported, time.process_time() - imported, peak_bytes())
    Path(into).write_text(json.dumps(found.__dict__))
