"""Categories of whole scans by a trained network: preprocessed and stored as for training, one scan at a time."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from voco_cli.atomic_files import write_atomic
from voco_cli.csv_text import csv_records, csv_text
from voco_cli.data.cache.keys import settings_fingerprint, volume_key, voxel_settings
from voco_cli.data.index.datalist import Entry
from voco_cli.errors import DataError, ResourceError, UsageError, VocoError
from voco_cli.foreign_text import quoted, shortened
from voco_cli.objectives.voco.augment import to_unit
from voco_cli.predict.inputs import prepare
from voco_cli.predict.output_dir import difference
from voco_cli.predict.predictor import Trained

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
    write_atomic(folder / TABLE, csv_text(rows).encode())
    write_atomic(folder / RECORD, (json.dumps(record, indent=1) + "\n").encode())
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


WRITE_EVERY_S = 10.0
"""What a killed batch loses at most."""


def classify_entries(
    trained: Trained,
    entries: Sequence[Entry],
    out: Path,
    *,
    overwrite: bool = False,
    on_done: Callable[[Entry, str | None], None] = lambda entry, reason: None,
) -> Probabilities:
    """Classify scans and keep the table in ``out``; a scan that fails is recorded and the others go on.

    Cases that the table holds already, of the same scan, settings and weights, are not computed again.

    Args:
        trained: of a classification.
        entries: cases of different names.
        out: folder of ``probabilities.csv`` and ``probabilities.json``, made if missing.
        overwrite: forget what the table holds, whoever has written it.
        on_done: called for each case with the reason why it failed, or None.
    Returns:
        all of the table, finished earlier or now.
    Raises:
        UsageError: two cases of one name, or a table of another network or other settings.
        ResourceError: the disk is full.
    """
    twice = [name for name, count in Counter(entry.name for entry in entries).items() if count > 1]
    if twice:
        raise UsageError(f"Two scans are called {twice[0]}, and a table has one line for each.", "rename one of them")
    categories = tuple(one.name for one in trained.settings.task.classes)
    new = Probabilities(categories, run=str(trained.run), made_by=table_made_by(trained))
    found = new if overwrite else open_table(new, out)
    written_s = time.monotonic()
    try:
        for entry in entries:
            on_done(entry, _classify(trained, entry, found))
            if time.monotonic() - written_s > WRITE_EVERY_S:
                write_probabilities(found, out)
                written_s = time.monotonic()
    finally:
        write_probabilities(found, out)
    return found


def _classify(trained: Trained, entry: Entry, found: Probabilities) -> str | None:
    """Put one case into the table where it is not there yet; the reason where that cannot be done."""
    name = entry.name
    try:
        fingerprint = case_fingerprint(entry, trained)
        if found.fingerprints.get(name) != fingerprint:
            found.rows[name] = classify_scan(trained, entry)
            found.fingerprints[name] = fingerprint
            found.computed.add(name)
    except ResourceError:
        raise
    except Exception as error:  # whatever a library makes of a damaged file: it is this scan's fault alone
        reason = str(error) if isinstance(error, VocoError) else f"{entry.image}: {type(error).__name__}: {error}"
        found.rows.pop(name, None)
        found.fingerprints.pop(name, None)
        found.failed[name] = reason
        return reason
    return None


def classify_scan(trained: Trained, entry: Entry) -> tuple[float, ...]:
    """Probabilities of the categories of one scan; they sum to 1.

    Raises:
        DataError, GeometryError: a file that cannot be read, or is no scan of this task.
    """
    volume = torch.from_numpy(prepare(entry, trained.settings).channels_CXYZ)[None].to(trained.device)
    logits_K = trained(to_unit(volume))[0].double()
    return tuple(float(value) for value in logits_K.softmax(dim=0).cpu())


def table_made_by(trained: Trained) -> dict[str, Any]:
    """Everything that a table depends on, besides its scans, as JSON has it."""
    settings = trained.settings
    depends = {
        "weights": trained.digest,
        "channels": settings.task.channels,
        "classes": [one.name for one in settings.task.classes],
        "voxels": voxel_settings(settings.preprocess, settings.cache),
    }
    as_read: dict[str, Any] = json.loads(json.dumps(depends))
    return as_read


def case_fingerprint(entry: Entry, trained: Trained) -> str:
    """What the probabilities of a case depend on: its files, the settings that change a voxel, and the weights.

    Raises:
        DataError: a file is missing.
    """
    settings = trained.settings
    voxels = settings_fingerprint(settings.preprocess, settings.cache)
    keys = [volume_key(one.image, one.files, voxels, settings.cache.full_hash) for one in entry.channel_entries()]
    return hashlib.blake2b("|".join([trained.digest, *keys]).encode(), digest_size=16).hexdigest()
