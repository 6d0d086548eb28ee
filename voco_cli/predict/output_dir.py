"""The folder that predictions go to: which network made them, of which scans, and what may be written there."""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch

from voco_cli.atomic_files import write_atomic
from voco_cli.data.cache.entry import volume_key
from voco_cli.data.index.datalist import Entry
from voco_cli.data.loaded import LoadedHere, LoadedThere
from voco_cli.data.parallel import HERE, Runner, WorkerKilledError, run_jobs
from voco_cli.data.shards import files_of
from voco_cli.errors import DataError, UsageError, VocoError
from voco_cli.foreign_text import visible_json
from voco_cli.object_stores import is_remote, know_all_below, require_writable
from voco_cli.predict.predictor import Origin, Trained, load_trained

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


class Predictor(Protocol):
    """Turns scans into predictions, and stores them."""

    def __init__(self, trained: Trained) -> None:
        """Take the network."""

    def compute(self, entry: Entry) -> Any:
        """Predict a case. Whatever is raised is this scan's fault alone."""

    def store(self, prediction: Any, target: Path) -> tuple[float, ...] | None:
        """Write what `compute` returned to a file of its own, or return the row of a table that it is.

        Raises:
            ResourceError: the disk is full, which ends the batch.
        """


@dataclass(frozen=True)
class LoadPredictor:
    """Loads a predictor.

    Attributes:
        build: makes it of the network.
        origin, digest: of the network.
    """

    build: type[Predictor]
    origin: Origin
    digest: str

    def __call__(self) -> Predictor:
        """Return the predictor.

        Raises:
            UsageError: the weights are others by now; or as `load_trained`.
        """
        of = self.origin
        trained = load_trained(of.run, of.device, of.overrides, **dict(of.predict))
        if trained.digest != self.digest:
            raise UsageError(f"The weights of {of.run} have changed while they were used.", "start the command again")
        return self.build(trained)


@dataclass(frozen=True)
class CaseJob:
    """A case to predict.

    Attributes:
        target: file of its own, or the table that it will be a row of.
        is_row: whether it is a row.
        full_hash: see `source_of`.
    """

    entry: Entry
    target: Path
    is_row: bool
    full_hash: bool
    predictor: LoadedHere[Predictor] | LoadedThere[Predictor]

    @property
    def files(self) -> tuple[Path, ...]:
        """Return the files that are read."""
        return files_of(self.entry)

    @property
    def is_done(self) -> bool:
        """Return whether its own file is there."""
        return self.is_row or self.target.is_file()


@dataclass(frozen=True)
class PredictedCase:
    """A case that was predicted and stored: the fingerprint of its scan, and its row where a table holds it."""

    source: str
    row: tuple[float, ...] | None


def predict_one(job: CaseJob) -> PredictedCase:
    """Predict and store a case.

    Raises:
        DataError: why this scan alone cannot be predicted.
        ResourceError: the disk is full.
    """
    predictor = job.predictor.ready()
    try:
        source = source_of(job.entry, job.full_hash)
        prediction = predictor.compute(job.entry)
    except Exception as error:  # whatever a library makes of a damaged file: it is this scan's fault alone
        raise DataError(_reason(error, job.entry)) from error
    return PredictedCase(source, predictor.store(prediction, job.target))


def source_of(entry: Entry, full_hash: bool) -> str:
    """Return a fingerprint of a case's files: of size, time and samples, or of all of their content.

    Raises:
        DataError: one is missing.
    """
    return "|".join(volume_key(one.image, one.files, "", full_hash) for one in entry.channel_entries())


