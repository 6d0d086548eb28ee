"""A network over a few scans, a few windows of each; runs in a process of its own and writes nothing."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import torch

from voco_cli.dataset.datalist import Entry
from voco_cli.downstream.prediction.classify import classify_scan
from voco_cli.downstream.prediction.memory import Needed, needed_memory
from voco_cli.downstream.prediction.prepared import prepare
from voco_cli.downstream.prediction.trained import Trained, load_trained
from voco_cli.errors import VocoError
from voco_cli.host_memory import free_host_bytes
from voco_cli.planning.sweep import try_sweep
from voco_cli.planning.trial import SAFE_SHARE
from voco_cli.planning.tried import Sweep
from voco_cli.scans.header import Header
from voco_cli.scans.read import read_header


@dataclass(frozen=True)
class PredictionRequest:
    """What to try.

    Attributes:
        run, device, overrides, predict: as for `load_trained`.
        entries: scans, in the order in which they are tried.
        largest: the scan that takes most memory.
        most: scans to try.
        budget_s: time after which no further scan is begun.
    """

    run: Path
    device: str | None
    overrides: tuple[str, ...]
    predict: dict[str, Any]
    entries: tuple[Entry, ...]
    largest: Header
    most: int
    budget_s: float


@dataclass(frozen=True)
class TriedScan:
    """One scan: reading and preprocessing it, and what the network and the way back took."""

    case: str
    prepare_s: float
    network_s: float
    sweep: Sweep | None


@dataclass(frozen=True)
class PredictionTrial:
    """What came of it.

    Attributes:
        device: where the network computes.
        own_bytes: memory of the process with the network, before any scan.
        needed: beyond that, for the largest scan.
        free_host_bytes, free_device_bytes: with the network loaded.
        scans: that were tried; none where the largest would not be safe.
        failed: scans that cannot be predicted, with the reason.
    """

    device: str
    own_bytes: int
    needed: Needed
    free_host_bytes: int
    free_device_bytes: int
    scans: tuple[TriedScan, ...] = ()
    failed: tuple[tuple[str, str], ...] = ()


def try_prediction(request: PredictionRequest) -> PredictionTrial:
    """Load the network, and go over a few scans.

    Raises:
        UsageError, DataError: as `load_trained`.
    """
    trained = load_trained(request.run, request.device, request.overrides, **request.predict)
    device = trained.device
    needed = needed_memory(request.largest, trained.settings, device)
    own = psutil.Process().memory_info().rss
    free_device = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0
    seen = PredictionTrial(str(device), own, needed, free_host_bytes(), free_device)
    if needed.host_bytes > SAFE_SHARE * seen.free_host_bytes or needed.device_bytes > seen.free_device_bytes:
        return seen
    began_s = time.monotonic()
    scans: list[TriedScan] = []
    failed: list[tuple[str, str]] = []
    for entry in request.entries:
        if len(scans) >= request.most or (scans and time.monotonic() - began_s > request.budget_s):
            break
        try:
            scans.append(_try_scan(trained, entry))
        except VocoError as error:
            failed.append((entry.name, error.message))
    return replace(seen, scans=tuple(scans), failed=tuple(failed))


def header_of(entry: Entry) -> Header | None:
    """The header of a scan; none where it cannot be read, which the prediction will name."""
    try:
        return read_header(entry.image, entry.files)
    except (VocoError, OSError):
        return None


def _try_scan(trained: Trained, entry: Entry) -> TriedScan:
    settings, start_s = trained.settings, time.perf_counter()
    if settings.task.kind == "classification":
        prepare(entry, settings)
        prepare_s = time.perf_counter() - start_s
        classify_scan(trained, entry)  # prepares it again
        return TriedScan(entry.name, prepare_s, max(0.0, time.perf_counter() - start_s - 2 * prepare_s), None)
    prepared = prepare(entry, settings)
    prepare_s = time.perf_counter() - start_s
    sweep = try_sweep(prepared.channels_CXYZ, prepared.record, trained, settings, trained.device)
    return TriedScan(entry.name, prepare_s, sweep.total_s, sweep)
