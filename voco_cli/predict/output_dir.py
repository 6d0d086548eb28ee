"""The folder that predictions go to: which network made them, of which scans, and what may be written there."""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch

from voco_cli.atomic_files import write_atomic
from voco_cli.data.cache.entry import volume_key
from voco_cli.data.index.datalist import Entry
from voco_cli.errors import UsageError, VocoError
from voco_cli.foreign_text import visible_json
from voco_cli.object_stores import is_remote, know_all_below, require_writable
from voco_cli.predict.predictor import Trained

FORMAT, RECORD, LABELS = "voco-prediction/1", "prediction.json", "labels.json"
"""Of a folder of label maps: format and name of its record, and the file with the names of the labels."""
ELSEWHERE = "choose another folder, or --overwrite"
SAVE_EVERY_S = 10.0
"""What a killed process has to predict again, at most."""

OnDone = Callable[[Entry, str | None], object]
"""Called for each case with the reason why it failed, or None."""


@dataclass(frozen=True)
class PredictionReport:
    """Outcome of a batch of predictions.

    Attributes:
        predicted: cases that were predicted now.
        kept: cases that the folder held already, of the same scan, weights and settings.
        failed: cases with the reason, one sentence each.
        written: files that stand beside the label maps, or the table.
    """

    predicted: tuple[str, ...]
    kept: tuple[str, ...]
    failed: tuple[tuple[str, str], ...]
    written: tuple[Path, ...]


class PredictionFolder(ABC):
    """Predictions of one network, with one record of all of them; a subclass for each kind of task.

    Everything is written whole or not at all, so that the same call after an interruption goes on.

    Args:
        path: the folder, made where there is none.
        trained: the network.
        overwrite: what others have written may be replaced.
    Raises:
        UsageError: it holds predictions of another network or other settings, or files of another program.
    """

    format: ClassVar[str]
    record_name: ClassVar[str]
    content: ClassVar[str]
    """What it holds, for people."""

    def __init__(self, path: Path, trained: Trained, *, overwrite: bool) -> None:
        if is_remote(path):
            require_writable(path)
            know_all_below(path)
        elif path.exists() and not path.is_dir():
            raise UsageError(f"{path} is a file, not a folder for predictions.", "choose another name with --output")
        self.path, self.trained, self.run = path, trained, str(trained.run)
        self.made_by: dict[str, Any] = json.loads(json.dumps(self.dependencies()))  # as a record has it
        self.cases: dict[str, str] = {}
        """Finished cases, each with the fingerprint of its scan."""
        self.failed: dict[str, str] = {}
        self.saved_s = time.monotonic()
        record = read_record(path / self.record_name, self.format)
        if record and record.get("made_by") == self.made_by and self.resume(record):
            return
        if not overwrite:
            self.refuse_others(record)

    @abstractmethod
    def dependencies(self) -> dict[str, Any]:
        """Return everything that a prediction depends on, besides its scan."""

    @abstractmethod
    def resume(self, record: Mapping[str, Any]) -> bool:
        """Take over finished cases of the same network and settings; return False if they are damaged."""

    @abstractmethod
    def refuse_others(self, record: Mapping[str, Any] | None) -> None:
        """Raise a UsageError if the folder holds what others have made.

        Args:
            record: empty where it is damaged, none where there is none.
        """

    @abstractmethod
    def holds(self, case: str) -> bool:
        """Return whether the prediction of a finished case is there."""

    @abstractmethod
    def compute(self, entry: Entry) -> Any:
        """Predict a case. Whatever is raised is this scan's fault alone."""

    @abstractmethod
    def keep(self, case: str, prediction: Any) -> None:
        """Store what `compute` returned. Raise a ResourceError if the disk is full, which ends the batch."""

    @abstractmethod
    def save(self) -> None:
        """Write the record. Raise a ResourceError if the disk is full."""

    @property
    @abstractmethod
    def files(self) -> tuple[Path, ...]:
        """Paths that a user should know of, the predictions of single cases left out."""

    def refuse_difference(self, record: Mapping[str, Any]) -> None:
        """Raise a UsageError that names what the record was made by and is another now."""
        before = record.get("made_by", {})
        differ = [name for name in self.made_by if before.get(name) != self.made_by[name]]
        if "weights" in differ:
            difference = f"other weights (of {record.get('run', 'an unknown run')})"
        elif differ:
            name = differ[0]
            difference = f"another {name} ({before.get(name)} and now {self.made_by[name]})"
        else:
            difference = "another record"
        raise UsageError(f"{self.path} holds {self.content} with {difference}.", ELSEWHERE)

    def source_of(self, entry: Entry) -> str:
        """Return a fingerprint of a case's files: of size, time and samples, or of all of their content.

        Raises:
            DataError: one is missing.
        """
        full_hash = self.trained.settings.cache.full_hash
        return "|".join(volume_key(one.image, one.files, "", full_hash) for one in entry.channel_entries())

    def predict(self, entries: Sequence[Entry], on_done: OnDone) -> PredictionReport:
        """Predict what is not finished; a scan that fails is recorded, and the others go on.

        Raises:
            ResourceError: the disk is full.
        """
        predicted: list[str] = []
        kept: list[str] = []
        failed: list[tuple[str, str]] = []
        try:
            for entry in entries:
                name, reason = entry.name, None
                try:
                    source = self.source_of(entry)
                    is_finished = self.cases.get(name) == source and self.holds(name)
                    prediction = None if is_finished else self.compute(entry)
                except Exception as error:  # whatever a library makes of a damaged file: it is this scan's fault alone
                    reason = _reason(error, entry)
                    failed.append((name, reason))
                    self.cases.pop(name, None)
                    self.failed[name] = reason
                else:
                    (kept if is_finished else predicted).append(name)
                    if not is_finished:
                        self.keep(name, prediction)
                        self.cases[name] = source
                        self._save_now_and_then()
                on_done(entry, reason)
        finally:
            self.save()
        return PredictionReport(tuple(predicted), tuple(kept), tuple(failed), self.files)

    def _save_now_and_then(self) -> None:
        if time.monotonic() - self.saved_s > SAVE_EVERY_S:
            self.save()
            self.saved_s = time.monotonic()


def read_record(path: Path, wanted: str) -> Mapping[str, Any] | None:
    """Read the record of a folder; empty where it is damaged or of another format, none where there is none."""
    try:
        record: Any = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) and record.get("format") == wanted else {}


def predicted_files(record: Path) -> set[Path]:
    """Return a record and the label maps that it names beside it; nothing where it is of another program."""
    content = read_record(record, FORMAT)
    if not content:
        return set()
    suffix = content.get("made_by", {}).get("suffix", "")
    return {record, record.parent / LABELS, *(record.parent / f"{case}{suffix}" for case in content.get("cases", {}))}


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file whole or not at all, characters that no one sees spelled out."""
    write_atomic(path, (visible_json(json.dumps(value, indent=1, ensure_ascii=False)) + "\n").encode())


def _reason(error: Exception, entry: Entry) -> str:
    if isinstance(error, VocoError):
        return error.message
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return f"{entry.name} did not fit into memory ({type(error).__name__} {error})."
    return f"{entry.name} could not be predicted ({type(error).__name__}: {error})."