class PredictionFolder(ABC):
    """Predictions of one network, with one record of all of them; a subclass for each kind of task.

    Everything is written whole or not at all, so that the same call after an interruption goes on.

    Args:
        path: the folder, made where there is none.
        trained: the network.
        overwrite: what others have written may be replaced.
        runner: does the work; a shard writes predictions, and no record beside its part.
    Raises:
        UsageError: it holds predictions of another network or other settings, or files of another program.
    """

    format: ClassVar[str]
    record_name: ClassVar[str]
    content: ClassVar[str]
    """What it holds, for people."""

    predictor: ClassVar[type[Predictor]]
    """Makes what computes and stores."""
    is_table: ClassVar[bool]
    """Whether a case is a row of a table, and not a file of its own."""

    def __init__(self, path: Path, trained: Trained, *, overwrite: bool, runner: Runner = HERE) -> None:
        if is_remote(path):
            require_writable(path)
            know_all_below(path)
        elif path.exists() and not path.is_dir():
            raise UsageError(f"{path} is a file, not a folder for predictions.", "choose another name with --output")
        self.path, self.trained, self.run, self.runner = path, trained, str(trained.run), runner
        self.made_by: dict[str, Any] = json.loads(json.dumps(self.dependencies()))  # as a record has it
        runner.begin({name: json.dumps(value) for name, value in self.made_by.items()})
        self.cases: dict[str, str] = {}
        """Finished cases, each with the fingerprint of its scan."""
        self.failed: dict[str, str] = {}
        self.saved_s = time.monotonic()
        record = read_record(path / self.record_name, self.format)
        if record and record.get("made_by") == self.made_by and self.resume(record):
            return
        if not overwrite and not runner.goes_on:
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
    def target(self, case: str) -> Path:
        """Return the file that the prediction of a case is written to."""

    def keep_row(self, case: str, row: tuple[float, ...]) -> None:
        """Take the row of a case into the table, where there is one."""
        raise NotImplementedError

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

    def predict(self, entries: Sequence[Entry], on_done: OnDone) -> PredictionReport:
        """Predict what is not finished; a scan that fails is recorded, and the others go on.

        Raises:
            ResourceError: the disk is full.
        """
        predicted: set[str] = set()
        kept: set[str] = set()
        reasons: dict[str, str] = {}

        def finished(job: CaseJob, outcome: PredictedCase | Exception) -> None:
            name = job.entry.name
            if isinstance(outcome, PredictedCase):
                predicted.add(name)
                self.cases[name] = outcome.source
                if outcome.row is not None:
                    self.keep_row(name, outcome.row)
                self._save_now_and_then()
            elif isinstance(outcome, DataError | WorkerKilledError):
                reasons[name] = outcome.message if isinstance(outcome, DataError) else f"{name} {outcome}."
                self.cases.pop(name, None)
                self.failed[name] = reasons[name]
            else:
                raise outcome
            on_done(job.entry, reasons.get(name))

        def unfinished() -> Iterator[CaseJob]:
            for entry in entries:
                if self._is_finished(entry):
                    kept.add(entry.name)
                    on_done(entry, None)
                else:
                    yield self._job(entry)

        try:
            run_jobs(predict_one, unfinished(), 1, finished, runner=self.runner)
        finally:
            names = [entry.name for entry in entries]
            self.cases, self.failed = _in_order(self.cases, names), _in_order(self.failed, names)
            self._save()
        return PredictionReport(
            predicted=tuple(name for name in names if name in predicted),
            kept=tuple(name for name in names if name in kept),
            failed=tuple((name, reasons[name]) for name in names if name in reasons),
            written=self.files,
        )

    def _is_finished(self, entry: Entry) -> bool:
        known = self.cases.get(entry.name)
        try:
            return known is not None and known == self._source_of(entry) and self.holds(entry.name)
        except (VocoError, OSError):
            return False  # whoever predicts it says why it cannot be read

    def _source_of(self, entry: Entry) -> str:
        return source_of(entry, self.trained.settings.cache.full_hash)

    def _job(self, entry: Entry) -> CaseJob:
        target, full_hash = self.target(entry.name).absolute(), self.trained.settings.cache.full_hash
        return CaseJob(entry, target, self.is_table, full_hash, self._predictor)

    @cached_property
    def _predictor(self) -> LoadedHere[Predictor] | LoadedThere[Predictor]:
        build = type(self).predictor
        if self.runner.cluster is None or self.trained.origin is None:
            return LoadedHere(build(self.trained))
        return LoadedThere(LoadPredictor(build, self.trained.origin, self.trained.digest))

    def _save(self) -> None:
        """Write the record, which is the whole folder's and no shard's."""
        if not self.runner.is_part:
            self.save()

    def _save_now_and_then(self) -> None:
        if time.monotonic() - self.saved_s > SAVE_EVERY_S:
            self._save()
            self.saved_s = time.monotonic()


def _in_order(of_case: Mapping[str, str], names: Sequence[str]) -> dict[str, str]:
    """Return what is kept of cases: first those of earlier calls, then these in their order, however they ended."""
    now = set(names)
    earlier = {name: text for name, text in of_case.items() if name not in now}
    return {**earlier, **{name: of_case[name] for name in names if name in of_case}}


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
