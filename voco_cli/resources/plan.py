"""From a sample and a trial to the plan of a training: disk, memory, time, and what to change."""

from __future__ import annotations

import os
import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain, zip_longest
from pathlib import Path
from statistics import fmean, median, quantiles
from typing import Any

from voco_cli.config import Settings
from voco_cli.config.schema import Train
from voco_cli.data.cache.disk_space import SPARE_BYTES
from voco_cli.data.cache.store import VolumeCache, cache_folder
from voco_cli.data.index.datalist import Datalist, Entry
from voco_cli.data.index.datalist_file import read_datalist
from voco_cli.errors import ResourceError, UsageError
from voco_cli.operating_system import free_host_bytes, usable_cores
from voco_cli.resources.advice import cache_memory_advice, disk_advice, training_advice
from voco_cli.resources.estimates import Amount, Known, Need, Part, Plan
from voco_cli.resources.sampling import (
    RunCases,
    SampledRun,
    Tell,
    bytes_below,
    case_size,
    existing_parent,
    mount_point,
    sample_run,
    seeded_order,
    temporary_folder,
)
from voco_cli.resources.subprocess_trial import Outcome, TooLargeError, run_apart, tidy_when_terminated
from voco_cli.resources.tried import FLOAT_BYTES, TRY_TRAINING, Steps, Trial, TrialRequest
from voco_cli.tasks.cases import StoredCase, open_cache
from voco_cli.tasks.find_data import find_task_data
from voco_cli.tasks.splits import subset
from voco_cli.training.dataloader import BatchPlan
from voco_cli.workflows.evaluate import MEASURABLE


@dataclass(frozen=True)
class Due:
    """What is still to come of a run.

    Attributes:
        steps: optimizer steps.
        validations: looks at held-out cases, that at the beginning not among them.
        checkpoints: that are written whatever the validations say.
        most_checkpoints: if every validation is the best so far.
    """

    steps: int
    validations: int
    checkpoints: int
    most_checkpoints: int


