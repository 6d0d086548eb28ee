"""What a command takes to start: CPU seconds and modules, on inputs so small that its work hardly counts."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.rows import Figure

COMMANDS: dict[str, tuple[str, float | None]] = {
    "--help": ("--help", 0.5),
    "config show": ("config show", None),
    "weights inspect RUN": ("weights inspect run", None),
    "tasks list": ("tasks list", None),
    "index": ("index scans -o data.json", None),
    "preview-labels": ("preview-labels scan.nii.gz --recipe debug -o labels.png", 2.0),
    "tasks preview": ("tasks preview scan.nii.gz labels/case.nii.gz -o case.png", None),
    "evaluate, one case": ("evaluate --predictions first --labels labels -o evaluated", 2.0),
    "compare": ("compare evaluated evaluated_again", 2.0),
    "report, one run": ("report run -o report.html", 3.0),
    "doctor": ("doctor", None),
}
"""Name to arguments and the most CPU seconds of it, its child processes included; each uses what those before wrote."""

RUN = (
    "import sys, json\nfrom pathlib import Path\ninto = Path(sys.argv[1])\nsys.argv = ['voco', *sys.argv[2:]]\n"
    "from voco_cli.cli.app import main\n"
    "try:\n    main()\nexcept SystemExit as end:\n    code = end.code or 0\n"
    "into.write_text(json.dumps([code, len(sys.modules)]))\n"
)


def command_rows(folder: Path, scan: Path, run: Path, rounds: int) -> Iterator[Figure]:
    """CPU seconds of each command, and how many modules it loads.

    Args:
        folder: with generated scans in ``scans``; commands run in it.
        scan: one of them.
        run: a finished pre-training.
    """
    (folder / "scan.nii.gz").symlink_to(scan)
    (folder / "run").symlink_to(run)
    _write_cases(folder, scan)
    run_voco(folder, "evaluate --predictions second --labels labels -o evaluated_again")
    for name, (arguments, most_s) in COMMANDS.items():
        found = [run_voco(folder, arguments) for _ in range(rounds)]
        yield Figure(f"voco {name}", "CPU s", [seconds for seconds, _ in found], most_s)
        yield Figure(f"voco {name}, modules", "", [float(modules) for _, modules in found])


def run_voco(folder: Path, arguments: str) -> tuple[float, int]:
    """CPU seconds and modules of one command.

    Raises:
        RuntimeError: it failed.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    into = folder / "ended.json"
    command = [sys.executable, "-c", RUN, str(into), *arguments.split()]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    code, modules = json.loads(into.read_text())
    if code:
        raise RuntimeError(f"voco {arguments}: {ended.stderr.strip()[-500:]}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, modules


def _write_cases(folder: Path, scan: Path) -> None:
    """A label map on the grid of the scan, and two predictions beside it."""
    from voco_cli.data.io.reader import read_scan, write_scan

    like = read_scan(scan)
    label = np.zeros(like.array_zyx.shape, np.uint8)
    label[tuple(slice(edge // 4, 3 * edge // 4) for edge in like.array_zyx.shape)] = 1
    for name, moved in (("labels", 0), ("first", 1), ("second", 2)):
        write_scan(np.roll(label, moved, axis=2), like, folder / name / "case.nii.gz")
