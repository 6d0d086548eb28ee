"""`voco plan predict RUN INPUT...`: what a prediction will need here."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from voco_cli.config import Settings
from voco_cli.data.index.datalist import Entry
from voco_cli.data.io.image import Header
from voco_cli.data.io.reader import read_header
from voco_cli.errors import DataError, VocoError
from voco_cli.operating_system import free_host_bytes
from voco_cli.predict.classification import classify_scan
from voco_cli.predict.inputs import find_inputs
from voco_cli.predict.memory import Needed, needed_memory
from voco_cli.predict.predictor import Trained, load_trained, prepare
from voco_cli.resources.advice import disk_advice
from voco_cli.resources.estimates import Amount, Need, Part, Plan
from voco_cli.resources.plan import disk_needs, label_map_bytes
from voco_cli.resources.sampling import Tell, scaled, seeded_order
from voco_cli.resources.subprocess_trial import Outcome, TooLargeError, run_apart, tidy_when_terminated
from voco_cli.resources.trial import SAFE_SHARE, try_sweep
from voco_cli.resources.tried import Sweep


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


MOST_SCANS = 3
TABLE_BYTES = 1000
"""A row of the table of a classification, and what the record says of its scan."""
SCAN = "the largest scan"


def plan_prediction(
    run: Path,
    inputs: Sequence[Path],
    output: Path,
    budget_s: float,
    tell: Tell,
    *,
    device: str | None = None,
    overrides: Sequence[str] = (),
    predict: dict[str, Any] | None = None,
) -> Plan:
    """Read every header, try a few windows of a few scans, and work out what predicting all of them needs.

    Args:
        run: folder of voco finetune.
        output: folder for the predictions.
        budget_s: about how long the trial may take.
        tell: what is being done.
        device, overrides, predict: as for `load_trained`.
    Raises:
        UsageError, DataError: no run, no weights, no scan.
    """
    settings = load_trained(run, "cpu", overrides, **(predict or {})).settings
    found = find_inputs(inputs, settings.task, output)
    headers = {entry.name: header for entry in found.entries if (header := header_of(entry)) is not None}
    if not headers:
        raise DataError(f"None of the {len(found.entries)} scans can be read.", "voco index FOLDER names the reasons")
    largest = max(headers.values(), key=lambda header: prod(header.shape_xyz) * np.dtype(header.dtype).itemsize)
    tell(f"trying a few windows of up to {min(MOST_SCANS, len(found.entries))} of {len(found.entries)} scans ...")
    order = tuple(seeded_order(found.entries, settings.seed))
    request = PredictionRequest(run, device, tuple(overrides), predict or {}, order, largest, MOST_SCANS, budget_s)
    free, reached, start_s = free_host_bytes(), 0, 0.0
    trial: PredictionTrial | None = None
    with tidy_when_terminated():
        try:
            outcome: Outcome[PredictionTrial] = run_apart(try_prediction, request)
            trial, start_s = outcome.result, outcome.start_s
        except TooLargeError as error:
            reached = error.reached_bytes
    needs = (*_memory(trial, free, reached), *_disk(headers, settings, output))
    refused = tuple(f"{name} cannot be predicted: {reason}" for name, reason in found.refused[:3])
    return Plan(
        f"predicting {len(found.entries)} scans",
        needs,
        tuple(_times(trial, found.entries, headers, start_s)),
        (*refused, *_notes(trial)),
        tuple(_advice(needs)),
        figures={"scans": len(found.entries), "trial": asdict(trial) if trial else None},
    )


def _memory(trial: PredictionTrial | None, free: int, reached: int) -> Iterator[Need]:
    if trial is None:
        part = Part("when it was stopped", Amount.of(reached, "measured"))
        yield Need("memory", SCAN, (part,), free, at_least=True)
        return
    parts = (
        Part("the program with its network", Amount.of(trial.own_bytes, "measured")),
        Part(SCAN, Amount.of(trial.needed.host_bytes, "estimated")),
    )
    yield Need("memory", SCAN, parts, free)
    if trial.device.startswith("cuda"):
        part = Part(SCAN, Amount.of(trial.needed.device_bytes, "estimated"))
        yield Need("GPU memory", trial.device, (part,), trial.free_device_bytes)


def _disk(headers: dict[str, Header], settings: Settings, output: Path) -> tuple[Need, ...]:
    if settings.task.kind == "classification":
        size = Amount.of(TABLE_BYTES * len(headers), "estimated")
    else:
        size = label_map_bytes((prod(header.shape_xyz) for header in headers.values()), settings)
    return disk_needs([(output, Part("predictions", size))])


def _times(
    trial: PredictionTrial | None, entries: Sequence[Entry], headers: dict[str, Header], start_s: float
) -> Iterator[Part]:
    """All scans, scaled by their voxels from those that were tried."""
    if trial is None or not trial.scans:
        return
    yield Part("start", Amount.of(start_s, "measured"))
    sizes = [float(prod(headers[one.case].shape_xyz)) for one in trial.scans]
    total = float(sum(prod(header.shape_xyz) for header in headers.values()))
    preparing, network = [one.prepare_s for one in trial.scans], [one.network_s for one in trial.scans]
    yield Part("reading and preprocessing", scaled(preparing, sizes, total, len(entries)))
    yield Part("network and the way back", scaled(network, sizes, total, len(entries)))


def _notes(trial: PredictionTrial | None) -> Iterator[str]:
    if trial is None:
        yield "Not measured: the trial was stopped when memory ran out."
    elif not trial.scans and not trial.failed:
        yield "Not measured: the largest scan would take most of the free memory."
    elif trial.failed:
        name, reason = trial.failed[0]
        yield f"{len(trial.failed)} of the scans that were tried cannot be predicted, {name} first: {reason}"


def _advice(needs: Sequence[Need]) -> Iterator[str]:
    for need in needs:
        if need.fits:
            continue
        if need.kind == "disk":
            yield from disk_advice(need)
        else:
            yield "--set predict.window_batch=1 takes least memory; --set run.keep_memory=false a little less."
            yield "A scan that does not fit is named and left out by voco predict; the others are predicted."
