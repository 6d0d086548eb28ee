"""`voco demo` without its command line: one stage after the other, and what is known at the end."""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from voco_cli.atomic_files import write_atomic
from voco_cli.demo.stages import (
    LABELLED,
    PRETRAINING,
    STUDY,
    UNLABELLED,
    DemoPaths,
    Stage,
    command_script,
    demo_stages,
    write_scans,
)
from voco_cli.errors import DataError, Interrupted, ResourceError, UsageError, VocoError
from voco_cli.operating_system import cost_so_far
from voco_cli.resources.sampling import existing_parent
from voco_cli.training.run_dir import RunFolder

FORMAT = "voco-demo/2"
NEEDED_BYTES = 600e6
"""What a demo leaves on disk, with room to spare."""


@dataclass
class StageTime:
    """What a stage took, over all calls.

    Attributes:
        seconds: by the clock.
        cpu_s: of all its processes.
        peak_bytes: largest footprint of a process up to its end.
    """

    seconds: float = 0.0
    cpu_s: float = 0.0
    peak_bytes: int = 0
    done: bool = False


class DemoCallback(Protocol):
    """Who is told how a demo goes."""

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
    """

    paths: DemoPaths
    stages: tuple[tuple[Stage, StageTime], ...]
    verdict: tuple[str, str]
    conclusions: tuple[str, ...]


def run_demo(out: Path, callback: DemoCallback, command: Callable[[Sequence[str]], int]) -> DemoResult:
    """Do what is not done yet of a demo.

    Args:
        out: its folder; made where missing.
        command: runs `voco` with these arguments, and returns its exit code.
    Raises:
        UsageError: the folder holds something else.
        ResourceError: disk or memory.
        Interrupted: a signal; the same call goes on.
        VocoError: a stage failed.
    """
    paths = DemoPaths(out)
    stages = demo_stages(out)
    took = _read_times(paths.record)
    if took is None:
        require_empty(out)
        require_room(out)
        took = {}
    times = {stage.name: took.get(stage.name, StageTime()) for stage in stages}
    with RunFolder(out).lock():
        _write_times(paths.record, times)
        _write_missing(paths, command_script(stages, Path.cwd()))
        for number, stage in enumerate(stages, start=1):
            one = times[stage.name]
            if one.done and all(path.exists() for path in stage.wrote):
                callback.stage_skipped(stage, number, len(stages))
                continue
            callback.stage_started(stage, number, len(stages))
            try:
                with _timed(one):
                    _run_stage(stage, paths, callback, command)
            finally:
                _write_times(paths.record, times)
            callback.stage_ended(stage, one)
    verdict = _read(paths.encoder)["verdict"]
    conclusions = tuple(_read(paths.study_record)["conclusions"])
    return DemoResult(
        paths,
        tuple((stage, times[stage.name]) for stage in stages),
        (verdict["status"], verdict["sentence"]),
        conclusions,
    )


def _run_stage(stage: Stage, paths: DemoPaths, callback: DemoCallback, command: Callable[[Sequence[str]], int]) -> None:
    try:
        if not stage.arguments:
            with callback.generating(UNLABELLED + sum(LABELLED.values())) as advance:
                write_scans(paths.scans, UNLABELLED, advance)
            return
        code = command(stage.arguments)
    except KeyboardInterrupt:
        code = Interrupted.exit_code
    if code in (Interrupted.exit_code, 128 + signal.SIGINT, 128 + signal.SIGTERM):
        raise Interrupted(f"The demo was stopped in its stage {stage.name}.", "the same command goes on")
    if code:
        error = VocoError(
            f"The stage {stage.name} ended with exit code {code}; why is said above.",
            "once that is mended, the same command goes on",
        )
        error.exit_code = code
        raise error


def _write_missing(paths: DemoPaths, script: str) -> None:
    """Write the settings and the script; what a reader has changed since stays."""
    texts = {paths.pretraining_settings: PRETRAINING, paths.study_settings: STUDY, paths.commands: script}
    for path, text in texts.items():
        if not path.exists():
            write_atomic(path, text.encode())


@contextmanager
def _timed(took: StageTime) -> Iterator[None]:
    """Add what a stage takes, also where it is stopped."""
    began_s, (before_s, _) = time.monotonic(), cost_so_far()
    try:
        yield
        took.done = True
    finally:
        cpu_s, took.peak_bytes = cost_so_far()
        took.seconds = round(took.seconds + time.monotonic() - began_s, 1)
        took.cpu_s = round(took.cpu_s + cpu_s - before_s, 1)


def _write_times(path: Path, times: dict[str, StageTime]) -> None:
    """Write demo.json, by which the same command goes on."""
    held = {"format": FORMAT, "stages": {name: asdict(took) for name, took in times.items()}}
    write_atomic(path, (json.dumps(held, indent=1) + "\n").encode())


def _read_times(path: Path) -> dict[str, StageTime] | None:
    """Return what demo.json says of each stage; None where there is no such file.

    Raises:
        DataError: the file is damaged, or of another version.
    """
    try:
        held = json.loads(path.read_bytes())
        if held["format"] != FORMAT:
            raise DataError(f"{path} has the format {held['format']!r}, not {FORMAT!r}.", "choose another --out")
        return {name: StageTime(**one) for name, one in held["stages"].items()}
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is damaged: {error!r}.", "choose another --out, or remove the folder") from error


def require_empty(out: Path) -> None:
    """Raise where a folder holds something that is no demo.

    Raises:
        UsageError: it does, or it is no folder.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is not a folder.", "choose another --out")
    others = sorted(path.name for path in out.iterdir() if path.name != ".lock") if out.is_dir() else []
    if others:
        raise UsageError(
            f"{out} holds files but no demo ({', '.join(others[:3])}).", "choose another --out, or empty the folder"
        )


def require_room(out: Path) -> None:
    """Raise where the disk cannot hold a demo.

    Raises:
        ResourceError: too little is free.
    """
    there = existing_parent(out)
    free = shutil.disk_usage(there).free
    if free < NEEDED_BYTES:
        raise ResourceError(
            f"The demo may need {NEEDED_BYTES / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free below {there}.",
            "free some space, or choose another --out",
        )


def _read(path: Path) -> dict[str, Any]:
    try:
        held: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}.", "remove it and give the same command again") from error
    return held
