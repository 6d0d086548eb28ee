"""The libraries and the devices that they find, looked at in a process of its own.

To load them all takes seconds, and one that does not fit the processor or the driver ends the process it is loaded in.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys

from voco_cli.planning.doctor import hardware, software
from voco_cli.planning.doctor.check import Check, all_looked_at, looked_at

Loaded = dict[str, list[Check]]
"""Checks by what was looked at: libraries, extras, processor, GPU."""
# Without -P a file of the current folder could be taken for a library.
COMMAND = (sys.executable, "-P", "-c", "from voco_cli.planning.doctor.loaded import main; main()")
FIRST = "libraries"


def load_here() -> Loaded:
    """Load every library, and ask for cores and GPUs."""
    return {
        FIRST: list(all_looked_at(FIRST, software.libraries)),
        "extras": list(all_looked_at("extras", software.extras)),
        "processor": [looked_at("processor", hardware.cores)],
        "GPU": list(all_looked_at("GPU", hardware.gpus)),
    }


def load_apart() -> Loaded:
    """The same in a process of its own; where that does not come to an end, this is the only check."""
    ended = subprocess.run(COMMAND, capture_output=True, text=True, errors="replace", check=False)
    told = next((line for line in reversed(ended.stdout.splitlines()) if line.startswith(f'{{"{FIRST}"')), None)
    if told is None:
        return {FIRST: [_died(ended.returncode, ended.stderr)]}
    return {name: [Check(**check) for check in checks] for name, checks in json.loads(told).items()}


def main() -> None:
    """What the process does: a line of JSON."""
    print(json.dumps({name: [check.to_json() for check in checks] for name, checks in load_here().items()}))


def _died(code: int, said: str) -> Check:
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    last = (said.strip().splitlines() or ["without a word"])[-1]
    names = ", ".join(software.REQUIRED)
    return Check(
        FIRST,
        "problem",
        f"a process that loads them ends with {how} ({last})",
        f"python -X faulthandler -c 'import {names}' names the one that is broken; install it again",
    )
