"""The run folder: who may use it, what it was started with, and how it ended."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from voco_cli import __version__
from voco_cli.atomic_files import UNFINISHED, write_atomic
from voco_cli.config import Resolved, Settings, read_saved
from voco_cli.config.load import leaves, saved_file
from voco_cli.config.schema import Model
from voco_cli.data.cache.volume import StoredVolume
from voco_cli.data.index.datalist import SPLITS, Datalist
from voco_cli.data.index.datalist_file import read_datalist, write_datalist
from voco_cli.data.index.intensity import Judge, judge_by_values
from voco_cli.errors import DataError, Interrupted, ResourceError, UsageError, VocoError
from voco_cli.models.weights.read import find_file
from voco_cli.operating_system import locked
from voco_cli.training.distributed import translate_errors

FREE_TO_CHANGE = (
    "recipe",
    "task.preset",
    "task.table",
    "run.dir",
    "run.device",
    "run.keep_memory",
    "run.threads",
    "data.file",
    "data.root",
    "data.workers",
    "data.prefetch",
    "cache.dir",
    "cache.codec",
    "cache.block_vox",
    "cache.chunk_vox",
    "cache.level",
    "cache.workers",
    "train.keep_checkpoints",
    "model.trust_pickle",
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
    """Names and small files of a run folder (design section 6)."""

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
        self.location = path / "figures" / "location"
        self.weights_report = path / "weights_report.json"

    def is_started(self) -> bool:
        """Whether training has begun here; what ended before its first step leaves nothing to protect."""
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
        others = sorted(name for name in items if name != ".lock" and not name.startswith(UNFINISHED))
        if others and self.read_state().get("status") not in STATUSES:
            raise UsageError(
                f"{self.path} holds files but no run ({', '.join(others[:3])}).",
                "choose another run.dir, or empty the folder",
            )
        self.write_state(PREPARING, 0)
        self._remove_beginning()
        with translate_errors(self.path, f"{self.settings_file.name} could not be written"):
            write_atomic(self.settings_file, saved_file(resolved, versions()).encode())
        self.checkpoints.mkdir(parents=True, exist_ok=True)

    def _remove_beginning(self) -> None:
        """Remove what a run wrote that ended before its first step; the next may have other settings."""
        pictures = self.location.glob("step-*.png")
        events = self.tensorboard.glob("events.out.tfevents.*")
        for path in (*pictures, *events, self.metrics_file, self.weights_report, self.contents_file):
            path.unlink(missing_ok=True)

    def refuse_other_settings(self, settings: Settings) -> None:
        """What `check_same_settings` refuses, of a run that has begun; nothing where none has.

        Raises:
            UsageError: as `check_same_settings`.
        """
        if self.is_started():
            self.check_same_settings(settings)

    def check_same_settings(self, settings: Settings) -> None:
        """Refuse to go on with other settings than the run began with.

        Whether starting weights and files of cases are others is told by their content, and not here.

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
        """How to go on with the old settings, or to begin anew; and how to train longer, which no run can."""
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
            with translate_errors(self.path, f"{self.settings_file.name} could not be written"):
                write_atomic(self.settings_file, saved_file(resolved, versions()).encode())

    def remove_unfinished(self) -> None:
        """Remove files that killed processes left half-written; only for the one process that holds the lock."""
        for path in self.path.rglob(f"{UNFINISHED}*"):
            if path.is_file():
                path.unlink()

    def write_state(self, status: str, step: int, reason: str | None = None) -> None:
        """Keep how the run stands: preparing, running, done, interrupted or failed."""
        state = {"status": status, "step": step, "reason": reason, "time": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
        with translate_errors(self.path, f"{self.state_file.name} could not be written"):
            write_atomic(self.state_file, (json.dumps(state, indent=1) + "\n").encode())

    def write_weights_report(self, report: Mapping[str, Any]) -> None:
        """Keep what became of each tensor of the weights that the run started from."""
        with translate_errors(self.path, f"{self.weights_report.name} could not be written"):
            write_atomic(self.weights_report, (json.dumps(report, indent=1) + "\n").encode())

    def read_state(self) -> Mapping[str, Any]:
        """The last state, or an empty one."""
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
    """Whether a setting names a file both times, which is then compared by its content: weights, a split of cases."""
    values = (before.get(key), now.get(key))
    if key == "model.weights":
        return None not in values
    return key == "task.split" and all(str(value).endswith(".json") for value in values)


OWN_OPTIONS = {"train.steps": "--steps", "model.weights": "--weights", "task.preset": "--task"}
"""Settings that every command of a run has an option for."""


def _option(key: str, value: Any) -> str:
    """An option that gives a setting this value, as one may type it."""
    if key in OWN_OPTIONS and value is not None:
        return shlex.join([OWN_OPTIONS[key], str(value)])
    plain = json.dumps(value, default=_plain, ensure_ascii=False)
    return shlex.join(["--set", f"{key}={value if isinstance(value, str) else plain}"])


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else str(value)


def versions() -> dict[str, str]:
    """What a run ran with."""
    packages = ("torch", "monai", "accelerate", "numpy", "blosc2", "SimpleITK")
    return {
        "voco": __version__,
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in packages},
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    }


