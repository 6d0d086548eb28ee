"""How long a user waits: for each command that builds no network, and from ``voco pretrain`` to its first step.

The cache of the latter is there.

CPU seconds, in which waiting for a core does not count; neighbours that use caches and memory make them more all the
same. The clock of an idle machine shows a little less, for two threads at work.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.alone import Alone, run_alone
from benchmarks.commands import command_rows
from benchmarks.registry import Options
from benchmarks.rows import Figure, Row

START_LIMIT_S = 15.0
SCANS = 12
RECIPES = {"debug": ("train.steps=1", "health.cases=2"), "cvpr": ("train.steps=1", "train.batch_size=1")}
"""What is run of each recipe: one step, on a CPU."""


def rows(options: Options) -> Iterator[Row]:
    """The start of a run on twelve generated scans, then the commands around it."""
    rounds = options.rounds_or(5)
    with tempfile.TemporaryDirectory(prefix="voco-benchmarks-") as name:
        folder = Path(name)
        data = write_scans(folder, SCANS)
        for recipe in ("debug",) if options.quick else RECIPES:
            build_cache(data, recipe)
            starts = [start(data, recipe, folder / f"{recipe}-{i}") for i in range(min(rounds, 3))]
            seconds = [one.import_s + one.result for one in starts]
            yield Figure(f"voco pretrain --recipe {recipe}, to the loop", "CPU s", seconds, START_LIMIT_S)
            if recipe == "debug":
                seconds = [one.import_s + one.cpu_s for one in starts]
                yield Figure("voco pretrain --recipe debug, a run of one step", "CPU s", seconds, START_LIMIT_S)
                yield from command_rows(folder, next((folder / "scans").rglob("*.nii.gz")), folder / "debug-0", rounds)


def write_scans(folder: Path, count: int) -> Path:
    """Generated scans and their data.json, which is returned."""
    from voco_cli.data.index.build import IndexOptions, build_index
    from voco_cli.data.index.datalist_file import write_datalist
    from voco_cli.data.synthetic.generate import write_cts

    write_cts(folder / "scans", count, 0)
    data = folder / "data.json"
    write_datalist(build_index([folder / "scans"], data, IndexOptions(workers=1)), data)
    return data


def build_cache(data: Path, recipe: str) -> None:
    """What a run would build first; how long that takes is not asked here."""
    from voco_cli.config import load_settings
    from voco_cli.data.cache.store import VolumeCache, cache_folder
    from voco_cli.data.index.datalist_file import read_datalist

    settings = load_settings(recipe, None, (), {"data.file": data}).settings
    entries = [entry for _, entry in read_datalist(data).entries()]
    VolumeCache(cache_folder(data, settings.cache), settings.preprocess, settings.cache).build(entries)


def start(data: Path, recipe: str, run: Path) -> Alone:
    """A run in a process of its own; its result is the CPU seconds until the loop began."""
    return run_alone("benchmarks.startup:pretrain_until", str(data), recipe, str(run), list(RECIPES[recipe]))


def pretrain_until(data: str, recipe: str, run: str, overrides: list[str]) -> float:
    """Pre-train; with the large recipe only until the loop begins, for its first step is computing and no waiting."""
    import time

    begun = time.process_time()
    from voco_cli.config import load_settings
    from voco_cli.training.callbacks import Callback
    from voco_cli.workflows.pretrain import run_pretraining

    class ReachedError(Exception):
        """The loop is about to begin."""

    class Clock(Callback):
        """Notes when the loop begins."""

        taken = 0.0

        def started(self, step: int, steps: int) -> None:
            """Everything is ready."""
            self.taken = time.process_time() - begun
            if recipe != "debug":
                raise ReachedError

    flags = {"data.file": Path(data), "run.dir": Path(run), "run.device": "cpu", "run.threads": 1}
    clock = Clock()
    try:
        run_pretraining(load_settings(recipe, None, tuple(overrides), flags), clock)
    except ReachedError:
        return clock.taken
    return clock.taken
