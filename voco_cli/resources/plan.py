"""The plan of a training, a pre-training or a fine-tuning: cases, costs of its pieces, and what they come to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from math import prod
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from voco_cli.config import Settings
from voco_cli.data.cache.store import VolumeCache, cache_folder
from voco_cli.data.index.datalist import Datalist, Entry
from voco_cli.data.index.datalist_file import read_datalist
from voco_cli.data.mixing import epoch_words
from voco_cli.errors import UsageError
from voco_cli.finetune.patches import survey_labels
from voco_cli.object_stores import is_remote
from voco_cli.operating_system import free_host_bytes
from voco_cli.resources.advice import cache_memory_advice, disk_advice, training_advice
from voco_cli.resources.amounts import CACHE, Amount, Need, Part, Plan, disk_needs, total
from voco_cli.resources.cases import RunCases, Say, case_shapes, readable_sizes, seeded_order
from voco_cli.resources.costs import (
    FLOAT_BYTES,
    MEASURE_S,
    PICTURE_BYTES,
    PROCESS_BYTES,
    START_S,
    SURVEY_S,
    TIME_FACTOR,
    WRITE_BYTES_PER_S,
    batch_voxels,
    case_seconds,
    count_parameters,
    pass_seconds,
    step_seconds,
    training_footprint,
    validation_seconds,
)
from voco_cli.resources.machine import bytes_below, free_disk_bytes, temporary_folder
from voco_cli.tasks.cases import open_cache
from voco_cli.tasks.find_data import find_task_data
from voco_cli.tasks.splits import subset
from voco_cli.tasks.targets import target_of
from voco_cli.training.checkpoint import resumed_step
from voco_cli.training.dataloader import BatchPlan, batches_at_once, loader_workers
from voco_cli.training.distributed import device_alone
from voco_cli.training.trainer import RemainingWork, remaining_work
from voco_cli.workflows.evaluate import MEASURABLE

PACKED, LEAST_PACKED, MOST_PACKED = 40, 4, 220
"""Voxels of a compressed label map in a byte: 37 to 220 for a few organs, 12 for 61 structures at 3 mm, and 4 for the
noise of a network that has hardly been trained."""
MOST_IN_A_BYTE = 255
LOG_LINE_BYTES = 1200
"""What a logged step takes in metrics.jsonl and in TensorBoard together."""
SHARED = Path("/dev/shm")
IN_MEMORY_SHARE = 0.5
"""A cache that takes more of the free memory than this is read from the disk again and again."""
HOST_FACTOR, DEVICE_FACTOR = 1.3, 1.2
"""Memory may come to so many times its estimate."""
LONG_S = 2 * 24 * 3600.0
ON_A_PROCESSOR = "Days, as the steps are computed on a processor: a GPU, a smaller network or fewer steps take less."
ESTIMATES = "Memory and time are estimates; `--dry-run` on the run itself takes three real steps and measures them."
TO_TRAIN, TO_BUILD = "training", "building the cache"


def label_map_bytes(source_vox: Iterable[int], settings: Settings) -> Amount:
    """Return the bytes of predicted label maps on the scans' own grids; exact where they are not compressed."""
    largest = max((value for one in settings.task.classes for value in one.values), default=1)
    raw = float(sum(source_vox) * (1 if largest <= MOST_IN_A_BYTE else 2))
    if settings.predict.suffix == ".nii":
        return Amount.of(raw, "estimated")
    return Amount(raw / PACKED, "estimated", raw / MOST_PACKED, raw / LEAST_PACKED)


