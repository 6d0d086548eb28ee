"""Where the numbers of a run go: metrics.jsonl and TensorBoard."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voco_cli.engine.event_file import EventFile
from voco_cli.engine.faults import full_disk_told
from voco_cli.whole_files import write_whole

if TYPE_CHECKING:
    from voco_cli.engine.job import Values


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
        with full_disk_told(path.parent, f"{path.name} could not be written"):
            write_whole(path, "".join(json.dumps(record) + "\n" for record in kept).encode())
            self._lines = path.open("a", buffering=1)
            self._board = EventFile(tensorboard, purge_step=step + 1 if step else 0)

    def write(self, split: str, step: int, values: Values) -> None:
        """Keep the values of a step.

        Raises:
            ResourceError: the disk is full.
        """
        with full_disk_told(self.path.parent, f"the values of step {step} could not be added to {self.path.name}"):
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
