"""The run folder: who may use it, what it was started with, and how it ended."""

from __future__ import annotations

import json
import os
import platform
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from voco_cli import __version__
from voco_cli.atomic_files import UNFINISHED, write_atomic
from voco_cli.config import Resolved, Settings, read_saved
from voco_cli.config.load import leaves, saved_file
from voco_cli.config.stages import STAGES
from voco_cli.errors import Interrupted, ResourceError, UsageError, VocoError
from voco_cli.operating_system import locked
from voco_cli.training.errors import translate_errors

FREE_TO_CHANGE = (
    "recipe",
    "task.preset",
    "task.table",
    "task.public_set",
    "run.dir",
    "run.device",
    "run.keep_memory",
    "run.loggers",
    "run.threads",
    "data.file",
    "data.root",
    "data.workers",
    "data.prefetch",
    "data.scratch_gb",
    "data.scratch_dir",
    "cache.dir",
    "cache.codec",
    "cache.block_vox",
    "cache.chunk_vox",
    "cache.level",
    "cache.workers",
    "train.keep_checkpoints",
    "model.trust_pickle",
    "model.weights_collection",
    "predict.window_batch",
    "predict.suffix",
    "evaluate.tolerance_mm",
    "evaluate.empty",
    "evaluate.resamples",
)
"""Settings that leave the weights as they are.

Recipe and preset are names for other settings, which are compared one by one; data and a table of categories are
compared by what they list, and cache.codec is lossless.
"""
PREPARING = "preparing"
STATUSES = (PREPARING, "running", "done", "interrupted", "failed")


