"""The one entry: which cases run, each in a process of its own, and where the numbers go."""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.machine import cpu_model, load_per_core, machine, slug
from benchmarks.registry import CASES, Case, Options, find_cases
from benchmarks.scaling import NAMES
from voco_cli.atomic_files import write_atomic
from voco_cli.operating_system import usable_cores

FORMAT = "voco-benchmarks/1"
RESULTS = Path(__file__).parent / "results"
THREADS = 1
"""Of the tensor library: ratios of CPU time with more would count threads that wait."""
BUSY = 0.5


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the cases; 1 where a target was missed, results differ or a case failed."""
    args = _parse(arguments)
    if args.list:
        for case in CASES:
            print(f"{case.name:<15} {case.words}")
        return 0
    options = Options(args.rounds, args.quick, tuple(args.scan), args.data, args.minutes, args.work, tuple(args.given))
    if args.into is not None:
        return _measure(args.cases[0], options, args.into)
    if load_per_core() > BUSY:
        print(f"The machine is busy ({load_per_core():.1f} processes a core): no figure of this run is to be quoted.")
    return _run_all(args.cases, options, args.out)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE", help="all of them by default; see --list")
    parser.add_argument("--list", action="store_true", help="say what there is, and measure nothing")
    parser.add_argument("--rounds", type=int, help="pairs of runs")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that a case works")
    parser.add_argument("--scan", type=Path, action="append", default=[], help="a real CT; repeatable")
    parser.add_argument("--data", type=Path, help="folder of the hippocampus task, for the case finetuning")
    parser.add_argument("--minutes", type=float, default=6.0, help="for each side of the case finetuning")
    parser.add_argument("--work", type=Path, help="folder of the runs of the cases lesions and omni, which go on there")
    given = f"NAME=NUMBER, a cost for the case scaling; repeatable. Names: {', '.join(NAMES)}"
    parser.add_argument("--given", type=_cost, action="append", default=[], help=given)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)  # this is the process that measures one case
    args = parser.parse_args(arguments)
    try:
        args.cases = find_cases(args.cases)
    except KeyError as error:
        parser.error(f"there is no case {error.args[0]}; there are {', '.join(case.name for case in CASES)}")
    return args


def _cost(word: str) -> tuple[str, float]:
    name, _, number = word.partition("=")
    try:
        value = float(number)
    except ValueError:
        value = -1.0
    if name not in NAMES or not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{word} is not NAME=NUMBER with a name of {', '.join(NAMES)}")
    return name, value


def _run_all(cases: Sequence[Case], options: Options, out: Path) -> int:
    """Each case in a process of its own: settings of the allocator, threads and memory must not reach the next."""
    found: dict[str, dict[str, Any]] = {}
    for case in cases:
        print(f"\n{case.name}: {case.words}", flush=True)
        start = time.monotonic()
        found[case.name] = {"load_before": round(load_per_core(), 2), **_run_alone(case, options)}
        found[case.name]["wall_s"] = round(time.monotonic() - start, 1)
    path = write_result(found, options, out)
    print(f"\nwrote {path}")
    return 1 if any(one["failed"] or not _is_fine(one["rows"], options) for one in found.values()) else 0


def _run_alone(case: Case, options: Options) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="voco-benchmarks-") as folder:
        into = Path(folder) / "rows.jsonl"
        words = [sys.executable, "-m", "benchmarks", case.name, "--into", str(into), "--minutes", str(options.minutes)]
        words += [] if options.rounds is None else ["--rounds", str(options.rounds)]
        words += ["--quick"] if options.quick else []
        words += [word for scan in options.scans for word in ("--scan", str(scan))]
        words += [word for name, value in options.given for word in ("--given", f"{name}={value}")]
        words += [] if options.data is None else ["--data", str(options.data)]
        words += [] if options.work is None else ["--work", str(options.work)]
        code = subprocess.run(words, check=False).returncode
        lines = into.read_text().splitlines() if into.is_file() else []
    if code:
        print(f"{case.name} FAILED with exit code {code}")
    return {"failed": code != 0, "rows": [json.loads(line) for line in lines]}


def _measure(case: Case, options: Options, into: Path) -> int:
    import torch

    torch.set_num_threads(THREADS)
    with into.open("w") as rows:
        for row in case.rows(options):
            print(f"  {row.line(judged=not options.quick)}", flush=True)
            print(json.dumps(row.to_json()), file=rows, flush=True)
    return 0


def _is_fine(rows: Sequence[dict[str, Any]], options: Options) -> bool:
    """Nothing differs, and where sizes are full no target was missed."""
    return all(row.get("equal", True) and (options.quick or row.get("met", True)) for row in rows)


def write_result(found: dict[str, dict[str, Any]], options: Options, out: Path) -> Path:
    """Write what was found, with what it depends on; a second result of a day does not replace the first.

    Returns:
        ``out/<machine>/<date>.json``, or ``<date>-2.json`` and so on.
    """
    now = datetime.now(UTC)
    folder = out / slug(cpu_model(), usable_cores())
    result = {
        "format": FORMAT,
        "date": now.isoformat(timespec="seconds"),
        "machine": machine(),
        "threads": THREADS,
        "quick": options.quick,
        "cases": found,
    }
    names = (f"{now:%Y-%m-%d}{f'-{number}' if number > 1 else ''}.json" for number in range(1, 1000))
    path = next(folder / name for name in names if not (folder / name).exists())
    write_atomic(path, json.dumps(result, indent=1).encode() + b"\n")
    return path
