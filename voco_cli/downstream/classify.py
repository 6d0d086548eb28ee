"""Categories of whole scans by a trained network: preprocessed and stored as for training, one scan at a time."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from voco_cli.cache.encoding import quantise
from voco_cli.cache.key import settings_fingerprint, volume_key
from voco_cli.cache.preprocess import preprocess
from voco_cli.dataset.datalist import Entry, read_entry
from voco_cli.downstream.probabilities import Probabilities, read_finished, write_probabilities
from voco_cli.errors import DataError, UsageError, VocoError
from voco_cli.method.augment import to_unit
from voco_cli.settings import Settings

WRITE_EVERY_S = 10.0
"""What a killed batch loses at most."""


def classify_entries(
    network: nn.Module,
    settings: Settings,
    entries: Sequence[Entry],
    out: Path,
    *,
    device: torch.device,
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
    on_done: Callable[[Entry, str | None], None] = lambda entry, reason: None,
) -> Probabilities:
    """Classify scans and keep the table in ``out``; a scan that fails is recorded and the others go on.

    Cases that the table holds already, of the same scan, settings and weights, are not computed again.

    Args:
        network: a trained classifier, on the device.
        settings: those of its run.
        out: folder of ``probabilities.csv`` and ``probabilities.json``, made if missing.
        autocast: context of the network's number format.
        on_done: called for each case with the reason why it failed, or None.
    Returns:
        all of the table, finished earlier or now.
    Raises:
        UsageError: two cases of one name.
        ResourceError: the disk is full.
    """
    twice = [name for name, count in Counter(entry.name for entry in entries).items() if count > 1]
    if twice:
        raise UsageError(f"Two scans are called {twice[0]}, and a table has one line for each.", "rename one of them")
    found = read_finished(out, [one.name for one in settings.task.classes])
    weights = weights_digest(network)
    written_s = time.monotonic()
    network.eval()
    try:
        for entry in entries:
            reason = None
            try:
                fingerprint = case_fingerprint(entry, settings, weights)
                if found.fingerprints.get(entry.name) != fingerprint:
                    with autocast():
                        found.rows[entry.name] = classify_scan(network, settings, entry, device)
                    found.fingerprints[entry.name] = fingerprint
            except (VocoError, OSError) as error:
                reason = str(error)
                found.failed[entry.name] = reason
                found.rows.pop(entry.name, None)
                found.fingerprints.pop(entry.name, None)
            on_done(entry, reason)
            if time.monotonic() - written_s > WRITE_EVERY_S:
                write_probabilities(found, out)
                written_s = time.monotonic()
    finally:
        write_probabilities(found, out)
    return found


def classify_scan(network: nn.Module, settings: Settings, entry: Entry, device: torch.device) -> tuple[float, ...]:
    """Probabilities of the categories of one scan; they sum to 1.

    Raises:
        DataError, GeometryError: a file that cannot be read, or is no scan of this task.
    """
    volume = torch.from_numpy(stored_channels(entry, settings))[None].to(device)
    with torch.no_grad():
        logits_K = network(to_unit(volume))[0].double()
    return tuple(float(value) for value in logits_K.softmax(dim=0).cpu())


def stored_channels(entry: Entry, settings: Settings) -> NDArray[Any]:
    """The channels of a case as its cached volumes would hold them: volume_CXYZ in the stored number format.

    Raises:
        DataError, GeometryError: a file that cannot be read, another number of channels, or channels of several sizes.
    """
    channels, named = entry.channel_entries(), settings.task.channels
    if len(channels) != len(named):
        raise DataError(
            f"{entry.name} has {len(channels)} channels, and the task has {len(named)} ({', '.join(named)})."
        )
    volumes = [
        quantise(preprocess(read_entry(channel), settings.preprocess).array_xyz, settings.cache.dtype)
        for channel in channels
    ]
    sizes = {volume.shape for volume in volumes}
    if len(sizes) > 1:
        listed = ", ".join("x".join(map(str, size)) for size in sorted(sizes))
        raise DataError(f"{entry.name} has channels of different sizes ({listed} voxels).")
    return np.stack(volumes)


def weights_digest(network: nn.Module) -> str:
    """Hash of every tensor of a network, 32 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensor.detach().cpu().numpy()).data)
    return digest.hexdigest()


def case_fingerprint(entry: Entry, settings: Settings, weights: str) -> str:
    """What the probabilities of a case depend on: its files, the settings that change a voxel, and the weights.

    Raises:
        DataError: a file is missing.
    """
    voxels = settings_fingerprint(settings.preprocess, settings.cache)
    keys = [volume_key(one.image, one.files, voxels, settings.cache.full_hash) for one in entry.channel_entries()]
    return hashlib.blake2b("|".join([weights, *keys]).encode(), digest_size=16).hexdigest()
