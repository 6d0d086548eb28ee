"""Where the numbers of a run go: metrics.jsonl and TensorBoard."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from voco_cli.cache.whole_files import write_whole
from voco_cli.engine.job import Values


def read_metrics(path: Path) -> Iterator[dict[str, Any]]:
    """Lines of a metrics file; a last line cut short by a kill is passed over."""
    if not path.is_file():
        return
    for line in path.read_text().splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        yield record


class MetricsWriter:
    """Appends one JSON object a line, and the same numbers to TensorBoard.

    Args:
        path: metrics.jsonl; lines after ``step`` are dropped, as the steps will be run again.
        tensorboard: folder of the event files.
        step: where the run goes on.
    """

    def __init__(self, path: Path, tensorboard: Path, step: int) -> None:
        kept = [record for record in read_metrics(path) if record["step"] <= step]
        write_whole(path, "".join(json.dumps(record) + "\n" for record in kept).encode())
        self._lines = path.open("a", buffering=1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # raised by tensorboard's own imports
            from torch.utils.tensorboard import SummaryWriter
        self._board = SummaryWriter(str(tensorboard), purge_step=step + 1 if step else None)

    def write(self, split: str, step: int, values: Values) -> None:
        """Keep the values of a step."""
        self._lines.write(json.dumps({"step": step, "split": split, **values}) + "\n")
        for name, value in values.items():
            self._board.add_scalar(f"{split}/{name}", value, step)

    def close(self) -> None:
        """Flush everything to the files."""
        self._lines.close()
        self._board.close()
