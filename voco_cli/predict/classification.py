"""Categories of whole scans by a trained network: preprocessed and stored as for training, one scan at a time."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from voco_cli.atomic_files import write_atomic
from voco_cli.csv_text import csv_records, csv_text
from voco_cli.data.cache.entry import voxel_settings
from voco_cli.data.index.datalist import Entry
from voco_cli.data.parallel import HERE, Runner
from voco_cli.errors import DataError, UsageError
from voco_cli.foreign_text import quoted, shortened
from voco_cli.objectives.augment import to_unit
from voco_cli.predict.output_dir import ELSEWHERE, OnDone, PredictionFolder, PredictionReport
from voco_cli.predict.predictor import Trained, prepare

TABLE = "probabilities.csv"


def classify_scan(trained: Trained, entry: Entry) -> tuple[float, ...]:
    """Return the probabilities of the categories of one scan; they sum to 1.

    Raises:
        DataError, GeometryError: a file that cannot be read, or is no scan of this task.
    """
    volume = torch.from_numpy(prepare(entry, trained.settings).channels_CXYZ)[None].to(trained.device)
    logits_K = trained(to_unit(volume))[0].double()
    return tuple(float(value) for value in logits_K.softmax(dim=0).cpu())


def classify_entries(
    trained: Trained,
    entries: Sequence[Entry],
    out: Path,
    *,
    overwrite: bool = False,
    on_done: OnDone = lambda entry, reason: None,
    runner: Runner = HERE,
) -> PredictionReport:
    """Classify scans into ``out/probabilities.csv`` (case, predicted, ``p_<category>``), its record beside it.

    Cases that the table holds already, of the same scan, settings and weights, are kept.

    Args:
        trained: of a classification.
        entries: cases of different names.
        overwrite: replace what another network, other settings or another program has written there.
        runner: does the work.
    Returns:
        what was done; failed scans are listed, not raised.
    Raises:
        UsageError: two cases of one name, or a table of another network or other settings.
        ResourceError: the disk is full.
    """
    twice = [name for name, count in Counter(entry.name for entry in entries).items() if count > 1]
    if twice:
        raise UsageError(f"Two scans are called {twice[0]}, and a table has one line for each.", "rename one of them")
    return ProbabilityFolder(out, trained, overwrite=overwrite, runner=runner).predict(entries, on_done)


@dataclass(frozen=True)
class CategoryPredictor:
    """Probabilities by one network."""

    trained: Trained

    def compute(self, entry: Entry) -> tuple[float, ...]:
        """Classify a case."""
        return classify_scan(self.trained, entry)

    def store(self, prediction: tuple[float, ...], target: Path) -> tuple[float, ...]:
        """Return the probabilities, which are a row of the table."""
        return prediction


class ProbabilityFolder(PredictionFolder):
    """Probabilities by one network, one row of a table a case."""

    format = "voco-probabilities/1"
    record_name = "probabilities.json"
    content = "probabilities"
    predictor = CategoryPredictor
    is_table = True

    def __init__(self, path: Path, trained: Trained, *, overwrite: bool, runner: Runner = HERE) -> None:
        self.categories = tuple(one.name for one in trained.settings.task.classes)
        self.rows: dict[str, tuple[float, ...]] = {}
        super().__init__(path, trained, overwrite=overwrite, runner=runner)

    def dependencies(self) -> dict[str, Any]:
        """Return everything that a row depends on, besides its scan."""
        settings = self.trained.settings
        return {
            "weights": self.trained.digest,
            "channels": settings.task.channels,
            "classes": self.categories,
            "voxels": voxel_settings(settings.preprocess, settings.cache),
        }

    def resume(self, record: Mapping[str, Any]) -> bool:
        """Take over the rows of a table; return False if it cannot be read."""
        try:
            rows = read_probabilities(self.path / TABLE, self.categories)
        except DataError:
            return False
        self.cases = {case: str(one) for case, one in record.get("fingerprints", {}).items() if case in rows}
        self.rows = {case: rows[case] for case in self.cases}
        return True

    def refuse_others(self, record: Mapping[str, Any] | None) -> None:
        """Raise a UsageError if there is a table of others, or one without a record to be trusted."""
        table = self.path / TABLE
        if not table.exists():
            return
        if not record or record.get("made_by") == self.made_by:
            raise UsageError(f"{table} is there and has no record of voco predict.", ELSEWHERE)
        self.refuse_difference(record)

    def holds(self, case: str) -> bool:
        """Return whether the case has a row."""
        return case in self.rows

    def target(self, case: str) -> Path:
        """Return the table."""
        return self.path / TABLE

    def keep_row(self, case: str, row: tuple[float, ...]) -> None:
        """Put a case into the table."""
        self.rows[case] = row

    def save(self) -> None:
        """Write the table and the record."""
        rows = [["case", "predicted", *(f"p_{name}" for name in self.categories)]]
        for case in sorted(self.cases):
            row = self.rows[case]
            predicted = self.categories[max(range(len(row)), key=row.__getitem__)]
            rows.append([case, predicted, *map(repr, row)])
        record = {
            "format": self.format,
            "categories": list(self.categories),
            "run": self.run,
            "made_by": self.made_by,
            "fingerprints": dict(sorted(self.cases.items())),
            "failed": dict(sorted(self.failed.items())),
        }
        write_atomic(self.path / TABLE, csv_text(rows).encode())
        write_atomic(self.path / self.record_name, (json.dumps(record, indent=1) + "\n").encode())

    @property
    def files(self) -> tuple[Path, ...]:
        """Path of the table."""
        return (self.path / TABLE,)


def read_probabilities(path: Path, categories: Sequence[str]) -> dict[str, tuple[float, ...]]:
    """Read the probabilities of each case from a CSV with the columns case and ``p_<category>``; others are ignored.

    Raises:
        DataError: not to be read, a column is missing, a case stands twice, or something is no probability.
    """
    try:
        columns, records = csv_records(path.read_bytes().decode("utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    lacking = [name for name in ("case", *(f"p_{one}" for one in categories)) if name not in columns]
    if lacking:
        raise DataError(f"{path} has no column {lacking[0]}.", f"the categories are {', '.join(categories)}")
    rows: dict[str, tuple[float, ...]] = {}
    for number, line in records:
        case = line["case"]
        if case in rows:
            raise DataError(f"{path}:{number}: the case {shortened(case)} stands twice.")
        rows[case] = tuple(_probability(line[f"p_{name}"], f"{path}:{number}") for name in categories)
    return rows


def _probability(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise DataError(f"{where}: {quoted(text)} is no probability.")
    return value
