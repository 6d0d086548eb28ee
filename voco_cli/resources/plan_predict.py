"""The plan of a prediction: every header is read, one window goes through the network, a few scans are preprocessed."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from voco_cli.config import Settings
from voco_cli.data.cache.entry import largest_shape
from voco_cli.data.index.datalist import Entry
from voco_cli.data.io.image import Header
from voco_cli.data.io.reader import read_header
from voco_cli.errors import DataError, VocoError
from voco_cli.operating_system import free_host_bytes
from voco_cli.predict.inputs import Inputs, find_inputs
from voco_cli.predict.memory import needed_memory
from voco_cli.predict.predictor import Trained, load_trained, prepare
from voco_cli.resources.advice import disk_advice
from voco_cli.resources.amounts import Amount, Need, Part, Plan, disk_needs, total
from voco_cli.resources.cases import Say, scaled, seeded_order
from voco_cli.resources.costs import START_S, TIME_FACTOR, case_seconds, forward_seconds
from voco_cli.resources.plan import ESTIMATES, label_map_bytes

MOST_SCANS = 3
TABLE_BYTES = 1000
"""A row of the table of a classification, and what the record says of its scan."""
LARGEST = "the largest scan"


@dataclass(frozen=True)
class ScansToPredict:
    """Scans, a trained network, and where its predictions will lie.

    Attributes:
        found: cases, and what was refused.
        headers: of those that can be read, by case.
        own_bytes: memory of the process with the network, before any scan.
        free_bytes, free_device_bytes: with the network loaded.
    """

    trained: Trained
    found: Inputs
    headers: Mapping[str, Header]
    output: Path
    own_bytes: int
    free_bytes: int
    free_device_bytes: int

    @classmethod
    def find(cls, trained: Trained, inputs: Sequence[Path], output: Path) -> ScansToPredict:
        """Read the header of every scan.

        Raises:
            UsageError, DataError: there is none, or none can be read.
        """
        found = find_inputs(inputs, trained.settings.task, output)
        headers = {entry.name: header for entry in found.entries if (header := _header(entry)) is not None}
        if not headers:
            what = f"None of the {len(found.entries)} scans can be read."
            raise DataError(what, "voco index FOLDER names the reasons")
        own = psutil.Process().memory_info().rss
        device = trained.device
        free_device = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0
        return cls(trained, found, headers, output, own, free_host_bytes(), free_device)

    @property
    def settings(self) -> Settings:
        """Return the settings of the prediction."""
        return self.trained.settings

    @property
    def largest_first(self) -> list[Entry]:
        """Return the scans whose headers can be read, that which takes most memory first."""
        readable = [entry for entry in self.found.entries if entry.name in self.headers]
        return sorted(readable, key=lambda entry: -_nbytes(self.headers[entry.name]))

    def memory(self) -> Iterator[Need]:
        """Yield what the largest scan takes of the machine and of the device, estimated."""
        needed = needed_memory(self.headers[self.largest_first[0].name], self.settings, self.trained.device)
        own = Part("the program with its network", Amount.of(self.own_bytes, "measured"))
        scan = Part(LARGEST, Amount.of(needed.host_bytes, "estimated"))
        yield Need("memory", LARGEST, (own, scan), self.free_bytes + self.own_bytes)
        if self.trained.device.type == "cuda":
            part = Part(LARGEST, Amount.of(needed.device_bytes, "estimated"))
            yield Need("GPU memory", str(self.trained.device), (part,), self.free_device_bytes)

    def disk(self) -> tuple[Need, ...]:
        """Return what all predictions take of the disk, estimated."""
        size = Amount.of(TABLE_BYTES * len(self.headers), "estimated")
        if self.settings.task.is_voxelwise:
            size = label_map_bytes((math.prod(header.shape_xyz) for header in self.headers.values()), self.settings)
        return disk_needs([(self.output, Part("predictions", size))])

    def plan(self, needs: Sequence[Need], times: Sequence[Part], notes: Sequence[str], **figures: Any) -> Plan:
        """Put the plan together."""
        refused = [f"{name} cannot be predicted: {reason}" for name, reason in self.found.refused[:3]]
        return Plan(
            f"predicting {len(self.found.entries)} scans",
            tuple(needs),
            tuple(times),
            (*refused, *notes),
            tuple(_advice(needs)),
            {"scans": len(self.found.entries), **figures},
        )


def plan_prediction(
    run: Path,
    inputs: Sequence[Path],
    output: Path,
    budget_s: float,
    say: Say,
    *,
    device: str | None = None,
    overrides: Sequence[str] = (),
    predict: dict[str, Any] | None = None,
) -> Plan:
    """Read every header, try a window and the preprocessing of a few scans, and work out what all of them need.

    Args:
        run: folder of voco finetune.
        output: folder for the predictions.
        budget_s: about how long scans are tried.
        say: shows what is being done.
        device, overrides, predict: as for `load_trained`.
    Raises:
        UsageError, DataError: no run, no weights, no scan.
    """
    scans = ScansToPredict.find(load_trained(run, device, overrides, **(predict or {})), inputs, output)
    needs = (*scans.memory(), *scans.disk())
    if not all(need.fits for need in needs if need.kind != "disk"):
        return scans.plan(needs, (), ("No scan was tried, as the largest would take more memory than is free.",))
    say(f"preprocessing up to {min(MOST_SCANS, len(scans.headers))} of {len(scans.found.entries)} scans ...")
    prepare_s, failed = _try_preparing(scans, budget_s)
    times = [Part("start", Amount.within(START_S, TIME_FACTOR))]
    if prepare_s:
        sizes = [float(math.prod(scans.headers[name].shape_xyz)) for name in prepare_s]
        everything = float(sum(math.prod(header.shape_xyz) for header in scans.headers.values()))
        preparing = scaled(list(prepare_s.values()), sizes, everything, len(scans.headers))
        times.append(Part("reading and preprocessing", preparing))
    one_pass, through = Amount.within(_window_seconds(scans.trained), TIME_FACTOR), []
    for header in scans.headers.values():
        spacing_mm, preprocess = header.placement.spacing_xyz_mm, scans.settings.preprocess
        shape = largest_shape(header.shape_xyz, spacing_mm, header.orientation, preprocess)
        through.append(case_seconds(shape, math.prod(header.shape_xyz), scans.settings, one_pass))
    times.append(Part("network and the way back", total(through)))
    notes = []
    if failed:
        name, reason = failed[0]
        notes.append(f"{len(failed)} of the scans that were tried cannot be predicted, {name} first: {reason}")
    return scans.plan(needs, times, (*notes, ESTIMATES), prepare_s=prepare_s, pass_s=asdict(one_pass))


def _try_preparing(scans: ScansToPredict, budget_s: float) -> tuple[dict[str, float], list[tuple[str, str]]]:
    """Return the seconds of preprocessing a few scans, by case, and scans that cannot be used, with the reason."""
    took_s: dict[str, float] = {}
    failed: list[tuple[str, str]] = []
    began_s = time.monotonic()
    for entry in seeded_order(scans.found.entries, scans.settings.seed):
        if len(took_s) >= MOST_SCANS or (took_s and time.monotonic() - began_s > budget_s):
            break
        start_s = time.perf_counter()
        try:
            prepare(entry, scans.settings)
        except VocoError as error:
            failed.append((entry.name, error.message))
        else:
            took_s[entry.name] = time.perf_counter() - start_s
    return took_s, failed


def _window_seconds(trained: Trained) -> float:
    """Time a window, or a whole volume of a classification, through the network."""
    settings = trained.settings
    window = torch.zeros(1, len(settings.task.channels), *settings.input_size_vox, device=trained.device)
    return forward_seconds(trained, window)


def _header(entry: Entry) -> Header | None:
    """Return the header of a scan; None where it cannot be read, which the prediction will name."""
    try:
        return read_header(entry.image, entry.files)
    except (VocoError, OSError):
        return None


def _nbytes(header: Header) -> int:
    return math.prod(header.shape_xyz) * np.dtype(header.dtype).itemsize


def _advice(needs: Sequence[Need]) -> Iterator[str]:
    for need in needs:
        if need.fits:
            continue
        if need.kind == "disk":
            yield from disk_advice(need)
        else:
            yield "--set predict.window_batch=1 takes least memory; --set run.keep_memory=false a little less."
            yield "A scan that does not fit is named and left out by voco predict; the others are predicted."