@dataclass(frozen=True)
class RunCosts:
    """Time and memory of the pieces of a training: estimated from sizes, or measured by a dry run.

    Attributes:
        device: where it computes.
        start_s: until the first step.
        step_s: an optimizer step.
        validation_s: a validation of all its cases.
        checkpoint_s: writing one, its weights included.
        survey_s: going through all labels before training.
        end_s: predicting and measuring at the end.
        checkpoint_bytes, weights_bytes: as they are written.
        host_bytes: the most that the process and its loaders take.
        device_bytes: the same of a GPU; None where it has no memory of its own.
        free_host_bytes, free_device_bytes: before anything was made.
    """

    device: torch.device
    start_s: Amount
    step_s: Amount
    validation_s: Amount
    checkpoint_s: Amount
    checkpoint_bytes: Amount
    weights_bytes: Amount
    host_bytes: Amount
    device_bytes: Amount | None
    free_host_bytes: int
    free_device_bytes: int
    survey_s: Amount | None = None
    end_s: Amount | None = None


def estimate_costs(settings: Settings, validation_s: Amount, one_pass: Amount, device: torch.device) -> RunCosts:
    """Estimate what the pieces of a training take, by its settings and one crop through its network."""
    parameters = count_parameters(settings)
    footprint = training_footprint(settings, device, loader_workers(settings.data))
    checkpoint_bytes = parameters.checkpoint_bytes(settings.train.amsgrad)
    host, on_gpu = float(footprint.host_bytes), device.type == "cuda"
    return RunCosts(
        device,
        start_s=Amount.within(START_S, TIME_FACTOR),
        step_s=step_seconds(settings, one_pass),
        validation_s=validation_s,
        checkpoint_s=Amount.within(checkpoint_bytes / WRITE_BYTES_PER_S, 3.0),
        checkpoint_bytes=Amount.of(checkpoint_bytes, "estimated"),
        weights_bytes=Amount.of(FLOAT_BYTES * parameters.exported, "estimated"),
        host_bytes=Amount(host, "estimated", host / HOST_FACTOR, host * HOST_FACTOR),
        device_bytes=Amount.within(footprint.device_bytes, DEVICE_FACTOR) if on_gpu else None,
        free_host_bytes=free_host_bytes(),
        free_device_bytes=torch.cuda.mem_get_info(device)[0] if on_gpu else 0,
    )


