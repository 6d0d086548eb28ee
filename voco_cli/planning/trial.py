"""A few real steps of a real job, and what they took; runs in a process of its own, in a folder that is removed."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from statistics import fmean, median
from typing import Any

import psutil
import torch
from torch import Tensor

from voco_cli.dataset.seen import Seen
from voco_cli.downstream.batches.stored_case import StoredCase
from voco_cli.downstream.batches.survey import survey_labels
from voco_cli.engine.checkpoints import save_checkpoint
from voco_cli.engine.device import build_accelerator
from voco_cli.engine.faults import machine_faults_told
from voco_cli.engine.job import Values
from voco_cli.engine.loading import loader_workers
from voco_cli.engine.loop import Loop
from voco_cli.engine.run_folder import RunFolder
from voco_cli.engine.unwatched import Unwatched
from voco_cli.errors import ResourceError
from voco_cli.finetuning.classification_job import ClassificationJob
from voco_cli.finetuning.segmentation_job import SegmentationJob
from voco_cli.host_memory import free_host_bytes
from voco_cli.networks.weights.start import load_start
from voco_cli.operating_system import peak_memory_bytes
from voco_cli.planning.footprint import training_footprint
from voco_cli.planning.looks import AnyJob, take_looks
from voco_cli.planning.places import bytes_below
from voco_cli.planning.reads import time_reads
from voco_cli.planning.tried import Looks, Steps, Trial, TrialRequest
from voco_cli.pretraining.crops import Case
from voco_cli.pretraining.job import PretrainingJob

RUN = "run"
SAFE_SHARE = 0.6
"""A trial may be expected to take this share of the free memory of the machine."""
HOPELESS = 2.0
"""A device refuses what it has no room for, and nothing else suffers: only what is expected to take so many times its
free memory is not tried."""
SLOW_STEP_S = 5.0
"""Where the first step takes longer, it is the only one that warms up."""
QUICK_S, MANY = 5.0, 8
"""Steps that take less than a moment are measured for so long, up to so many times the number that is asked for."""
CHECKPOINT_SHARE = 0.1
"""A checkpoint is tried where it takes no more than this share of the free disk."""


def try_training(request: TrialRequest) -> Trial:
    """Make the job, run some steps of the loop, and look at held-out cases once.

    Raises:
        UsageError: settings or weights that the run would refuse, too.
        DataError: label values that no class has; a loss that is not finite.
    """
    settings, start_s = request.settings, time.perf_counter()
    accelerator = build_accelerator(settings.run)
    setup_s = time.perf_counter() - start_s
    device = accelerator.device
    loaders = loader_workers(settings.data)
    precision = str(accelerator.mixed_precision).replace("no", "fp32")
    free_device = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0
    footprint = training_footprint(settings, device, loaders)
    seen = Trial(str(device), precision, footprint, free_host_bytes(), free_device, loaders)
    own_bytes = peak_memory_bytes()  # is no longer free, and will be taken all the same
    expected = max(0, footprint.host_bytes - own_bytes)
    if expected > SAFE_SHARE * seen.free_host_bytes or footprint.device_bytes > HOPELESS * free_device:
        return seen
    reads = time_reads(request.training, settings)
    start_s = time.perf_counter()
    job = _make_job(request, device)
    setup_s += time.perf_counter() - start_s
    try:
        steps, looks = _run(job, request, accelerator, setup_s)
    except ResourceError as error:
        if not isinstance(error.__cause__, torch.OutOfMemoryError):
            raise
        return replace(seen, reads=reads, exhausted=True)
    return replace(seen, steps=steps, reads=reads, looks=looks)


class _EnoughSteps(Exception):
    """Ends the loop before it would write anything of a finished run."""


class _Clock(Unwatched):
    """Takes the time of each step, and ends the loop when it has enough."""

    def __init__(self, wanted: int, budget_s: float) -> None:
        self.wanted, self.budget_s = wanted, budget_s
        self.times_s: list[float] = []
        self.cpu_s: list[float] = []
        self.waits: list[float] = []
        self.loader_bytes = 0
        self.began_s = self.last_s = time.perf_counter()

    @property
    def warm_up(self) -> int:
        """Steps that do not count."""
        return 1 if self.times_s and self.times_s[0] > SLOW_STEP_S else 2

    @property
    def measured_s(self) -> list[float]:
        """Steps that count; of a trial that was cut short, the last."""
        return self.times_s[self.warm_up :] or self.times_s[-1:]

    @property
    def step_cpu_s(self) -> float:
        """Processor time of the measured steps, for one; of a trial that was cut short, all there was."""
        counted = self.cpu_s[self.warm_up - 1 :]
        return (counted[-1] - counted[0]) / (len(counted) - 1) if len(counted) > 1 else self.cpu_s[-1]

    def started(self, step: int, steps: int) -> None:
        self.began_s = self.last_s = time.perf_counter()

    def trained(self, step: int, values: Values) -> None:
        self.waits.append(values["data_wait"])

    def advanced(self, step: int) -> None:
        now_s = time.perf_counter()
        self.times_s.append(now_s - self.last_s)
        self.cpu_s.append(time.process_time())
        counted = len(self.times_s) - self.warm_up
        over = now_s - self.began_s > self.budget_s
        enough = counted >= self.wanted and (now_s - self.began_s > QUICK_S or counted >= MANY * self.wanted)
        if enough or (over and (counted >= 1 or now_s - self.began_s > 2 * self.budget_s)):
            self.loader_bytes = loader_memory_bytes()
            raise _EnoughSteps
        self.last_s = time.perf_counter()


def loader_memory_bytes() -> int:
    """Memory that only the processes started by this one have, each for itself."""
    total = 0
    for child in psutil.Process().children(recursive=True):
        try:
            total += child.memory_full_info().uss
        except psutil.Error:
            continue
    return total


def _run(job: AnyJob, request: TrialRequest, accelerator: Any, setup_s: float) -> tuple[Steps, Looks]:
    # The trial's own bookkeeping: a value read back each step, and nothing that is due after many.
    beyond = 10 * (request.steps + 100)
    own = {"log_every": 1, "validate_every": beyond, "checkpoint_every": beyond}
    train = request.settings.train
    train = train.model_copy(update={**own, "steps": max(train.steps, beyond)})
    clock = _Clock(request.steps, request.budget_s)
    loop = Loop(job, train, RunFolder(request.folder / RUN), accelerator, clock)
    start_s = time.perf_counter()
    with machine_faults_told():
        with suppress(_EnoughSteps):
            loop.run()
        setup_s += clock.began_s - start_s + max(0.0, clock.times_s[0] - median(clock.measured_s))
        looks = take_looks(job, request.held_out, request.training)
    on_device = accelerator.device.type == "cuda"
    bare, optimizer = accelerator.unwrap_model(loop.model), loop.optimizer.optimizer
    tensors = [*bare.state_dict().values(), *(t for state in optimizer.state.values() for t in state.values())]
    size = sum({t.data_ptr(): t.nbytes for t in tensors if isinstance(t, Tensor)}.values())
    wait = fmean(clock.waits[clock.warm_up :] or clock.waits or [0.0])
    host_bytes = peak_memory_bytes() + clock.loader_bytes
    device_bytes = torch.cuda.max_memory_allocated(accelerator.device) if on_device else 0
    checkpoint_bytes, checkpoint_s = _try_checkpoint(request, bare, optimizer, size)
    steps = Steps(
        setup_s,
        tuple(clock.measured_s),
        clock.step_cpu_s,
        wait,
        host_bytes,
        device_bytes,
        checkpoint_bytes,
        checkpoint_s,
    )
    return steps, looks


def _try_checkpoint(request: TrialRequest, model: Any, optimizer: Any, size: int) -> tuple[int, float | None]:
    """Bytes and seconds of a checkpoint; where writing it would take much of the disk, the size of its tensors."""
    folder = request.folder / "checkpoints"
    folder.mkdir()
    if size > CHECKPOINT_SHARE * shutil.disk_usage(folder).free:
        return size, None
    start_s = time.perf_counter()
    checkpoint = save_checkpoint(folder, 0, model, optimizer, None, {})
    return bytes_below(checkpoint.path), time.perf_counter() - start_s


def _make_job(request: TrialRequest, device: torch.device) -> AnyJob:
    settings = request.settings
    if settings.task.preset is None:
        run = RunFolder(request.folder / RUN)
        # Nothing is held out while steps run: a look before the first one would take as long as some steps.
        cases = crop_cases(request.training, settings.train.batch_size)
        job = PretrainingJob(settings, cases, (), device, Seen, run.location)
        job.load_start()
        return job
    made: SegmentationJob | ClassificationJob
    if settings.task.kind == "classification":
        made = ClassificationJob(settings, request.training, (), device)
    else:
        points = survey_labels(request.training, settings.task)
        made = SegmentationJob(settings, request.training, (), points, device)
    load_start(made.model, settings.model)
    return made


def crop_cases(stored: Sequence[StoredCase], wanted: int) -> list[Case]:
    """At least as many cases as a step needs; where the sample is smaller, each stands in the list several times."""
    cases = [stored[i % len(stored)] for i in range(max(len(stored), wanted))]
    return [Case(f"{case.name} {i}", case.volumes[0]) for i, case in enumerate(cases)]