FORMAT = "voco-contents/1"
Scans = Mapping[str, Sequence[str | None]]
"""Split to what tells the content of each of its scans."""


@dataclass(frozen=True)
class Contents:
    """What a run began with.

    Attributes:
        weights: digest of the starting weights; none where it started fresh.
        scans: as training sees them; none until they are known.
    """

    weights: str | None = None
    scans: Scans | None = None


def weights_digest(model: Model) -> str | None:
    """SHA-256 of the file that ``model.weights`` names; none where it names nothing.

    Raises:
        DataError, UsageError: as `find_file`.
    """
    if model.weights is None:
        return None
    path = find_file(model.weights, model.weights_branch)
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error


def scan_content(volumes: Sequence[StoredVolume]) -> str:
    """What tells the channels and the label map of a case from others: hashes of voxels, and the scans' spacing."""
    parts = []
    for volume in volumes:
        spacing_mm = np.linalg.norm(np.asarray(volume.metadata.record.source_affine)[:3, :3], axis=0)
        parts.append(":".join([volume.voxel_hash, *(f"{mm:.3g}" for mm in spacing_mm)]))
    if (label := volumes[0].label_hash) is not None:
        parts.append(label)
    return "/".join(parts)


def read_contents(path: Path) -> Contents:
    """Read what `write_contents` wrote.

    Raises:
        DataError: missing or damaged.
    """
    try:
        held = json.loads(path.read_bytes())
        scans = held["scans"]
        if held["format"] != FORMAT or not isinstance(scans, dict | None):
            raise ValueError(f"it is not of the format {FORMAT}")
        return Contents(held["weights"], scans)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        words = error.strerror if isinstance(error, OSError) else error
        raise DataError(
            f"{path}, which says what the run began with, cannot be read: {words}.", "start anew in another run.dir"
        ) from error


def write_contents(path: Path, contents: Contents) -> None:
    """Write contents.json, whole or not at all.

    Raises:
        ResourceError: the disk is full.
    """
    held: dict[str, Any] = {"format": FORMAT, "weights": contents.weights, "scans": contents.scans}
    with translate_errors(path.parent, f"{path.name} could not be written"):
        write_atomic(path, json.dumps(held, separators=(",", ":")).encode() + b"\n")


MOST_NAMED = 3
ANEW = "or another run.dir to start anew"

Names = Callable[[Datalist], Sequence[tuple[str, str]]]
"""Split and name of each scan: what tells one from another, wherever the files lie."""


def open_run_folder(folder: RunFolder, resolved: Resolved, datalist: Datalist, names: Names) -> None:
    """Start the run folder, or see that it belongs to this very run; before anything takes long.

    Raises:
        UsageError: the folder holds something else, or a run with other settings, weights or scans.
        DataError: weights that are not there.
        ResourceError: the disk is full.
    """
    model = resolved.settings.model
    if not folder.is_started():
        weights = weights_digest(model)
        folder.create(resolved)
        write_datalist(datalist, folder.data_file)
        write_contents(folder.contents_file, Contents(weights))
        return
    folder.check_same_settings(resolved.settings)
    _require_same_weights(folder, resolved.settings)
    _require_same_list(folder, datalist, names)