@dataclass(frozen=True)
class TrainingPlan:
    """The parts of a plan of a training, put together by `plan`.

    Attributes:
        subject: in a few words.
        settings: of the whole run.
        cases: that it reads.
        costs: of its pieces.
        predictions: bytes of label maps that it will write at the end.
        notes: to be shown.
        figures: measured besides, for ``--json``.
    """

    subject: str
    settings: Settings
    cases: RunCases
    costs: RunCosts
    predictions: Amount | None = None
    notes: tuple[str, ...] = ()
    figures: dict[str, Any] = field(default_factory=dict)

    def plan(self) -> Plan:
        """Work out disk, memory, time and what to change."""
        needs, times = (*self._disk(), *self._memory()), tuple(self._times())
        slow = self.costs.device.type == "cpu" and sum(part.amount.value for part in times) > LONG_S
        notes = (*self._notes(), *self.notes, *((ON_A_PROCESSOR,) if slow else ()))
        return Plan(self.subject, needs, times, notes, tuple(self._advice(needs)), self._figures())

    @property
    def resumed(self) -> int:
        """Return the step that the run folder holds."""
        return resumed_step(self.settings.run.dir)

    @property
    def work(self) -> RemainingWork:
        """Return what is left of the run."""
        return remaining_work(self.settings.train, self.resumed)

    def _disk(self) -> Sequence[Need]:
        train, folder, costs, work = self.settings.train, self.settings.run.dir, self.costs, self.work
        wanted: list[tuple[Path, Part]] = []
        if self.cases.missing and not is_remote(self.cases.cache.folder):
            wanted.append((self.cases.cache.folder, Part(CACHE, self.cases.cache_bytes)))
        if work.steps:
            # Beside the last few and the best there is the one that is being written.
            at_once = min(train.keep_checkpoints + 2, work.most_checkpoints)
            there = bytes_below(folder / "checkpoints")
            one = costs.checkpoint_bytes
            wanted.append((folder, Part("checkpoints", Amount.of(max(0, at_once * one.value - there), one.known))))
            wanted.append((folder, Part("weights", costs.weights_bytes)))
        pictures = 0 if self.settings.task.preset else (work.validations + 1) * PICTURE_BYTES
        written = LOG_LINE_BYTES * (work.steps // train.log_every + work.validations) + pictures
        wanted.append((folder, Part("figures and pictures", Amount.of(written, "estimated"))))
        if self.predictions is not None:
            wanted.append((folder, Part("predictions", self.predictions)))
        return disk_needs(wanted)

    def _memory(self) -> Iterator[Need]:
        costs, cases, data = self.costs, self.cases, self.settings.data
        if cases.missing:
            building = Amount.within(cases.processes * cases.builder_bytes + PROCESS_BYTES, HOST_FACTOR)
            yield Need("memory", TO_BUILD, (Part(f"{cases.processes} processes", building),), costs.free_host_bytes)
        yield Need("memory", TO_TRAIN, (Part("training", costs.host_bytes),), costs.free_host_bytes)
        if (loaders := loader_workers(data)) and SHARED.is_dir():
            ahead = Amount.of(loaders * batches_at_once(data) * batch_voxels(self.settings), "estimated")
            yield Need("shared memory", str(SHARED), (Part("batches of the loader", ahead),), free_disk_bytes(SHARED))
        if costs.device_bytes is not None:
            part = Part("training", costs.device_bytes)
            yield Need("GPU memory", str(costs.device), (part,), costs.free_device_bytes)

    def _times(self) -> Iterator[Part]:
        costs, work, build_s = self.costs, self.work, self.cases.build_s
        yield Part("start", costs.start_s)
        if self.cases.missing and build_s is not None:
            yield Part(CACHE, build_s)
        if costs.survey_s is not None:
            yield Part("looking at labels", costs.survey_s)
        yield Part("steps", costs.step_s.times(work.steps))
        validations = work.validations + (self.settings.task.preset is None and not self.resumed)
        if self.cases.held_out and validations:
            yield Part("validations", costs.validation_s.times(validations))
        if work.checkpoints:
            every = costs.checkpoint_s.times(work.checkpoints)
            most = costs.checkpoint_s.high * work.most_checkpoints
            yield Part("checkpoints", Amount(every.value, every.known, every.low, most))
        if costs.end_s is not None:
            yield Part("predicting and measuring at the end", costs.end_s)

    def _notes(self) -> Iterator[str]:
        cases, free = self.cases, self.costs.free_host_bytes
        if self.resumed:
            yield f"The run folder holds step {self.resumed}; what is left from there is planned."
        if not cases.missing:
            yield "The cache holds every scan already."
        if cases.not_tried is not None:
            yield cases.not_tried
        if cases.failed:
            name, reason = cases.failed[0]
            tries = len(cases.failed) + len(cases.tried)
            yield f"{len(cases.failed)} of {tries} scans that were tried cannot be used, {name} first: {reason}"
        if cases.cache_bytes.value > IN_MEMORY_SHARE * free:
            yield "The cache is too large to stay in memory, so steps read it from the disk; voco doctor says how fast."

    def _advice(self, needs: Sequence[Need]) -> Iterator[str]:
        for need in needs:
            if need.fits:
                continue
            if need.kind == "disk":
                yield from disk_advice(need)
            elif need.kind == "shared memory":
                yield "--set data.prefetch=1 or data.workers=0 needs less shared memory; a container may be given more."
            elif need.where == TO_BUILD:
                yield cache_memory_advice(self.cases.processes, self.cases.builder_bytes, need.free_bytes)
            else:
                yield from training_advice(self.settings, self.costs.device, loader_workers(self.settings.data), need)

    def _figures(self) -> dict[str, Any]:
        """Return everything that was counted or measured, as JSON has it."""
        cases = self.cases
        tried = [
            {"image": str(one.entry.image), "build_s": one.build_s, "cache_bytes": one.cache_bytes}
            for one in cases.tried
        ]
        return {
            "training_cases": len(cases.training),
            "held_out_cases": len(cases.held_out),
            "missing_in_cache": len(cases.missing),
            "sample": tried,
            "sample_failed": [{"case": name, "reason": reason} for name, reason in cases.failed],
            "due": asdict(self.work),
            "costs": {**asdict(self.costs), "device": str(self.costs.device)},
            **self.figures,
        }


def plan_pretraining(settings: Settings, budget_s: float, say: Say) -> Plan:
    """Work out what a pre-training needs: a few scans are preprocessed, and one crop goes through the encoder.

    Args:
        budget_s: about how long scans are tried.
        say: shows what is being done.
    Raises:
        UsageError: settings or data file that the run would refuse, too.
        DataError: none of the scans that were tried can be used.
    """
    cases = pretraining_cases(settings)
    with temporary_folder(cases.cache.folder) as folder:
        cases.find_missing(say)
        cases.try_some(seeded_order(cases.everyone, settings.seed), folder, budget_s, say)
        notes = refuse_small(cases, settings)
    device = device_alone(settings.run)[0]
    one_pass = pass_seconds(settings, device)
    validation_s = validation_seconds(settings, len(cases.held_out), one_pass)
    costs = estimate_costs(settings, validation_s, one_pass, device)
    notes = (*notes, *drawn_sets(cases.training, settings), ESTIMATES)
    return TrainingPlan("pre-training", settings, cases, costs, notes=notes).plan()


def pretraining_cases(settings: Settings) -> RunCases:
    """Return the cases of a pre-training.

    Raises:
        UsageError: no data file, or fewer scans than a step needs.
    """
    if settings.data.file is None:
        raise UsageError("No data file was given.", "voco plan data.json; `voco index FOLDER` writes one")
    datalist = read_datalist(settings.data.file)
    BatchPlan(len(datalist.training), settings.train.batch_size, settings.seed)  # refuses too few, as the run does
    folder, labels = cache_folder(settings.data.file, settings.cache), settings.objective.needs_labels
    cache = VolumeCache(folder, settings.preprocess, settings.cache, labels=labels)
    return RunCases(datalist.training, datalist.validation, cache)


def drawn_sets(training: Sequence[Entry], settings: Settings) -> tuple[str, ...]:
    """Return a note of how often one process draws each set of scans in an epoch, where there are several."""
    width = settings.train.batch_size
    words = epoch_words((one.set_name for one in training), settings.data.mix, len(training) // width, width)
    return (f"{words[0].upper()}{words[1:]}.",) if words else ()


def refuse_small(cases: RunCases, settings: Settings) -> tuple[str, ...]:
    """Return a note of the scans that the grid of crops does not fit into.

    Raises:
        UsageError: it fits into none of the training scans that were tried.
    """
    region, training = settings.objective.region_vox(settings.crops), {entry.image for entry in cases.training}
    small = [one for one in cases.stored if any(map(int.__lt__, one.shape_xyz, region))]
    if not small:
        return ()
    sizes = ["x".join(map(str, size)) for size in (small[0].shape_xyz, region)]
    what = f"{small[0].name} has {sizes[0]} voxels, and the grid needs {sizes[1]}"
    tried = [one for one in cases.stored if one.entry.image in training]
    if all(one in small for one in tried):
        raise UsageError(
            f"None of the {len(tried)} training scans that were tried is large enough after preprocessing; {what}.",
            "choose a smaller crops.size or crops.grid, or pad with preprocess.min_size_vox",
        )
    return (f"{len(small)} of {len(cases.stored)} scans that were tried are too small and would be left out; {what}.",)


def plan_finetuning(settings: Settings, budget_s: float, say: Say) -> Plan:
    """Work out what a fine-tuning needs: a few cases are preprocessed, and one patch goes through the network.

    Args:
        budget_s: about how long cases are tried.
        say: shows what is being done.
    Raises:
        UsageError: settings or data that the run would refuse, too.
        DataError: none of the cases that were tried can be used; label values that no class has.
    """
    if not settings.task.classes:
        raise UsageError(f"The task {settings.task.preset} has no classes.", "list them under task.classes")
    datalist = find_task_data(settings).datalist
    cases = finetuning_cases(settings, datalist)
    with temporary_folder(cases.cache.folder) as folder:
        cases.find_missing(say)
        cases.try_some(seeded_order(cases.everyone, settings.seed), folder, budget_s, say)
        if settings.task.is_voxelwise:
            survey_labels(cases.stored, settings.task)  # refuses labels that no class has
    device = device_alone(settings.run)[0]
    one_pass = pass_seconds(settings, device)
    validation_s = predicting_seconds(datalist.validation, settings, one_pass)
    costs = estimate_costs(settings, validation_s, one_pass, device)
    survey_s, end_s = _labelled_seconds(settings, datalist, cases, one_pass)
    costs = replace(costs, survey_s=survey_s, end_s=end_s)
    return labelled_plan(settings, datalist, cases, costs, (ESTIMATES,))


def finetuning_cases(settings: Settings, datalist: Datalist) -> RunCases:
    """Return the cases that a fine-tuning reads from its cache."""
    training = subset(datalist.training, settings.task, settings.seed)
    return RunCases(tuple(training), datalist.validation, open_cache(settings))


def labelled_plan(
    settings: Settings, datalist: Datalist, cases: RunCases, costs: RunCosts, notes: tuple[str, ...], **figures: Any
) -> Plan:
    """Put together the plan of a fine-tuning, whose end predicts the cases that are measured."""
    predictions: Amount | None = None
    if settings.task.is_voxelwise:
        channels = len(settings.task.channels)
        sizes = readable_sizes(measured_entries(datalist, settings), settings.preprocess)
        predictions = label_map_bytes((size.source_vox // channels for size in sizes), settings)
    subject = f"fine-tuning of {settings.task.name}"
    return TrainingPlan(subject, settings, cases, costs, predictions, notes, figures).plan()


def measured_entries(datalist: Datalist, settings: Settings) -> list[Entry]:
    """Return the cases that are predicted and measured when the run is done: of the test split, else of validation."""
    target = target_of(settings.task)
    labelled = ([one for one in getattr(datalist, split) if target.is_known(one)] for split in MEASURABLE)
    return next(filter(None, labelled), [])


def predicting_seconds(entries: Iterable[Entry], settings: Settings, one_pass: Amount) -> Amount:
    """Return the seconds of predicting cases, their preprocessing left out."""
    shapes = [found for entry in entries if (found := case_shapes(entry, settings.preprocess)) is not None]
    return total([case_seconds(prepared, prod(source), settings, one_pass) for source, prepared in shapes])


def _labelled_seconds(
    settings: Settings, datalist: Datalist, cases: RunCases, one_pass: Amount
) -> tuple[Amount | None, Amount]:
    """Estimate going through all labels before training, and predicting and measuring at the end."""
    measured, labels = measured_entries(datalist, settings), settings.task.is_voxelwise
    rest_s = len(measured) * fmean(one.build_s for one in cases.tried) if cases.tried else 0.0
    if labels:
        source_vox = sum(size.source_vox for size in readable_sizes(measured, settings.preprocess))
        rest_s += source_vox * len(settings.task.classes) * MEASURE_S
    end = [predicting_seconds(measured, settings, one_pass), Amount.within(rest_s, TIME_FACTOR)]
    labelled_vox = sum(size.prepared_vox for size in readable_sizes(cases.everyone, settings.preprocess))
    return Amount.within(labelled_vox * SURVEY_S, TIME_FACTOR) if labels else None, total(end)
