"""What a classification says of scans: a CSV for people, and beside it what was computed from what."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from voco_cli.csv_text import csv_records, csv_text
from voco_cli.downstream.prediction.folder import difference
from voco_cli.errors import DataError, UsageError
from voco_cli.foreign_text import quoted, shortened
from voco_cli.whole_files import write_whole

FORMAT = "voco-probabilities/1"
TABLE, RECORD = "probabilities.csv", "probabilities.json"


@dataclass
class Probabilities:
    """Predictions of many cases.

    Attributes:
        categories: names, in the order of the probabilities.
        rows: probabilities of each case, by its name.
        fingerprints: of each case's scan, settings and weights, see `classify.case_fingerprint`.
        failed: cases that could not be classified, and why.
        run: folder of the network.
        made_by: everything that the probabilities depend on, besides the scans.
        computed: cases that this process has put in, and not an earlier one.
    """

    categories: tuple[str, ...]
    rows: dict[str, tuple[float, ...]] = field(default_factory=dict)
    fingerprints: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    run: str = ""
    made_by: Mapping[str, Any] = field(default_factory=dict)
    computed: set[str] = field(default_factory=set)


def write_probabilities(found: Probabilities, folder: Path) -> list[Path]:
    """Write ``probabilities.csv`` (case, predicted, ``p_<category>``) and its record, each whole or not at all.

    Raises:
        ResourceError: the disk is full.
    """
    rows = [["case", "predicted", *(f"p_{name}" for name in found.categories)]]
    for case, row in sorted(found.rows.items()):
        predicted = found.categories[max(range(len(row)), key=row.__getitem__)]
        rows.append([case, predicted, *map(repr, row)])
    record = {
        "format": FORMAT,
        "categories": list(found.categories),
        "run": found.run,
        "made_by": found.made_by,
        "fingerprints": dict(sorted(found.fingerprints.items())),
        "failed": dict(sorted(found.failed.items())),
    }
    write_whole(folder / TABLE, csv_text(rows).encode())
    write_whole(folder / RECORD, (json.dumps(record, indent=1) + "\n").encode())
    return [folder / TABLE, folder / RECORD]


def read_probabilities(path: Path, categories: Sequence[str]) -> dict[str, tuple[float, ...]]:
    """Probabilities by case from a CSV with the columns case and ``p_<category>``; others are passed over.

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


def open_table(new: Probabilities, folder: Path) -> Probabilities:
    """The table of a folder to go on with, or a new one where there is none.

    Args:
        new: without rows; its categories and ``made_by`` are asked for.
    Raises:
        UsageError: the table is of another network, other settings or another program, or cannot be trusted.
    """
    if not (folder / TABLE).exists():
        return new
    advice = "choose another folder, or --overwrite"
    try:
        record = json.loads((folder / RECORD).read_bytes())
        rows = read_probabilities(folder / TABLE, new.categories)
    except (OSError, ValueError, DataError):
        record, rows = None, {}
    if not isinstance(record, Mapping) or record.get("format") != FORMAT:
        raise UsageError(f"{folder / TABLE} is there and has no record of voco predict.", advice)
    if record.get("made_by") != new.made_by:
        raise UsageError(f"{folder} holds probabilities with {difference(record, new.made_by)}.", advice)
    fingerprints = {case: str(one) for case, one in record.get("fingerprints", {}).items() if case in rows}
    return replace(new, rows={case: rows[case] for case in fingerprints}, fingerprints=fingerprints)


def is_made_by(folder: Path, made_by: Mapping[str, Any]) -> bool:
    """Whether the table of a folder is of this network and these settings."""
    try:
        record = json.loads((folder / RECORD).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(record, Mapping) and record.get("made_by") == made_by


def _probability(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise DataError(f"{where}: {quoted(text)} is no probability.")
    return value