def due(train: Train, resumed_step: int = 0) -> Due:
    """Count what comes after a step."""
    last = train.steps
    if resumed_step >= last:
        return Due(0, 0, 0, 0)

    def multiples(every: int) -> int:
        return last // every - resumed_step // every + (last % every > 0)

    validations, checkpoints = multiples(train.validate_every), multiples(train.checkpoint_every)
    first = (resumed_step // train.validate_every + 1) * train.validate_every
    only_best = sum(1 for step in range(first, last, train.validate_every) if step % train.checkpoint_every)
    return Due(last - resumed_step, validations, checkpoints, checkpoints + only_best)


def resumed_step(run: Path) -> int:
    """The step of the last checkpoint in a run folder; 0 where there is none."""
    steps = [path.name.removeprefix("step-") for path in run.glob("checkpoints/step-*")]
    return max((int(step) for step in steps if step.isdigit()), default=0)


PACKED, LEAST_PACKED, MOST_PACKED = 40, 4, 220
"""Voxels of a compressed label map in a byte: 37 to 220 for a few organs, 12 for 61 structures at 3 mm, and 4 for the
noise of a network that has hardly been trained."""
MOST_IN_A_BYTE = 255


def disk_needs(wanted: Sequence[tuple[Path, Part]]) -> tuple[Need, ...]:
    """Add up what lies on the same file system, in the order in which file systems come.

    Args:
        wanted: folders, which need not exist yet, and what will lie there.
    """
    by_device: dict[int, tuple[Path, list[Part]]] = {}
    for folder, part in wanted:
        existing = existing_parent(folder)
        by_device.setdefault(existing.stat().st_dev, (existing, []))[1].append(part)
    return tuple(
        Need("disk", str(mount_point(existing)), tuple(parts), free_disk_bytes(existing))
        for existing, parts in by_device.values()
    )


def free_disk_bytes(folder: Path) -> int:
    """What may be written where an existing folder lies; a little is always left."""
    return max(0, shutil.disk_usage(folder).free - SPARE_BYTES)


def label_map_bytes(source_vox: Iterable[int], settings: Settings) -> Amount:
    """Bytes of predicted label maps on the scans' own grids; known exactly where they are not compressed."""
    largest = max((value for one in settings.task.classes for value in one.values), default=1)
    raw = float(sum(source_vox) * (1 if largest <= MOST_IN_A_BYTE else 2))
    if settings.predict.suffix == ".nii":
        return Amount.of(raw, "estimated")
    return Amount(raw / PACKED, "estimated", raw / MOST_PACKED, raw / LEAST_PACKED)


MEASURED_STEPS = 5
LOG_LINE_BYTES = 1200
"""What a logged step takes in metrics.jsonl and in TensorBoard together."""
SHARED = Path("/dev/shm")
IN_MEMORY_SHARE = 0.5
"""A cache that takes more of the free memory than this is read from the disk again and again."""
BUSY = 1.75
"""A load above so many times the cores, our own work included, stretches times."""
LONG_S = 2 * 24 * 3600.0
ON_A_PROCESSOR = "Days, as the steps are computed on a processor: a GPU, a smaller network or fewer steps take less."
TO_TRAIN, TO_BUILD = "training", "building the cache"


@dataclass(frozen=True)
class Extra:
    """What a kind of training has besides its steps.

    Attributes:
        disk: further parts in the run folder.
        before, after: parts of the time before the steps, and when they are done.
        validated_cases: that each validation looks at.
        validates_first: there is a validation before the first step.
        notes: to be shown.
    """

    disk: tuple[Part, ...] = ()
    before: tuple[Part, ...] = ()
    after: tuple[Part, ...] = ()
    validated_cases: float = 0.0
    validates_first: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tried:
    """A trial that was made, or why it was not.

    Attributes:
        trial: none where it ended before it could say anything.
        start_s: time until a run has its libraries.
        free_bytes: memory of the machine before it.
        reached_bytes: memory that it had taken when it was stopped; 0 where it was not.
        obstacle: the error that it ended with.
    """

    trial: Trial | None
    start_s: float
    free_bytes: int
    reached_bytes: int = 0
    obstacle: ResourceError | None = None


def try_steps(settings: Settings, run: SampledRun, folder: Path, budget_s: float, tell: Tell) -> Tried:
    """Run a few steps with the cases of a sample, if there are any to run them with.

    Raises:
        UsageError, DataError: what the run itself would end with.
    """
    free = free_host_bytes()
    if not run.training:
        return Tried(None, 0.0, free)
    tell(f"trying {MEASURED_STEPS} steps ...")
    request = TrialRequest(settings, run.training, run.held_out, folder, MEASURED_STEPS, budget_s)
    try:
        outcome: Outcome[Trial] = run_apart(TRY_TRAINING, request)
    except TooLargeError as error:
        return Tried(None, 0.0, free, error.reached_bytes)
    except ResourceError as error:
        return Tried(None, 0.0, free, obstacle=error)
    return Tried(outcome.result, outcome.start_s, free)


def training_plan(subject: str, settings: Settings, run: SampledRun, tried: Tried, extra: Extra) -> Plan:
    """Put together what a training will need."""
    resumed = resumed_step(settings.run.dir)
    to_do = due(settings.train, resumed)
    needs = (*_disk(settings, run, tried, extra, to_do), *_memory(run, tried, settings.data.prefetch))
    times = tuple(_times(settings, run, tried, extra, to_do, resumed))
    slow = sum(part.amount.value for part in times) > LONG_S and tried.trial and tried.trial.device == "cpu"
    obstacles = [error for error in (run.obstacle, tried.obstacle) if error is not None]
    return Plan(
        subject,
        needs,
        times,
        (*_notes(run, tried, resumed), *extra.notes, *((ON_A_PROCESSOR,) if slow else ())),
        (*(error.hint for error in obstacles if error.hint), *_advice(settings, run, tried, needs)),
        tuple(error.message for error in obstacles),
        _figures(run, tried, to_do),
    )


def _disk(settings: Settings, run: SampledRun, tried: Tried, extra: Extra, to_do: Due) -> Sequence[Need]:
    wanted: list[tuple[Path, Part]] = []
    if run.missing:
        wanted.append((run.cases.cache.folder, Part("cache", run.cache_bytes)))
    trial, folder = tried.trial, settings.run.dir
    if trial is not None and to_do.steps:
        parameters = trial.footprint.parameters
        one = parameters.checkpoint_bytes(settings.train.amsgrad)
        known: Known = "estimated" if trial.steps is None else "measured"
        one = one if trial.steps is None else trial.steps.checkpoint_bytes
        # Beside the last few and the best there is the one that is being written.
        at_once = min(settings.train.keep_checkpoints + 2, to_do.most_checkpoints)
        there = bytes_below(folder / "checkpoints")
        wanted.append((folder, Part("checkpoints", Amount.of(max(0, at_once * one - there), known))))
        wanted.append((folder, Part("weights", Amount.of(FLOAT_BYTES * parameters.exported, known))))
    lines = to_do.steps // settings.train.log_every + to_do.validations
    pictures = (to_do.validations + 1) * trial.looks.picture_bytes if trial is not None else 0
    wanted.append((folder, Part("figures and pictures", Amount.of(LOG_LINE_BYTES * lines + pictures, "estimated"))))
    wanted += [(folder, part) for part in extra.disk]
    return disk_needs(wanted)


def _memory(run: SampledRun, tried: Tried, prefetch: int) -> Iterator[Need]:
    free = tried.free_bytes
    building = run.building_bytes()
    if run.reached_bytes:
        reached = Part("when it was stopped", Amount.of(run.reached_bytes, "measured"))
        yield Need("memory", TO_BUILD, (reached,), free, at_least=True)
    if run.missing and building is not None:
        yield Need("memory", TO_BUILD, (Part(f"{run.processes} processes", building),), free)
    trial = tried.trial
    if tried.reached_bytes:
        reached = Part("when it was stopped", Amount.of(tried.reached_bytes, "measured"))
        yield Need("memory", TO_TRAIN, (reached,), free, at_least=True)
    if trial is None:
        return
    footprint, steps = trial.footprint, trial.steps
    host = Amount.of(steps.host_bytes, "measured") if steps else Amount.of(footprint.host_bytes, "estimated")
    yield Need("memory", TO_TRAIN, (Part("training", host),), free)
    if trial.loaders and trial.reads is not None and SHARED.is_dir():
        ahead = trial.loaders * prefetch * trial.reads.batch_bytes
        part = Part("batches ahead", Amount.of(ahead, "measured"))
        yield Need("shared memory", str(SHARED), (part,), free_disk_bytes(SHARED))
    if trial.device.startswith("cuda"):
        device = Amount.of(steps.device_bytes, "measured") if steps else Amount.of(footprint.device_bytes, "estimated")
        if trial.exhausted:
            device = Amount.of(trial.free_device_bytes, "measured")
        part = Part("training", device)
        yield Need("GPU memory", trial.device, (part,), trial.free_device_bytes, at_least=trial.exhausted)


def _times(settings: Settings, run: SampledRun, tried: Tried, extra: Extra, to_do: Due, resumed: int) -> Iterator[Part]:
    trial, build = tried.trial, run.build_s
    if trial is None or trial.steps is None:
        return
    yield Part("start", Amount.of(tried.start_s + trial.steps.setup_s, "measured"))
    if build is not None and run.missing:
        yield Part("cache", build)
    yield from extra.before
    step = step_seconds(settings, run, trial, trial.steps, tried.free_bytes)
    yield Part("steps", step.times(to_do.steps))
    looks = to_do.validations + (extra.validates_first and not resumed)
    if extra.validated_cases and looks:
        one_s = trial.looks.case_s * extra.validated_cases + trial.looks.picture_s
        yield Part("validations", Amount.of(looks * one_s, "measured"))
    if trial.steps.checkpoint_s is not None and to_do.checkpoints:
        one = Amount.of(trial.steps.checkpoint_s, "measured")
        most = one.value * to_do.most_checkpoints
        every = one.times(to_do.checkpoints)
        yield Part("checkpoints", Amount(every.value, "measured", every.low, most))
    yield from extra.after


def step_seconds(settings: Settings, run: SampledRun, trial: Trial, steps: Steps, free_bytes: int) -> Amount:
    """Seconds of an optimizer step: the median of those measured, or what the loaders need where that is more.

    The spread is that of the middle half of the steps. A cache that stays in memory is read from there; a larger one
    comes from the disk in every step.
    """
    times = sorted(steps.step_s)
    low, _, high = quantiles(times, n=4, method="inclusive") if len(times) > 1 else (times[0],) * 3
    middle = median(times)
    if trial.reads is None or run.cache_bytes.value < IN_MEMORY_SHARE * free_bytes:
        return Amount(middle, "measured", low, high)
    cases = settings.train.batch_size * settings.train.accumulate
    if not trial.loaders:
        more = cases * max(0.0, trial.reads.cold_s - trial.reads.warm_s)
        return Amount(middle + more, "measured", low + more, high + more)
    reading = cases * trial.reads.cold_s / trial.loaders
    return Amount(max(middle, reading), "measured", max(low, reading), max(high, reading))


def _notes(run: SampledRun, tried: Tried, resumed: int) -> Iterator[str]:
    if resumed:
        yield f"The run folder holds step {resumed}; what is left from there is planned."
    if not run.missing:
        yield "The cache holds every scan already."
    sample = run.sample
    if sample is not None and sample.failed:
        tries = len(sample.failed) + len(sample.cases)
        name, reason = sample.failed[0]
        yield f"{len(sample.failed)} of {tries} scans that were tried cannot be used, {name} first: {reason}"
    load = os.getloadavg()[0]
    if tried.trial is not None and load > BUSY * usable_cores():
        yield (
            f"Other programs keep this machine busy (a load of {load:.1f} on {usable_cores()} cores): "
            "times are those of now, and would be shorter on a quiet machine."
        )
    yield from _not_measured(run, tried)


def _not_measured(run: SampledRun, tried: Tried) -> Iterator[str]:
    if run.reached_bytes:
        yield "Not measured: preprocessing was stopped before it had taken all memory."
    if tried.reached_bytes:
        yield "Not measured: the steps were stopped before they had taken all memory."
    elif tried.trial is not None and tried.trial.exhausted:
        yield f"Not measured: the steps did not fit into the memory of {tried.trial.device}."
    elif tried.trial is not None and tried.trial.steps is None:
        yield "Not measured: no step was tried, as it would have taken most of the free memory."


def _advice(settings: Settings, run: SampledRun, tried: Tried, needs: Sequence[Need]) -> Iterator[str]:
    for need in needs:
        if need.fits:
            continue
        if need.kind == "disk":
            yield from disk_advice(need)
        elif need.kind == "shared memory":
            yield "--set data.prefetch=1 or data.workers=0 needs less shared memory; a container may be given more."
        elif need.where == TO_BUILD:
            one = run.builder_bytes
            yield cache_memory_advice(run.processes, one.value if one else 0.0, need.free_bytes)
        elif tried.trial is not None:
            import torch  # late: other settings are only looked for where these do not fit

            footprint, device = tried.trial.footprint, torch.device(tried.trial.device)
            expected = footprint.device_bytes if need.kind == "GPU memory" else footprint.host_bytes
            if need.at_least:  # how much more is not known, unless by the estimate
                part = Part("training", Amount.of(max(expected, need.needed_bytes), "estimated"))
                need = replace(need, parts=(part,))
            yield from training_advice(settings, device, tried.trial.loaders, need, expected)
        else:
            yield "Free some memory, or lower train.batch_size, task.patch_size or model.feature_size."


def _figures(run: SampledRun, tried: Tried, to_do: Due) -> dict[str, Any]:
    """Everything that was measured, as JSON has it."""
    sample = run.sample
    sampled = [
        {"image": str(one.entry.image), "build_s": one.build_s, "cache_bytes": one.cache_bytes}
        for one in (sample.cases if sample else ())
    ]
    return {
        "training_cases": len(run.cases.training),
        "held_out_cases": len(run.cases.held_out),
        "missing_in_cache": len(run.missing),
        "sample": sampled,
        "sample_failed": [{"case": name, "reason": reason} for name, reason in (sample.failed if sample else ())],
        "due": asdict(to_do),
        "trial": asdict(tried.trial) if tried.trial is not None else None,
    }


def plan_pretraining(settings: Settings, budget_s: float, tell: Tell) -> Plan:
    """Preprocess a few scans and run a few steps in a temporary folder, and work out what the whole run needs.

    Args:
        budget_s: about how long that may take.
        tell: what is being done.
    Raises:
        UsageError: settings or data file that the run would refuse, too.
        DataError: none of the scans that were tried can be used.
    """
    if settings.data.file is None:
        raise UsageError("No data file was given.", "voco plan data.json; `voco index FOLDER` writes one")
    datalist = read_datalist(settings.data.file)
    BatchPlan(len(datalist.training), settings.train.batch_size, settings.seed)  # refuses too few, as the run does
    cache = VolumeCache(cache_folder(settings.data.file, settings.cache), settings.preprocess, settings.cache)
    cases = RunCases(datalist.training, datalist.validation, cache)
    with tidy_when_terminated(), temporary_folder(cache.folder) as folder:
        order = seeded_order(cases.training, settings.seed)
        run, notes = _usable(sample_run(cases, order, settings.seed, folder, budget_s, tell), settings)
        tried = try_steps(settings, run, folder, budget_s, tell)
        looked_at = min(settings.health.cases, len(datalist.validation))
        extra = Extra(validated_cases=looked_at, validates_first=True, notes=notes)
        return training_plan("pre-training", settings, run, tried, extra)


def _usable(run: SampledRun, settings: Settings) -> tuple[SampledRun, tuple[str, ...]]:
    """The sample without scans that the grid does not fit into, and a note of them."""
    region = settings.crops.region_vox

    def fits(case: StoredCase) -> bool:
        return all(have >= need for have, need in zip(case.shape_xyz, region, strict=True))

    tried = [*run.training, *run.held_out]
    small = [case for case in tried if not fits(case)]
    if not small:
        return run, ()
    sizes = ["x".join(map(str, size)) for size in (small[0].shape_xyz, region)]
    what = f"{small[0].name} has {sizes[0]} voxels, and the grid needs {sizes[1]}"
    if not any(map(fits, run.training)):
        raise UsageError(
            f"None of the {len(run.training)} training scans that were tried is large enough after preprocessing; "
            f"{what}.",
            "choose a smaller crops.size or crops.grid, or pad with preprocess.min_size_vox",
        )
    training, held_out = (tuple(filter(fits, some)) for some in (run.training, run.held_out))
    note = f"{len(small)} of {len(tried)} scans that were tried are too small and would be left out; {what}."
    return replace(run, training=training, held_out=held_out), (note,)


def plan_finetuning(settings: Settings, budget_s: float, tell: Tell) -> Plan:
    """Preprocess a few cases and run a few steps in a temporary folder, and work out what the whole run needs.

    Args:
        budget_s: about how long that may take.
        tell: what is being done.
    Raises:
        UsageError: settings or data that the run would refuse, too.
        DataError: none of the cases that were tried can be used; label values that no class has.
    """
    if not settings.task.classes:
        raise UsageError(f"The task {settings.task.preset} has no classes.", "list them under task.classes")
    datalist = find_task_data(settings).datalist
    training = subset(datalist.training, settings.task, settings.seed)
    cases = RunCases(tuple(training), datalist.validation, open_cache(settings))
    with tidy_when_terminated(), temporary_folder(cases.cache.folder) as folder:
        order = _order(training, settings)
        run = sample_run(cases, order, settings.seed, folder, budget_s, tell)
        tried = try_steps(settings, run, folder, budget_s, tell)
        return training_plan(
            f"fine-tuning of {settings.task.name}", settings, run, tried, _extra(settings, datalist, run, tried)
        )


def _order(training: Sequence[Entry], settings: Settings) -> list[Entry]:
    """By seed; of a classification the categories in turn, as a few cases must show more than one."""
    groups: dict[str | None, list[Entry]] = defaultdict(list)
    for entry in seeded_order(training, settings.seed):
        groups[entry.category].append(entry)
    return [entry for entry in chain(*zip_longest(*groups.values())) if entry is not None]


def _extra(settings: Settings, datalist: Datalist, run: SampledRun, tried: Tried) -> Extra:
    """Surveying labels, validating whole scans, and predicting and measuring at the end."""
    measured = _measured(datalist, settings)
    disk: tuple[Part, ...] = ()
    if settings.task.kind == "segmentation":
        sizes = [size.source_vox for entry in measured if (size := case_size(entry, settings.preprocess))]
        channels = len(settings.task.channels)
        disk = (Part("predictions", label_map_bytes((vox // channels for vox in sizes), settings)),)
    if tried.trial is None or tried.trial.steps is None:
        return Extra(disk=disk)
    looks = tried.trial.looks
    build_s = fmean(one.build_s for one in run.sample.cases) if run.sample and run.sample.cases else 0.0
    ends = _alike(measured, settings, run, tried) * looks.case_s + len(measured) * (build_s + looks.measure_s)
    after = (Part("predicting and measuring at the end", Amount.of(ends, "measured")),)
    before: tuple[Part, ...] = ()
    if settings.task.kind == "segmentation":
        survey_s = looks.survey_s * (len(run.cases.training) + len(run.cases.held_out))
        before = (Part("looking at labels", Amount.of(survey_s, "measured")),)
    validated = _alike(datalist.validation, settings, run, tried)
    return Extra(disk=disk, before=before, after=after, validated_cases=validated)


def _measured(datalist: Datalist, settings: Settings) -> list[Entry]:
    """Cases that are predicted and measured when the run is done: of the test split, else of validation."""
    for split in MEASURABLE:
        entries: tuple[Entry, ...] = getattr(datalist, split)
        labelled = [one for one in entries if (one.label if settings.task.kind == "segmentation" else one.category)]
        if labelled:
            return labelled
    return []


def _alike(entries: Sequence[Entry], settings: Settings, run: SampledRun, tried: Tried) -> float:
    """As how many scans of the size of the one that was tried these count; all alike for a classification."""
    sweep = tried.trial.looks.sweep if tried.trial else None
    if sweep is None:
        return len(entries)
    channels = len(settings.task.channels)
    sizes = [case_size(entry, settings.preprocess) for entry in entries]
    return sum(size.source_vox / channels / sweep.source_vox if size else 1.0 for size in sizes)
