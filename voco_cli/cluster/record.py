"""What was submitted, and how it stands: from what jobs and runs write, never from SLURM's accounting.

``submitted.jsonl`` has one line a job. A job writes ``ID.state`` beside it: ``running`` when it starts, its exit code
when it ends (``ID_I.state`` for part I of an array). Step and loss are those of the run folder.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from voco_cli.config import read_saved
from voco_cli.config.stages import STAGES
from voco_cli.errors import DataError, Interrupted, ResourceError, UsageError
from voco_cli.training.loggers import read_metrics
from voco_cli.training.run_dir import RunFolder

LIST = "submitted.jsonl"
RUNNING = "running"
IN_TRAINING = ("preparing", RUNNING)


@dataclass(frozen=True)
class Submitted:
    """One job that was submitted.

    Attributes:
        job: its number in SLURM, or ``local-N`` of what ran without.
        command: its words without ``voco``.
        cwd: where it runs.
        run: the run folder of a training.
        processes: that train as one.
        shards: parts of an array; 0 where it is none.
        sent: when, as ISO 8601.
    """

    job: str
    command: tuple[str, ...]
    cwd: str
    run: str | None
    processes: int
    shards: int
    sent: str


@dataclass(frozen=True)
class Standing:
    """How a job stands.

    Attributes:
        state: in words.
        step, steps: of a training, done and in all.
        loss: that was written last.
        left: about how long the steps that are left will take.
        seen_s: when it last wrote anything, seconds since 1970.
    """

    state: str
    step: int | None = None
    steps: int | None = None
    loss: float | None = None
    left: timedelta | None = None
    seen_s: float | None = None


def remember(submitted: Submitted, folder: Path) -> None:
    """Add a job to those that were submitted.

    Raises:
        ResourceError: the file cannot be written to.
    """
    line = json.dumps(asdict(submitted)) + "\n"
    try:
        with (folder / LIST).open("a", encoding="utf-8") as lines:
            lines.write(line)
            lines.flush()
            os.fsync(lines.fileno())
    except OSError as error:
        raise ResourceError(
            f"Job {submitted.job} was sent, but cannot be remembered in {folder / LIST}: {error.strerror}."
        ) from error


def read_submitted(folder: Path) -> list[Submitted]:
    """Return what was submitted with this folder, in that order.

    Raises:
        DataError: nothing was, or a line is damaged.
    """
    try:
        lines = (folder / LIST).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        raise DataError(
            f"{folder} holds no {LIST}: nothing was submitted with it.", "give the folder of voco submit --folder"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{folder / LIST} cannot be read: {error}.") from error
    return [_parsed(line, f"{folder / LIST}:{number}") for number, line in enumerate(lines, 1) if line.strip()]


def _parsed(line: str, place: str) -> Submitted:
    try:
        held = json.loads(line)
        found = Submitted(**{**held, "command": tuple(map(str, held["command"]))})
        if not all(isinstance(value, str) for value in (found.job, found.cwd, found.sent, found.run or "")):
            raise TypeError("a text is none")
        if not found.job.replace("local-", "").isdecimal():
            raise ValueError("a job is a number")
        return Submitted(**{**asdict(found), "processes": int(found.processes), "shards": int(found.shards)})
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise DataError(f"{place} is no job that voco submit has written.", "remove the line") from error


def standing(submitted: Submitted, folder: Path) -> Standing:
    """Return how a job stands, from the files that it wrote."""
    if submitted.shards:
        return _of_array(submitted, folder)
    file = folder / f"{submitted.job}.state"
    word, seen_s = _read_state(file)
    state = _in_words(word)
    if submitted.run is None:
        return Standing(state, seen_s=seen_s)
    run = _at_work(RunFolder(Path(submitted.cwd, submitted.run)))
    written_s = _changed_s(run.state_file)
    status = str(run.read_state().get("status"))
    if word == RUNNING and seen_s is not None and written_s is not None and written_s >= seen_s:
        state = status  # of this very start; an older one tells of the start before
    return _of_training(state, run, submitted.processes, max((s for s in (seen_s, written_s) if s), default=None))


def _of_array(submitted: Submitted, folder: Path) -> Standing:
    parts = [_read_state(folder / f"{submitted.job}_{part}.state") for part in range(1, submitted.shards + 1)]
    states = [_in_words(word) for word, _ in parts]
    counts = [f"{states.count(state)} {state}" for state in dict.fromkeys(sorted(states))]
    seen_s = max((seen_s for _, seen_s in parts if seen_s is not None), default=None)
    return Standing(f"of {submitted.shards} parts {', '.join(counts)}", seen_s=seen_s)


def _of_training(state: str, run: RunFolder, processes: int, seen_s: float | None) -> Standing:
    """Return how far a training is."""
    last = {record["step"]: record for record in _losses(run)}
    held_step = run.read_state().get("step")
    step = max(last, default=held_step if isinstance(held_step, int) else None)
    if not run.settings_file.is_file():
        return Standing(state, step, seen_s=seen_s)
    try:
        train = read_saved(run.settings_file).train
    except UsageError:  # damaged; what is known without it is told
        return Standing(state, step, seen_s=seen_s)
    steps, of_step = train.steps, train.batch_size * train.accumulate * processes
    record = last.get(step, {}) if step is not None else {}
    rate = record.get("cases_per_s")
    left = None
    if state in IN_TRAINING and step is not None and isinstance(rate, float) and rate > 0:
        left = timedelta(seconds=round((steps - step) * of_step / rate))
    seen_s = max((s for s in (seen_s, _changed_s(run.metrics_file)) if s), default=None)
    return Standing(state, step, steps, record.get("loss"), left, seen_s)


def _losses(run: RunFolder) -> list[dict[str, Any]]:
    return [
        record
        for record in read_metrics(run.metrics_file)
        if record.get("split") == "train" and type(record.get("step")) is int and isinstance(record.get("loss"), float)
    ]


def _at_work(run: RunFolder) -> RunFolder:
    """Return the stage of a run that has written last; the run itself where it has no stages."""
    stages = [RunFolder(path) for path in sorted((run.path / STAGES).glob("*/"))]
    return max([run, *stages], key=lambda one: _changed_s(one.state_file) or 0.0)


def _read_state(file: Path) -> tuple[str, float | None]:
    """Return the word of a state file, empty where there is none yet, and when it was written."""
    try:
        return file.read_text(encoding="utf-8").strip(), file.stat().st_mtime
    except (OSError, UnicodeDecodeError):
        return "", None


def _in_words(word: str) -> str:
    if word == str(Interrupted.exit_code):
        return "interrupted, in the queue again"
    return {"": "waiting", RUNNING: RUNNING, "0": "done"}.get(word, f"failed (exit code {word})")


def _changed_s(file: Path) -> float | None:
    try:
        return file.stat().st_mtime
    except OSError:
        return None


def finished(job: str, folder: Path, state: str | int) -> None:
    """Write how a job stands that SLURM knows nothing of."""
    (folder / f"{job}.state").write_text(f"{state}\n", encoding="utf-8")


def next_local(folder: Path) -> str:
    """Return a name for what runs here, as jobs have numbers."""
    taken = {path.name.partition(".")[0].partition("_")[0] for path in folder.glob("local-*.state")}
    return f"local-{len(taken) + 1}"


def as_dict(submitted: Submitted, found: Standing) -> dict[str, Any]:
    """Return a job and how it stands, for machines; times in seconds."""
    left = None if found.left is None else found.left.total_seconds()
    return {**asdict(submitted), **asdict(found), "left": left}