class RunFolder:
    """Names and small files of a run folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.settings_file = path / "settings.yaml"
        self.data_file = path / "data.json"
        self.metrics_file = path / "metrics.jsonl"
        self.state_file = path / "state.json"
        self.contents_file = path / "contents.json"
        self.tensorboard = path / "tensorboard"
        self.checkpoints = path / "checkpoints"
        self.weights = path / "weights"
        self.pictures = path / "figures" / "validation"
        self.objective_file = path / "objective.json"
        self.weights_report = path / "weights_report.json"

    def is_started(self) -> bool:
        """Return whether training has begun here; what ended before its first step leaves nothing to protect."""
        if not self.settings_file.is_file():
            return False
        state = self.read_state()
        at_work = state.get("status") in ("running", "done") or state.get("step") != 0
        return (bool(state) and at_work) or self.has_checkpoints()

    def has_checkpoints(self) -> bool:
        """Return whether there is a checkpoint to go on from."""
        return any(self.checkpoints.glob("step-*"))

    def create(self, resolved: Resolved) -> None:
        """Make the folder and keep the settings with their sources and versions.

        The state is the first file: whatever follows it, a kill leaves a folder that is known for a run's.

        Raises:
            UsageError: the folder holds something else.
            ResourceError: the disk is full.
        """
        items = [path.name for path in self.path.iterdir()] if self.path.is_dir() else []
        own = (".lock", STAGES)
        others = sorted(name for name in items if name not in own and not name.startswith(UNFINISHED))
        if others and self.read_state().get("status") not in STATUSES:
            raise UsageError(
                f"{self.path} holds files but no run ({', '.join(others[:3])}).",
                "choose another run.dir, or empty the folder",
            )
        self.write_state(PREPARING, 0)
        self._remove_beginning()
        self._write(self.settings_file, saved_file(resolved, versions()))
        self.checkpoints.mkdir(parents=True, exist_ok=True)

    def _remove_beginning(self) -> None:
        """Remove what a run wrote that ended before its first step; the next may have other settings."""
        written = [*self.pictures.glob("step-*.png"), *self.tensorboard.glob("events.out.tfevents.*")]
        for path in (*written, self.metrics_file, self.weights_report, self.contents_file, self.objective_file):
            path.unlink(missing_ok=True)

    def refuse_other_settings(self, settings: Settings) -> None:
        """Refuse what `check_same_settings` refuses, of a run that has begun; nothing where none has.

        Raises:
            UsageError: as `check_same_settings`.
        """
        if self.is_started():
            self.check_same_settings(settings)

    def check_same_settings(self, settings: Settings) -> None:
        """Refuse to go on with other settings than the run began with.

        Starting weights and files of cases are compared by their content, elsewhere.

        Raises:
            UsageError: it is a run of another kind; else with the differences, one a line.
        """
        before, now = dict(leaves(read_saved(self.settings_file))), dict(leaves(settings))
        task = before.get("task.preset")
        if (task is None) != (now["task.preset"] is None):
            held = "a pre-training" if task is None else f"a fine-tuning for the task {task}"
            raise UsageError(f"{self.path} holds {held}.", "choose another run.dir for this run")
        changed = [
            key
            for key in now
            if key not in FREE_TO_CHANGE and before.get(key) != now[key] and not is_file_spelled(key, before, now)
        ]
        if changed:
            lines = "\n".join(f"  {key}: {before.get(key)} -> {now[key]}" for key in changed)
            raise UsageError(f"{self.path} was started with other settings:\n{lines}", self._way_on(before, changed))

    def _way_on(self, before: Mapping[str, Any], changed: Sequence[str]) -> str:
        """Say how to go on with the old settings, or to begin anew; and how to train longer, which no run can."""
        if changed == ["train.steps"]:
            options = shlex.join(["--weights", str(self.path), "-o", f"{self.path}-longer"])
            return (
                f"the learning rate follows the number of steps, which stays: the same command with `{options}` "
                f"trains on from these weights in a folder of its own"
            )
        old = " ".join(_option(key, before.get(key)) for key in changed)
        return f"the old settings resume it: `{old}`; another folder (-o) starts anew"

    def update_settings(self, resolved: Resolved) -> None:
        """Keep the settings as they are given now, where they differ in what is free to change.

        Raises:
            ResourceError: the disk is full.
        """
        if read_saved(self.settings_file) != resolved.settings:
            self._write(self.settings_file, saved_file(resolved, versions()))

    def remove_unfinished(self) -> None:
        """Remove files that killed processes left half-written; only for the one process that holds the lock."""
        for path in self.path.rglob(f"{UNFINISHED}*"):
            if path.is_file():
                path.unlink()

    def write_state(self, status: str, step: int, reason: str | None = None) -> None:
        """Keep how the run stands: preparing, running, done, interrupted or failed."""
        state = {"status": status, "step": step, "reason": reason, "time": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
        self._write(self.state_file, json.dumps(state, indent=1) + "\n")

    def write_weights_report(self, report: Mapping[str, Any]) -> None:
        """Keep what became of each tensor of the weights that the run started from."""
        self._write(self.weights_report, json.dumps(report, indent=1) + "\n")

    def write_objective(self, title: str, figures: Mapping[str, Any]) -> None:
        """Keep what is learned, and what each held-out figure means: readers of the run need no more of the method."""
        held = {"title": title, "figures": {name: asdict(info) for name, info in figures.items()}}
        self._write(self.objective_file, json.dumps(held, indent=1) + "\n")

    def _write(self, file: Path, text: str) -> None:
        """Write a file of the folder, whole or not at all; a full disk is a ResourceError."""
        with translate_errors(self.path, f"{file.name} could not be written"):
            write_atomic(file, text.encode())

    def read_state(self) -> Mapping[str, Any]:
        """Return the last state, or an empty one."""
        try:
            state = json.loads(self.state_file.read_bytes())
        except (OSError, ValueError, RecursionError):
            return {}
        return state if isinstance(state, dict) else {}

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep a second process out.

        Raises:
            UsageError: another process is at work here, or this is no folder that can be written to.
            ResourceError: the disk does not allow it.
        """
        with ExitStack() as stack:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                stack.enter_context(locked(self.path / ".lock"))
            except (BlockingIOError, PermissionError, FileExistsError, NotADirectoryError) as error:
                raise self._refusal(error) from error
            except OSError as error:
                raise ResourceError(f"{self.path} cannot be used as a run folder: {error.strerror}.") from error
            try:
                yield
            except BaseException as error:
                self._write_end_of_preparation(error)
                raise

    def _write_end_of_preparation(self, error: BaseException) -> None:
        """Keep why a run ended before its first step; what ends it later is written by the loop."""
        if self.read_state().get("status") != PREPARING:
            return
        stopped = isinstance(error, Interrupted | KeyboardInterrupt)
        reason = error.message if isinstance(error, VocoError) else type(error).__name__
        with suppress(ResourceError, OSError):  # what is being reported may be that nothing can be written
            self.write_state("interrupted" if stopped else "failed", 0, None if stopped else reason)

    def _refusal(self, error: OSError) -> UsageError:
        if isinstance(error, BlockingIOError):
            return UsageError(f"Another process is at work in {self.path}.", "wait for it or stop it")
        if isinstance(error, PermissionError):
            return UsageError(f"{self.path} may not be written to.", "choose another run.dir")
        return UsageError(f"{self.path} is not a folder.", "choose another run.dir")


def is_file_spelled(key: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Return whether a setting names a file both times, compared by its content then: weights, a split of cases."""
    values = (before.get(key), now.get(key))
    if key == "model.weights":
        return None not in values
    return key == "task.split" and all(str(value).endswith(".json") for value in values)


OWN_OPTIONS = {"train.steps": "--steps", "model.weights": "--weights", "task.preset": "--task"}
"""Settings that every command of a run has an option for."""


def _option(key: str, value: Any) -> str:
    """Return an option that gives a setting this value, as one may type it."""
    if key in OWN_OPTIONS and value is not None:
        return shlex.join([OWN_OPTIONS[key], str(value)])
    plain = json.dumps(value, default=_plain, ensure_ascii=False)
    return shlex.join(["--set", f"{key}={value if isinstance(value, str) else plain}"])


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else str(value)


def versions() -> dict[str, str]:
    """Return what a run runs with."""
    packages = ("torch", "monai", "accelerate", "numpy", "blosc2", "SimpleITK")
    return {
        "voco": __version__,
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in packages},
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    }
