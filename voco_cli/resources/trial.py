"""A few real steps of a real job, and what they took; runs in a process of its own, in a folder that is removed."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from statistics import fmean, median
from typing import Any

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from voco_cli.config import Settings
from voco_cli.data.cache.grid import GridMap
from voco_cli.data.cache.volume import FULL_SCALE
from voco_cli.data.index.trained_on import TrainingManifest
from voco_cli.errors import ResourceError, VocoError
from voco_cli.evaluate.segmentation.case_files import CasePair
from voco_cli.evaluate.segmentation.evaluate import evaluate_pairs
from voco_cli.finetune.classification import ClassificationTask
from voco_cli.finetune.dataset import PatchDataset, VolumeDataset, collate_patches, collate_volumes, survey_labels
from voco_cli.finetune.segmentation import SegmentationTask
from voco_cli.models.weights.load import load_start
from voco_cli.operating_system import drop_cached_pages, free_host_bytes, peak_memory_bytes
from voco_cli.predict.segmentation import segment
from voco_cli.predict.sliding_window import FLIPS, window_starts
from voco_cli.pretrain.dataset import Case, CropDataset, collate
from voco_cli.pretrain.task import PretrainingTask
from voco_cli.pretrain.validation import HealthCheck
from voco_cli.resources.estimates import training_footprint
from voco_cli.resources.sampling import bytes_below
from voco_cli.resources.tried import Looks, Reads, Steps, Sweep, Trial, TrialRequest
from voco_cli.tasks.cases import StoredCase
from voco_cli.training.checkpoint import save_checkpoint
from voco_cli.training.dataloader import loader_workers
from voco_cli.training.distributed import build_accelerator
from voco_cli.training.errors import translate_machine_errors
from voco_cli.training.run_dir import RunFolder
from voco_cli.training.task import NullCallback, Values
from voco_cli.training.trainer import Trainer
from voco_cli.workflows.evaluate import options_of, task_classes, task_regions

WINDOW_TRIES = 3
BUDGET_S = 30.0


def count_windows(shape_xyz: tuple[int, int, int], settings: Settings) -> int:
    """Windows over a preprocessed volume."""
    pairs = zip(shape_xyz, settings.task.patch_size, strict=True)
    return math.prod(len(window_starts(size, window, settings.predict.overlap)) for size, window in pairs)


def try_sweep(
    channels_CXYZ: NDArray[Any],
    record: GridMap,
    network: Callable[[Tensor], Tensor],
    settings: Settings,
    device: torch.device,
) -> Sweep:
    """Time a scan: the network on a few windows, and everything else with a stand-in that answers at once.

    Args:
        channels_CXYZ: the preprocessed scan, stored numbers.
        record: how it lies in the scan's grid.
        network: from windows_NCXYZ to logits_NKXYZ, without gradients.
    """
    size, batch = settings.task.patch_size, settings.predict.window_batch
    corner = channels_CXYZ[:, : size[0], : size[1], : size[2]]
    missing = [(0, 0), *((0, n - have) for n, have in zip(size, corner.shape[1:], strict=True))]
    stored = np.repeat(np.pad(corner, missing)[None], batch, axis=0)
    windows = torch.from_numpy(stored).to(device).float() / FULL_SCALE[stored.dtype.name]
    times_s: list[float] = []
    began_s = time.perf_counter()
    while len(times_s) <= WINDOW_TRIES and (not times_s or time.perf_counter() - began_s < BUDGET_S):
        start_s = time.perf_counter()
        logits = network(windows).sum().item()  # read back, so that a device has done it
        times_s.append(time.perf_counter() - start_s)
        assert isinstance(logits, float)
    window_s = median(times_s[1:] or times_s) / batch * (len(FLIPS) if settings.predict.flips else 1)
    rest_s = _time_rest(channels_CXYZ, record, settings, device)
    shape = channels_CXYZ.shape
    windows_of_scan = count_windows((shape[1], shape[2], shape[3]), settings)
    return Sweep(windows_of_scan, window_s, rest_s, math.prod(record.source_shape_xyz))


def _time_rest(channels_CXYZ: NDArray[Any], record: GridMap, settings: Settings, device: torch.device) -> float:
    """Seconds of a whole scan whose network costs nothing."""
    outputs, size = settings.task.num_outputs, settings.task.patch_size
    plain = settings.predict.model_copy(update={"flips": False})
    logits = torch.zeros((plain.window_batch, outputs, *size), device=device)
    start_s = time.perf_counter()
    stand_in: Callable[[Tensor], Tensor] = lambda windows: logits[: len(windows)]  # noqa: E731
    segment(channels_CXYZ, record, stand_in, patch_size=size, predict=plain, device=device)
    return time.perf_counter() - start_s


LONG_S = 20.0
"""A look that takes longer is not taken twice."""

AnyTask = PretrainingTask | SegmentationTask | ClassificationTask


def take_looks(job: AnyTask, held_out: Sequence[StoredCase], training: Sequence[StoredCase]) -> Looks:
    """Look once with a job that has been started; where nothing is held out, at a training case for the time alone."""
    if isinstance(job, PretrainingTask):
        return _pretraining_looks(job, held_out[:1])
    cases = held_out or training[:1]
    job.model.eval()
    start_s = time.perf_counter()
    if isinstance(job, ClassificationTask):
        for case in cases:
            job.logits(case)
        return Looks((time.perf_counter() - start_s) / len(cases))
    return _segmentation_looks(job, cases[0])


def _pretraining_looks(job: PretrainingTask, held_out: Sequence[StoredCase]) -> Looks:
    """At one case without the picture, and where that is quick once more with it."""
    if not held_out:
        return Looks()
    pictures, job.pictures = job.pictures, None
    job.health = HealthCheck([Case(case.name, case.volumes[0]) for case in held_out], job.settings)
    start_s = time.perf_counter()
    job.validate(1)
    case_s = (time.perf_counter() - start_s) / len(held_out)
    if pictures is None or case_s > LONG_S:
        return Looks(case_s)
    job.pictures = pictures
    start_s = time.perf_counter()
    job.validate(1)
    drawn_s = time.perf_counter() - start_s
    return Looks(case_s, max(0.0, drawn_s - case_s * len(held_out)), bytes_below(pictures))


def _segmentation_looks(job: SegmentationTask, case: StoredCase) -> Looks:
    settings, here = job.settings, job.here
    start_s = time.perf_counter()
    survey_labels([case], settings.task)
    survey_s = time.perf_counter() - start_s
    channels = np.stack([volume.read((0, 0, 0), case.shape_xyz) for volume in case.volumes])

    def network(windows: Tensor) -> Tensor:
        with torch.no_grad(), here.autocast():
            logits: Tensor = job.model(windows)
        return logits.float()

    sweep = try_sweep(channels, case.volumes[0].metadata.record, network, settings, here.device)
    return Looks(sweep.total_s, survey_s=survey_s, sweep=sweep, measure_s=_time_measuring(case, settings))


def _time_measuring(case: StoredCase, settings: Settings) -> float:
    """Seconds of measuring a prediction: the label map against itself takes as long as against a good one."""
    label = case.entry.label
    assert label is not None  # a segmentation has them
    start_s = time.perf_counter()
    pair = CasePair(case.name, case.entry.patient, label, label)
    evaluate_pairs(
        [pair], options_of(settings), classes=task_classes(settings.task), regions=task_regions(settings.task)
    )
    return time.perf_counter() - start_s


def time_reads(cases: Sequence[StoredCase], settings: Settings) -> Reads:
    """Read each case once from the disk and once more, before anything else opens the stored volumes.

    Raises:
        DataError: a stored volume is damaged.
    """
    for volume in (volume for case in cases for volume in case.volumes):
        for path in filter(None, (volume.path, volume.label_path)):
            drop_cached_pages(path)
    dataset, join = _dataset(cases, settings)
    cold, warm = ([_read_s(dataset, index) for index in range(len(cases))] for _ in range(2))
    items = [_item(dataset, i % len(cases)) for i in range(settings.train.batch_size)]
    return Reads(fmean(cold), fmean(warm), _nbytes(join(items)))


def _dataset(cases: Sequence[StoredCase], settings: Settings) -> tuple[Dataset[Any], Callable[[Any], Any]]:
    if settings.task.preset is None:
        return CropDataset([Case(case.name, case.volumes[0]) for case in cases], settings, 1), collate
    if settings.task.kind == "classification":
        return VolumeDataset(cases, settings), collate_volumes
    return PatchDataset(cases, {case.name: {} for case in cases}, settings), collate_patches


def _read_s(dataset: Dataset[Any], index: int) -> float:
    start_s = time.perf_counter()
    _item(dataset, index)
    return time.perf_counter() - start_s


def _item(dataset: Dataset[Any], index: int) -> Any:
    item = dataset[(0, index)]
    if isinstance(item, VocoError):
        raise item
    return item


def _nbytes(value: Any) -> int:
    """Bytes of all tensors in a batch."""
    if isinstance(value, Tensor):
        return int(value.nbytes)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return sum(map(_nbytes, value))
    return 0


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


class _Clock(NullCallback):
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


def _run(job: AnyTask, request: TrialRequest, accelerator: Any, setup_s: float) -> tuple[Steps, Looks]:
    # The trial's own bookkeeping: a value read back each step, and nothing that is due after many.
    beyond = 10 * (request.steps + 100)
    own = {"log_every": 1, "validate_every": beyond, "checkpoint_every": beyond}
    train = request.settings.train
    train = train.model_copy(update={**own, "steps": max(train.steps, beyond)})
    clock = _Clock(request.steps, request.budget_s)
    loop = Trainer(job, train, RunFolder(request.folder / RUN), accelerator, clock)
    start_s = time.perf_counter()
    with translate_machine_errors():
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


def _make_job(request: TrialRequest, device: torch.device) -> AnyTask:
    settings = request.settings
    if settings.task.preset is None:
        run = RunFolder(request.folder / RUN)
        # Nothing is held out while steps run: a look before the first one would take as long as some steps.
        cases = crop_cases(request.training, settings.train.batch_size)
        job = PretrainingTask(settings, cases, (), device, TrainingManifest, run.location)
        job.load_start()
        return job
    made: SegmentationTask | ClassificationTask
    if settings.task.kind == "classification":
        made = ClassificationTask(settings, request.training, (), device)
    else:
        points = survey_labels(request.training, settings.task)
        made = SegmentationTask(settings, request.training, (), points, device)
    load_start(made.model, settings.model)
    return made


def crop_cases(stored: Sequence[StoredCase], wanted: int) -> list[Case]:
    """At least as many cases as a step needs; where the sample is smaller, each stands in the list several times."""
    cases = [stored[i % len(stored)] for i in range(max(len(stored), wanted))]
    return [Case(f"{case.name} {i}", case.volumes[0]) for i, case in enumerate(cases)]
