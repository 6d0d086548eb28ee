"""Categories of whole scans by a trained network: preprocessed and stored as for training, one scan at a time."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from voco_cli.cache.key import settings_fingerprint, volume_key, voxel_settings
from voco_cli.dataset.datalist import Entry
from voco_cli.downstream.prediction.prepared import prepare
from voco_cli.downstream.prediction.probabilities import Probabilities, open_table, write_probabilities
from voco_cli.downstream.prediction.trained import Trained
from voco_cli.errors import ResourceError, UsageError, VocoError
from voco_cli.method.augment import to_unit

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
