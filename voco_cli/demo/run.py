"""`voco demo` without its command line: one stage after the other, and what is known at the end."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from voco_cli.demo.record import DemoRecord, StageTime, read_record, write_record
from voco_cli.demo.scans import LABELLED, write_scans
from voco_cli.demo.settings import PRETRAINING, STUDY
from voco_cli.demo.size import SIZES, Size, Speed, choose_size, expected_s
from voco_cli.demo.stages import DemoPaths, Stage, command_script, demo_stages
from voco_cli.demo.subprocesses import cost_so_far, measure_speed, run_command
from voco_cli.engine.run_folder import RunFolder
from voco_cli.errors import DataError, ResourceError, UsageError
from voco_cli.planning.places import existing_parent
from voco_cli.whole_files import write_whole

MINUTES = 10.0
RUN_BYTES = 60e6
"""What a run of the study leaves on disk: checkpoints, predictions, tables."""
OTHER_BYTES = 150e6
"""Scans, cache, pre-training, pages."""


class DemoWatcher(Protocol):
    """Who is told how a demo goes."""

    def measuring(self) -> AbstractContextManager[object]:
        """The speed of the machine is measured."""

    def chosen(self, record: DemoRecord, expected: float, before: bool) -> None:
        """So much is done, which takes so many seconds; ``before``: an earlier call has chosen it."""

    def generating(self, total: int) -> AbstractContextManager[Callable[[], object]]:
        """Scans are generated; the callable is called after each."""

    def stage_started(self, stage: Stage, number: int, total: int) -> None:
        """A stage begins."""

    def stage_skipped(self, stage: Stage, number: int, total: int) -> None:
        """An earlier call has finished it."""

    def stage_ended(self, stage: Stage, took: StageTime) -> None:
        """A stage is done."""


@dataclass(frozen=True)
class DemoResult:
    """What there is at the end.

    Attributes:
        stages: with what each took.
        verdict: on pre-training, its status and its sentence.
        conclusions: of the study, in its own words.
        peak_bytes: largest footprint of a process.
    """

    paths: DemoPaths
    stages: tuple[tuple[Stage, StageTime], ...]
    verdict: tuple[str, str]
    conclusions: tuple[str, ...]
    peak_bytes: int


def run_demo(
    out: Path,
    minutes: float | None,
    watcher: DemoWatcher,
    *,
    measure: Callable[[], Speed] = measure_speed,
    command: Callable[[str, Sequence[str]], None] = run_command,
) -> DemoResult:
    """Do what is not done yet of a demo.

    Args:
        out: its folder; made where missing.
        minutes: that there are; none is ten, or what an earlier call was given.
        measure: how the speed of the machine is measured.
        command: runs the arguments of `voco` for a stage.
    Raises:
        UsageError: the folder holds something else, or a demo that was started otherwise; too few minutes.
        ResourceError: disk or memory.
        Interrupted: a signal; the same call goes on.
        VocoError: a stage failed.
    """
    paths = DemoPaths(out)
    record = read_record(paths.record)
    if before := record is not None:
        _require_same(record, out, minutes)
    else:
        record = _new_record(out, MINUTES if minutes is None else minutes, watcher, measure)
    stages = demo_stages(out, record.size)
    with RunFolder(out).lock():
        write_record(paths.record, record)
        _write_missing(paths, command_script(stages, Path(record.folder)))
        watcher.chosen(record, expected_s(record.size, record.speed), before)
        for number, stage in enumerate(stages, start=1):
            if _is_done(record, stage):
                watcher.stage_skipped(stage, number, len(stages))
                continue
            _require_same_place(record, out)
            watcher.stage_started(stage, number, len(stages))
            with _timed(record, stage, paths):
                if stage.arguments:
                    command(stage.name, stage.arguments)
                else:
                    _generate(paths, record.size, watcher)
            watcher.stage_ended(stage, record.of(stage.name))
    return _result(paths, record, stages)


def _new_record(out: Path, minutes: float, watcher: DemoWatcher, measure: Callable[[], Speed]) -> DemoRecord:
    _require_empty(out)
    require_room(out)
    with watcher.measuring():
        speed = measure()
    return DemoRecord(minutes, speed, choose_size(minutes, speed), str(out), str(Path.cwd()))


def _write_missing(paths: DemoPaths, script: str) -> None:
    """The settings and the script; what a reader has changed since stays."""
    texts = {paths.pretraining_settings: PRETRAINING, paths.study_settings: STUDY, paths.commands: script}
    for path, text in texts.items():
        if not path.exists():
            write_whole(path, text.encode())


def _generate(paths: DemoPaths, size: Size, watcher: DemoWatcher) -> None:
    with watcher.generating(size.unlabelled + sum(LABELLED.values())) as advance:
        write_scans(paths.scans, size.unlabelled, advance)


@contextmanager
def _timed(record: DemoRecord, stage: Stage, paths: DemoPaths) -> Iterator[None]:
    """Add what a stage takes to the record, also where it is stopped."""
    began_s, before = time.monotonic(), cost_so_far()
    took = record.of(stage.name)
    try:
        yield
        took.done = True
    finally:
        cost = cost_so_far()
        took.seconds = round(took.seconds + time.monotonic() - began_s, 1)
        took.cpu_s = round(took.cpu_s + cost.cpu_s - before.cpu_s, 1)
        record.peak_bytes = max(record.peak_bytes, cost.peak_bytes)
        write_record(paths.record, record)


def _is_done(record: DemoRecord, stage: Stage) -> bool:
    """An earlier call has finished it, and what it left is still there."""
    return record.of(stage.name).done and all(path.exists() for path in stage.wrote)


def _require_empty(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is not a folder.", "choose another --out")
    others = sorted(path.name for path in out.iterdir() if path.name != ".lock") if out.is_dir() else []
    if others:
        raise UsageError(
            f"{out} holds files but no demo ({', '.join(others[:3])}).", "choose another --out, or empty the folder"
        )


def _require_same(record: DemoRecord, out: Path, minutes: float | None) -> None:
    if minutes is not None and minutes != record.minutes:
        raise UsageError(
            f"{out} holds a demo of {record.minutes:g} minutes.",
            f"leave out --minutes to go on with it, or choose another --out for one of {minutes:g}",
        )


def _require_same_place(record: DemoRecord, out: Path) -> None:
    """The commands name weights and runs by these paths; by others they would be taken for others."""
    if (str(out), str(Path.cwd())) != (record.out, record.folder):
        raise UsageError(
            f"The demo in {out} was started in {record.folder} with --out {record.out}.", "go on with it from there"
        )


def require_room(out: Path) -> None:
    """Refuse to begin what the disk cannot hold.

    Raises:
        ResourceError: too little is free.
    """
    needed = OTHER_BYTES + 2 * SIZES[-1].seeds * RUN_BYTES
    there = existing_parent(out)
    free = shutil.disk_usage(there).free
    if free < needed:
        raise ResourceError(
            f"The demo may need {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free below {there}.",
            "free some space, or choose another --out",
        )


def _result(paths: DemoPaths, record: DemoRecord, stages: list[Stage]) -> DemoResult:
    verdict = _read(paths.encoder)["verdict"]
    took = tuple((stage, record.of(stage.name)) for stage in stages)
    return DemoResult(
        paths,
        took,
        (verdict["status"], verdict["sentence"]),
        tuple(_read(paths.study_record)["conclusions"]),
        record.peak_bytes,
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        held: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}.", "remove it and give the same command again") from error
    return held
