"""`voco plan predict RUN INPUT...`: what a prediction will need here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from voco_cli.dataset.datalist import Entry
from voco_cli.downstream.prediction.inputs import find_inputs
from voco_cli.downstream.prediction.trained import load_trained
from voco_cli.errors import DataError
from voco_cli.host_memory import free_host_bytes
from voco_cli.planning.advice import disk_advice
from voco_cli.planning.apart import Outcome, TooLargeError, run_apart, tidy_when_terminated
from voco_cli.planning.disk import disk_needs, label_map_bytes
from voco_cli.planning.prediction_trial import PredictionRequest, PredictionTrial, header_of, try_prediction
from voco_cli.planning.quantities import Amount, Need, Part, Plan
from voco_cli.planning.sampled_run import Tell
from voco_cli.planning.sampling import scaled, seeded_order
from voco_cli.scans.header import Header
from voco_cli.settings import Settings

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
