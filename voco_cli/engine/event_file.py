"""TensorBoard's event file, written without the thread that torch's writer starts.

That thread prints a traceback of its own when the disk is full, and is there while loader processes are forked.
"""

from __future__ import annotations

import os
import socket
import time
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any


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