def settle_run_folder(folder: RunFolder, resolved: Resolved, datalist: Datalist, scans: Scans) -> None:
    """Keep what the scans hold as training sees them; a run that goes on must find what it began with.

    Where it does, the folder then says where data and weights lie now.

    Args:
        scans: of training and validation, in the order of the list.
    Raises:
        UsageError: scans or label maps have changed since the run began, under the same names.
        ResourceError: the disk is full.
    """
    before = read_contents(folder.contents_file)
    if before.scans is None:
        write_contents(folder.contents_file, Contents(before.weights, scans))
        return
    _require_same_content(folder, datalist, before.scans, scans)
    write_datalist(datalist, folder.data_file)
    folder.update_settings(resolved)


def _require_same_weights(folder: RunFolder, settings: Settings) -> None:
    """Starting weights by content; those that are gone are not needed any more, as long as they are the same by name.

    Raises:
        UsageError: other weights.
        DataError: weights of another name that are not there.
    """
    before = read_saved(folder.settings_file).model.weights
    try:
        digest = weights_digest(settings.model)
    except DataError:
        if before == settings.model.weights:
            return
        raise
    if digest != read_contents(folder.contents_file).weights:
        weights = settings.model.weights
        if weights == before:
            what = f"was started from other weights than {weights} holds now"
        else:
            what = f"was started from {before}, and {weights} holds other weights"
        raise UsageError(f"{folder.path} {what}.", f"give the old weights to resume, {ANEW}")


def _require_same_list(folder: RunFolder, datalist: Datalist, names: Names) -> None:
    before = read_datalist(folder.data_file, check_files=False)
    listed, known = list(names(datalist)), list(names(before))
    if listed == known:
        return
    new = [name for split, name in listed if (split, name) not in set(known)]
    gone = [name for split, name in known if (split, name) not in set(listed)]
    differ = [f"{word} are {_named(some)}" for word, some in (("new", new), ("gone", gone)) if some]
    raise UsageError(
        f"{folder.path} was started with other scans: {_counts(before)}, and now {_counts(datalist)}; "
        f"{' and '.join(differ) or 'they come in another order'}.",
        f"give the list that the run began with ({folder.data_file} has it) to resume, {ANEW}",
    )


def _require_same_content(folder: RunFolder, datalist: Datalist, before: Scans, now: Scans) -> None:
    listed = [
        (entry.name, then, here)
        for split in now
        for entry, then, here in zip(getattr(datalist, split), before.get(split, ()), now[split], strict=True)
    ]
    changed = [name for name, then, here in listed if then != here and None not in (then, here)]
    if changed:
        raise UsageError(
            f"{folder.path} was started with other voxels or labels than the files hold now of {_named(changed)}.",
            f"put the old files back to resume, {ANEW}",
        )
    usable = [sum(one is not None for one in side["training"]) for side in (before, now)]
    moved = [name for name, then, here in listed if then != here]
    if moved:
        raise UsageError(
            f"{folder.path} was trained on {usable[0]} usable scans and would go on with {usable[1]}; "
            f"what can be used has changed of {_named(moved)}.",
            f"see what was left out and mend it, {ANEW}",
        )


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more


def judge_as_before(folder: RunFolder) -> Judge:
    """Who says whether scans of unknown modality are CT: the run that is gone on with, else their values."""
    if not folder.is_started():
        return judge_by_values
    was_ct = read_saved(folder.settings_file).preprocess.intensity == "window"
    return lambda entries: was_ct


def _counts(datalist: Datalist) -> str:
    """How many scans of each split."""
    counts = [f"{len(getattr(datalist, split))} {split}" for split in SPLITS if getattr(datalist, split)]
    *some, last = counts or ["none"]
    return f"{', '.join(some)} and {last}" if some else last
