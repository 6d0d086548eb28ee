"""Experiments of several arms and seeds by the product's own commands, in a folder that remembers what is finished."""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.registry import Options
from voco_cli.atomic_files import write_atomic
from voco_cli.evaluate.read_results import read_results
from voco_cli.evaluate.segmentation.results import Evaluation
from voco_cli.evaluate.segmentation.table import ResultTable
from voco_cli.evaluate.tables import figure, interval
from voco_cli.study.analysis import METRICS, LabelEfficiency, ScoredRun, label_efficiency

ONE_THREAD = ("run.device=cpu", "run.threads=1", "data.workers=0", "cache.workers=1")
"""Settings of every run."""
NEEDS_WORK = "it trains for most of an hour, and needs --work DIR to keep its runs; the same command then goes on"


@contextmanager
def workplace(options: Options, case: str) -> Iterator[Path]:
    """The folder of a case below ``--work``; a temporary one where it must only be quick."""
    if options.work is not None:
        yield options.work / case
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / case


class Experiment:
    """A folder, what in it is finished, and the CPU seconds that it took.

    Args:
        folder: made where missing.
        sizes: of the experiment; all that was done before was done with these.
    Raises:
        ValueError: it was begun with other sizes.
    """

    def __init__(self, folder: Path, sizes: Mapping[str, Any]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.record = folder.resolve(), folder.resolve() / "done.json"
        self.sizes: dict[str, Any] = json.loads(json.dumps(sizes))
        held = json.loads(self.record.read_text()) if self.record.is_file() else {"sizes": self.sizes, "cpu_s": {}}
        if held["sizes"] != self.sizes:
            raise ValueError(f"{folder} was begun with other sizes: {held['sizes']}; empty it or choose another --work")
        self.cpu_s: dict[str, float] = held["cpu_s"]

    def once(self, name: str, do: Callable[..., None], *given: Any) -> None:
        """Do, with what it is given, what no earlier call has finished."""
        if name in self.cpu_s:
            return
        before = _cpu_s()
        do(*given)
        self.cpu_s[name] = round(_cpu_s() - before, 1)
        write_atomic(self.record, json.dumps({"sizes": self.sizes, "cpu_s": self.cpu_s}, indent=1).encode())
        print(f"  {name}: {self.cpu_s[name]:.0f} CPU s", flush=True)

    def voco(self, *arguments: str) -> None:
        """Run a command in the folder, on one thread; all that it says goes to ``commands.log``.

        Raises:
            RuntimeError: it failed.
        """
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "voco_cli", *arguments, "--quiet"]
        said = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)
        with (self.folder / "commands.log").open("a") as log:
            log.write(f"$ voco {' '.join(arguments)}\n{said.stdout}{said.stderr}\n")
        if said.returncode:
            raise RuntimeError(f"voco {' '.join(arguments)}: {said.stderr.strip()[-500:]}")

    def cpu_s_of(self, runs: Sequence[str]) -> float:
        """Return the median CPU seconds of runs: one that was stopped and went on counts its last part alone."""
        return statistics.median(self.cpu_s[run] for run in runs)

    def evaluation(self, run: str) -> Evaluation:
        """Return what `voco evaluate` measured of a run on its test split."""
        found = read_results(self.folder / run / "evaluation" / "test")
        assert isinstance(found, Evaluation)
        return found

    def write_table(self, text: str) -> Path:
        """Write ``table.md``."""
        path = self.folder / "table.md"
        write_atomic(path, text.encode())
        return path


def _cpu_s() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def settings(*values: str) -> list[str]:
    """Return ``--set`` before each."""
    return [word for value in values for word in ("--set", value)]


def of_structures(table: ResultTable, names: Sequence[str]) -> ResultTable:
    """Return the columns of some structures, in the table's order."""
    columns = [c for c, one in enumerate(table.structures) if one.name in names]
    return replace(
        table,
        structures=tuple(table.structures[c] for c in columns),
        values_NCM=table.values_NCM[:, columns],
        states=tuple(tuple(row[c] for c in columns) for row in table.states),
        volumes_NC2=table.volumes_NC2[:, columns],
    )


def of_cases(table: ResultTable, begins: str) -> ResultTable:
    """Return the rows of cases whose names begin so."""
    rows = [n for n, case in enumerate(table.cases) if case.startswith(begins)]
    return replace(
        table,
        cases=tuple(table.cases[n] for n in rows),
        patients=tuple(table.patients[n] for n in rows),
        values_NCM=table.values_NCM[rows],
        states=tuple(table.states[n] for n in rows),
        volumes_NC2=table.volumes_NC2[rows],
    )


def compare_arms(tables: Mapping[str, Sequence[ResultTable]]) -> LabelEfficiency:
    """Score arms by their Dice and compare all with the first, paired by seed and case, as a study does.

    Args:
        tables: arm to the results of each seed; all have the same cases and structures.
    """
    first = next(iter(tables.values()))[0]
    runs = [
        ScoredRun(arm, 0, seed, table.like(first))
        for arm, of_seed in tables.items()
        for seed, table in enumerate(of_seed)
    ]
    return label_efficiency(runs, METRICS["segmentation"], baseline=next(iter(tables)))


def comparison_cells(found: LabelEfficiency) -> dict[str, list[str]]:
    """Return for each arm its score with the deviation over seeds, its difference to the first, and better cases."""
    gains = {one.run: one for one in found.gains}
    cells = {}
    for score in found.scores:
        gain = gains.get(score.arm)
        compared = ["-", "-", "-"]
        if gain is not None:
            seeds = sum(one > 0 for one in gain.seed_differences)
            compared = [
                f"{figure(gain.difference, sign=True)} {interval(gain.low, gain.high, sign=True)}",
                f"{seeds} of {len(gain.seeds)}",
                f"{gain.better} of {gain.cases}",
            ]
        cells[score.arm] = [f"{figure(score.mean)} ± {figure(score.sd)}", *compared]
    return cells


def comparison_headings(baseline: str, what: str) -> list[str]:
    """Return what stands over `comparison_cells`, behind the arm."""
    return [f"{what} ± sd over seeds", f"difference to {baseline} [95 %]", "seeds better", "cases better"]
