"""Where the numbers of a run go: metrics.jsonl and TensorBoard."""

from __future__ import annotations

import json
import os
import socket
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voco_cli.atomic_files import write_atomic
from voco_cli.training.errors import translate_errors

if TYPE_CHECKING:
    from voco_cli.training.task import Values


class EventFile:
    """Scalars for TensorBoard; every call leaves the file readable.

    Args:
        folder: made if missing; each run of the loop adds a file.
        purge_step: TensorBoard hides what earlier files say of this step and later ones.
    Raises:
        OSError: the file cannot be written.
    """

    def __init__(self, folder: Path, purge_step: int) -> None:
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
        self._write(file_version="brain.Event:2")
        self._write(step=purge_step, session_log=SessionLog(status=SessionLog.START))

    def write(self, split: str, step: int, values: Mapping[str, float]) -> None:
        """Keep the values of a step under ``split/name``."""
        scalars = [self._summary.Value(tag=f"{split}/{name}", simple_value=value) for name, value in values.items()]
        self._write(step=step, summary=self._summary(value=scalars))

    def close(self) -> None:
        """Close the file; everything that could be written has been."""
        with suppress(OSError):
            self._stream.close()

    def _write(self, **fields: Any) -> None:
        self._records.write(self._event(wall_time=time.time(), **fields).SerializeToString())
        self._stream.flush()


def read_metrics(path: Path) -> Iterator[dict[str, Any]]:
    """Lines of a metrics file; one that holds no object, such as a last one cut short by a kill, is passed over."""
    if not path.is_file():
        return
    for line in path.read_bytes().splitlines():
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict):
            yield record


class MetricsWriter:
    """Appends one JSON object a line, and the same numbers to TensorBoard.

    Args:
        path: metrics.jsonl; what it says of steps that will be run again is dropped.
        tensorboard: folder of the event files.
        step: where the run goes on; at 0 everything is run again, the first validation too.
    Raises:
        ResourceError: the disk is full.
    """

    def __init__(self, path: Path, tensorboard: Path, step: int) -> None:
        self.path = path
        kept = [record for record in read_metrics(path) if 0 < step >= record["step"]]
        with translate_errors(path.parent, f"{path.name} could not be written"):
            write_atomic(path, "".join(json.dumps(record) + "\n" for record in kept).encode())
            self._lines = path.open("a", buffering=1)
            self._board = EventFile(tensorboard, purge_step=step + 1 if step else 0)

    def write(self, split: str, step: int, values: Values) -> None:
        """Keep the values of a step.

        Raises:
            ResourceError: the disk is full.
        """
        with translate_errors(self.path.parent, f"the values of step {step} could not be added to {self.path.name}"):
            self._lines.write(json.dumps({"step": step, "split": split, **values}) + "\n")
            self._board.write(split, step, values)

    def flush(self) -> None:
        """See that what was written survives the machine, as a checkpoint of the same step does."""
        os.fsync(self._lines.fileno())

    def close(self) -> None:
        """Close the files. Each line was flushed when it was written; what could not be was reported then."""
        with suppress(OSError):
            self._lines.close()
        self._board.close()
