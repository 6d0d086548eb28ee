"""`--dry-run`: three real steps, or one real case, in a temporary folder that is removed; the whole from there."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from math import prod
from pathlib import Path
from statistics import fmean, median
from typing import Any

import psutil
import torch

from voco_cli.config import Resolved, Settings
from voco_cli.config.stages import stages_apart
from voco_cli.data.index.datalist import Datalist, Entry
from voco_cli.data.index.datalist_file import write_datalist
from voco_cli.data.index.intensity import INTENSITY
from voco_cli.errors import DataError, UsageError
from voco_cli.operating_system import free_host_bytes, peak_memory_bytes
from voco_cli.predict.predictor import Trained
from voco_cli.resources.amounts import Amount, Need, Part, Plan, disk_needs, in_stages
from voco_cli.resources.cases import RunCases, is_cached, readable_sizes, seeded_order
from voco_cli.resources.machine import bytes_below, temporary_folder
from voco_cli.resources.plan import (
    RunCosts,
    TrainingPlan,
    drawn_sets,
    finetuning_cases,
    labelled_plan,
    measured_entries,
    pretraining_cases,
    refuse_small,
)
from voco_cli.resources.plan_predict import LARGEST, MOST_SCANS, ScansToPredict
from voco_cli.task_kinds import kind_of
from voco_cli.tasks.find_data import TaskData
from voco_cli.training.callbacks import Callback, Values
from voco_cli.training.distributed import device_alone
from voco_cli.workflows.finetune import run_finetuning
from voco_cli.workflows.finetune_checks import before_finetuning
from voco_cli.workflows.pretrain import run_pretraining
from voco_cli.workflows.pretrain_checks import before_pretraining

STEPS = 3
"""The first one makes room, and does not count."""
SPARE_CASES = 2
"""Cases beyond those that the steps take, as one may be damaged."""


class StepClock(Callback):
    """Takes the time of each phase of a short run; all but warnings, which the checks have given, is passed on.

    Args:
        callback: of the command.
        whole: what the whole run has instead of what the short one prepares: its folder and its data.
    """

    def __init__(self, callback: Callback, **whole: Any) -> None:
        self.callback, self.whole = callback, whole
        self.began_s = self.last_s = time.perf_counter()
        self.start_s = self.validation_s = self.checkpoint_s = self.survey_s = 0.0
        self.step_s: list[float] = []
        self.wait: list[float] = []
        self.loader_bytes = 0

    def building(self, total: int) -> AbstractContextManager[Callable[[str, str | None], None]]:
        """Pass on the progress of the cache."""
        return self.callback.building(total)

    @contextmanager
    def progress(self, description: str, total: int) -> Iterator[Callable[..., None]]:
        """Take the time of going through the labels."""
        began_s = time.perf_counter()
        with self.callback.progress(description, total) as advance:
            yield advance
        if description == "labels":
            self.survey_s = time.perf_counter() - began_s

    def prepared(self, prepared: Any) -> None:
        """Pass on what is about to run."""
        self.callback.prepared(replace(prepared, **self.whole))

    def started(self, step: int, steps: int) -> None:
        """Note how long the start took."""
        self.start_s = self._lap() - self.survey_s

    def advanced(self, step: int) -> None:
        """Note how long a step took."""
        self.step_s.append(self._lap())
        if step == STEPS:
            self.loader_bytes = loader_memory_bytes()

    def trained(self, step: int, values: Values) -> None:
        """Note the share of a step that was spent waiting for data."""
        self.wait.append(values["data_wait"])
        self._lap()

    def validated(self, step: int, values: Values) -> None:
        """Note how long held-out cases took."""
        self.validation_s = self._lap()

    def ended(self) -> None:
        """Note how long the last checkpoint took."""
        self.checkpoint_s = self._lap()

    def _lap(self) -> float:
        now_s = time.perf_counter()
        lap_s, self.last_s = now_s - self.last_s, now_s
        return lap_s

    @property
    def step(self) -> Amount:
        """Return the seconds of an optimizer step, the first one left out."""
        counted = self.step_s[1:]
        return Amount(median(counted), "measured", min(counted), max(counted))


def process_bytes() -> int:
    """Return the most memory that this process has had; what it has now where the system does not say."""
    return peak_memory_bytes() or int(psutil.Process().memory_info().rss)


def loader_memory_bytes() -> int:
    """Return the memory that only the processes started by this one have, each for itself."""
    total = 0
    for child in psutil.Process().children(recursive=True):
        try:
            total += child.memory_full_info().uss
        except psutil.Error:
            continue
    return total


@dataclass
class ShortRun:
    """A run of three steps of a few cases, in a temporary folder.

    Attributes:
        resolved: of the whole run.
        cases: of the whole run.
        folder: temporary.
        clock: callback of the short run.
        free_bytes, free_device_bytes: before anything was made.
    """

    resolved: Resolved
    cases: RunCases
    folder: Path
    clock: StepClock
    free_bytes: int = field(default_factory=free_host_bytes)
    free_device_bytes: int = 0

    def __post_init__(self) -> None:
        self.device = device_alone(self.settings.run)[0]
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            self.free_device_bytes = torch.cuda.mem_get_info(self.device)[0]

    @property
    def settings(self) -> Settings:
        """Return the settings of the whole run."""
        return self.resolved.settings

    def shortened(self, datalist: Datalist) -> Resolved:
        """Return the settings of the short run; its cases are preprocessed in the folder, unless the cache has them."""
        data = self.folder / "data.json"
        write_datalist(datalist, data)
        there = all(is_cached(entry, self.cases.cache) for entry in (*datalist.training, *datalist.validation))
        if not there:
            self.cases.try_all((*datalist.training, *datalist.validation), self.folder)
        train = {"steps": STEPS, "log_every": 1, "validate_every": STEPS, "checkpoint_every": STEPS}
        changes: dict[str, dict[str, Any]] = {
            "train": train,
            "data": {"file": data, "root": None},
            "run": {"dir": self.folder / "run"},
            "cache": {"dir": self.cases.cache.folder if there else self.folder / "cache"},
            "task": {"cases": None, "fraction": 1.0, "split": None, "table": None},
        }
        values = self.settings.model_dump()
        for section, changed in changes.items():
            values[section] |= changed
        # The modality was judged by all scans, and a few of them change nothing.
        sources = {**self.resolved.sources, INTENSITY: "the whole run"}
        return Resolved(Settings.model_validate(values), sources)

    def costs(self, num_held_out: int, weights: str) -> RunCosts:
        """Return what the pieces of the run took.

        Args:
            num_held_out: cases of a validation of the whole run, for one of this.
            weights: name of the exported file.
        """
        clock, run, measured = self.clock, self.folder / "run", partial(Amount.of, known="measured")
        (checkpoint,) = (run / "checkpoints").glob(f"step-*{STEPS}")
        on_gpu = self.device.type == "cuda"
        return RunCosts(
            self.device,
            start_s=measured(clock.start_s),
            step_s=clock.step,
            validation_s=measured(clock.validation_s * num_held_out),
            checkpoint_s=measured(clock.checkpoint_s),
            checkpoint_bytes=measured(bytes_below(checkpoint)),
            weights_bytes=measured((run / "weights" / weights).stat().st_size),
            host_bytes=measured(process_bytes() + clock.loader_bytes),
            device_bytes=measured(torch.cuda.max_memory_allocated(self.device)) if on_gpu else None,
            free_host_bytes=self.free_bytes,
            free_device_bytes=self.free_device_bytes,
        )

    @property
    def figures(self) -> dict[str, Any]:
        """What was measured of each step, for ``--json``."""
        return {"step_s": self.clock.step_s, "data_wait": self.clock.wait}

    def notes(self) -> tuple[str, ...]:
        """Say what a step took."""
        step, first = self.clock.step, self.clock.step_s[0]
        wait = fmean(self.clock.wait[1:])
        return (
            f"Of {STEPS} steps that ran, the first took {first:.3g} s, the others {step.low:.3g} to {step.high:.3g} "
            f"s, {wait:.0%} of it waiting for data. Everything was removed again.",
        )


def dry_pretraining(resolved: Resolved, callback: Callback) -> Plan:
    """Run three steps of each stage of a pre-training, and work out what all of it will take; nothing is left behind.

    Raises:
        UsageError, DataError, ResourceError: what the run itself would end with.
    """
    _require_one_process()
    return in_stages([_dry_stage(stage, callback) for stage in stages_apart(resolved)])


def _dry_stage(resolved: Resolved, callback: Callback) -> Plan:
    resolved, datalist = before_pretraining(resolved, callback)
    settings = resolved.settings
    cases = pretraining_cases(settings)
    cases.find_missing(callback.say)
    with temporary_folder(cases.cache.folder) as folder:
        short = ShortRun(resolved, cases, folder, StepClock(callback, folder=settings.run.dir))
        few = {"training": _few(datalist.training, settings), "validation": datalist.validation[:1], "test": ()}
        run_pretraining(short.shortened(datalist.model_copy(update={**few, "skipped": ()})), short.clock)
        notes = (*refuse_small(cases, settings), *drawn_sets(datalist.training, settings), *short.notes())
        costs = short.costs(min(settings.health.cases, len(datalist.validation)), "encoder.safetensors")
    return TrainingPlan("pre-training", settings, cases, costs, notes=notes, figures=short.figures).plan()


def dry_finetuning(resolved: Resolved, callback: Callback) -> Plan:
    """Run three steps of a fine-tuning, its end included, and work out what the whole of it will take.

    Raises:
        UsageError, DataError, ResourceError: what the run itself would end with.
    """
    _require_one_process()
    resolved, data = before_finetuning(resolved, callback)
    settings = resolved.settings
    cases = finetuning_cases(settings, data.datalist)
    cases.find_missing(callback.say)
    with temporary_folder(cases.cache.folder) as folder:
        short = ShortRun(resolved, cases, folder, StepClock(callback, folder=settings.run.dir, data=data))
        few = _few_labelled(data, cases, settings)
        run_finetuning(short.shortened(few), short.clock)
        after_s = time.perf_counter() - short.clock.last_s
        costs = short.costs(1, "model.safetensors")

    def share(whole: Sequence[Entry], tried: Sequence[Entry]) -> float:
        """Return how many times as many voxels the cases of the whole run have."""
        vox, of_tried = (
            sum(size.source_vox for size in readable_sizes(some, settings.preprocess)) for some in (whole, tried)
        )
        return vox / (of_tried or 1)

    survey_s = Amount.of(short.clock.survey_s * len(cases.everyone) / len(list(few.entries())), "measured")
    end_share = share(measured_entries(data.datalist, settings), measured_entries(few, settings))
    costs = replace(
        costs,
        validation_s=costs.validation_s.times(share(data.datalist.validation, few.validation)),
        survey_s=survey_s if settings.task.is_voxelwise else None,
        end_s=Amount.of(after_s * end_share, "measured"),
    )
    return labelled_plan(settings, data.datalist, cases, costs, short.notes(), **short.figures)


def dry_prediction(trained: Trained, inputs: Sequence[Path], output: Path) -> Plan:
    """Predict the largest scan that can be predicted into a temporary folder, and work out what all of them will take.

    Raises:
        UsageError, DataError: there is no scan, or none of the largest can be predicted.
    """
    scans, on_gpu = ScansToPredict.find(trained, inputs, output), trained.device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(trained.device)
    failed: list[str] = []
    with temporary_folder(output) as folder:
        for entry in scans.largest_first[:MOST_SCANS]:
            start_s = time.perf_counter()
            reason = _predict_one(trained, entry, folder)
            took_s = time.perf_counter() - start_s
            if reason is None:
                break
            failed.append(f"{entry.name} cannot be predicted: {reason}")
        else:
            raise DataError(failed[0], "The largest scans were tried, as memory is measured on them.")
        label_map = folder / f"{entry.name}{trained.settings.predict.suffix}"
        written = label_map.stat().st_size if label_map.is_file() else 0
    voxels = {name: prod(header.shape_xyz) for name, header in scans.headers.items()}
    factor = sum(voxels.values()) / voxels[entry.name]
    peak = Part(LARGEST, Amount.of(process_bytes(), "measured"))
    needs = [Need("memory", LARGEST, (peak,), scans.free_bytes + scans.own_bytes)]
    if on_gpu:
        on_device = Part(LARGEST, Amount.of(torch.cuda.max_memory_allocated(trained.device), "measured"))
        needs.append(Need("GPU memory", str(trained.device), (on_device,), scans.free_device_bytes))
    predictions = Part("predictions", Amount.of(written * factor, "measured"))
    needs += disk_needs([(output, predictions)]) if written else scans.disk()
    times = [Part("predicting", Amount.of(took_s * factor, "measured"))]
    note = (
        f"{entry.name} was predicted in {took_s:.3g} s and removed again; the time of the others goes by their voxels."
    )
    return scans.plan(needs, times, (*failed, note), case_s=took_s)


def _predict_one(trained: Trained, entry: Entry, folder: Path) -> str | None:
    """Predict a case into a folder; return the reason where it failed."""
    report = kind_of(trained.settings.task).predict(trained, [entry], folder)
    return dict(report.failed).get(entry.name)


def _require_one_process() -> None:
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError("--dry-run measures one process.", "call voco without the launcher of several processes")


def _few(training: Sequence[Entry], settings: Settings) -> tuple[Entry, ...]:
    """Return as many cases as three batches take, and a few to spare."""
    order = seeded_order(training, settings.seed)
    if settings.task.preset is None and settings.objective.needs_labels:
        order = sorted(order, key=lambda entry: not entry.labelled_classes)
    if settings.task.preset is None and settings.objective.weak.weight > 0:  # one is enough
        first = next((entry for entry in order if entry.scan_labels), order[0])
        order = sorted(order, key=lambda entry: entry is not first)
    return tuple(order[: STEPS * settings.train.batch_size + SPARE_CASES])


def _few_labelled(data: TaskData, cases: RunCases, settings: Settings) -> Datalist:
    """Return cases for three steps, of each category at least one, and one that validates and is measured."""
    training = list(_few(cases.training, settings))
    known = {entry.category for entry in training}
    for entry in cases.training:
        if entry.category not in known:
            training.append(entry)
            known.add(entry.category)
    validation, test = tuple(data.datalist.validation[:1]), tuple(measured_entries(data.datalist, settings)[:1])
    update = {"training": tuple(training), "validation": validation, "test": () if validation else test}
    return data.datalist.model_copy(update=update)
