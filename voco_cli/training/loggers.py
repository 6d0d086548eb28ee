"""Where the numbers of a run go: metrics.jsonl always, and the loggers that the settings name."""

from __future__ import annotations

import json
import os
import socket
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from voco_cli.atomic_files import write_atomic
from voco_cli.training.errors import translate_errors

METRICS_FILE = "metrics.jsonl"


class Logger(ABC):
    """Takes the numbers of a run, step by step."""

    @abstractmethod
    def write(self, split: str, step: int, values: Mapping[str, float]) -> None:
        """Keep the values of a step of ``train`` or ``validation``.

        Raises:
            OSError: they cannot be written.
        """

    def flush(self) -> None:  # noqa: B027 (nothing to do for most)
        """See that what was written survives the machine, as a checkpoint of the same step does."""

    def close(self) -> None:  # noqa: B027 (as above)
        """Let go of files and connections; called once, also after an error."""


class JsonLinesLogger(Logger):
    """Appends one JSON object a line.

    Args:
        path: what it says of steps that will be run again is dropped.
        step: where the run goes on; at 0 everything is run again, the first validation too.
    Raises:
        OSError: the file cannot be written.
    """

    def __init__(self, path: Path, step: int) -> None:
        kept = [record for record in read_metrics(path) if 0 < step >= record["step"]]
        write_atomic(path, "".join(json.dumps(record) + "\n" for record in kept).encode())
        self._lines = path.open("a", buffering=1)

    def write(self, split: str, step: int, values: Mapping[str, float]) -> None:
        """Add a line, which is flushed at once."""
        self._lines.write(json.dumps({"step": step, "split": split, **values}) + "\n")

    def flush(self) -> None:
        """Wait for the disk."""
        os.fsync(self._lines.fileno())

    def close(self) -> None:
        """Close the file; what could not be written was reported then."""
        with suppress(OSError):
            self._lines.close()


class TensorBoardLogger(Logger):
    """Writes scalars for TensorBoard; every call leaves the file readable.

    Args:
        folder: made if missing; each start of the trainer adds a file.
        step: where the run goes on; TensorBoard hides what earlier files say of later ones.
    Raises:
        OSError: the file cannot be written.
    """

    def __init__(self, folder: Path, step: int) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # raised by tensorboard's own imports
            from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # type: ignore[import-untyped]
            from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]
            from tensorboard.summary.writer.record_writer import RecordWriter  # type: ignore[import-untyped]
        self._event, self._summary = Event, Summary
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time_ns() // 1000:016d}.{socket.gethostname()}.{os.getpid()}"
        self._stream = (folder / name).open("wb")
        self._records = RecordWriter(self._stream)
        self._record(file_version="brain.Event:2")
        self._record(step=step + 1 if step else 0, session_log=SessionLog(status=SessionLog.START))

    def write(self, split: str, step: int, values: Mapping[str, float]) -> None:
        """Keep the values of a step under ``split/name``."""
        scalars = [self._summary.Value(tag=f"{split}/{name}", simple_value=value) for name, value in values.items()]
        self._record(step=step, summary=self._summary(value=scalars))

    def close(self) -> None:
        """Close the file; everything that could be written has been."""
        with suppress(OSError):
            self._stream.close()

    def _record(self, **fields: Any) -> None:
        self._records.write(self._event(wall_time=time.time(), **fields).SerializeToString())
        self._stream.flush()


LOGGERS: dict[str, Callable[[Path, int], Logger]] = {
    "tensorboard": lambda run, step: TensorBoardLogger(run / "tensorboard", step),
}
"""Name in ``run.loggers`` to what makes the logger of a run folder that goes on at a step."""


class Loggers:
    """All loggers of a run as one; a full disk is one sentence, whichever of them meets it.

    Args:
        run: the run folder.
        step: where the run goes on.
        names: loggers beside metrics.jsonl, of `LOGGERS`.
    Raises:
        ResourceError: the disk is full.
    """

    def __init__(self, run: Path, step: int, names: Sequence[str]) -> None:
        self.run = run
        self.loggers: list[Logger] = []
        with translate_errors(run, f"{METRICS_FILE} could not be written"):
            self.loggers.append(JsonLinesLogger(run / METRICS_FILE, step))
            self.loggers += [LOGGERS[name](run, step) for name in names]

    def write(self, split: str, step: int, values: Mapping[str, float]) -> None:
        """Hand the values of a step to every logger.

        Raises:
            ResourceError: the disk is full.
        """
        with translate_errors(self.run, f"the values of step {step} could not be added to {METRICS_FILE}"):
            for logger in self.loggers:
                logger.write(split, step, values)

    def flush(self) -> None:
        """Flush every logger."""
        for logger in self.loggers:
            logger.flush()

    def close(self) -> None:
        """Close every logger."""
        for logger in self.loggers:
            logger.close()


def train_seconds(path: Path) -> float:
    """Return the seconds of computing of all steps that a metrics file tells of; validations are not among them."""
    lines = (record for record in read_metrics(path) if record.get("split") == "train")
    return sum(float(record.get("compute_s", 0.0)) for record in lines)


def read_metrics(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of a metrics file; one that holds no object, such as one cut short by a kill, is passed over."""
    if not path.is_file():
        return
    for line in path.read_bytes().splitlines():
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict):
            yield record
