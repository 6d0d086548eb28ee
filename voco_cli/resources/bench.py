"""All of `voco bench`: each stage in a process of its own, one after another, on the disk where the cache would be."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from contextlib import closing, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from voco_cli.config import Settings
from voco_cli.data.cache.preprocess import preprocess
from voco_cli.data.cache.store import VolumeCache, cache_folder
from voco_cli.data.cache.volume import quantise
from voco_cli.data.index.datalist import Entry
from voco_cli.data.index.datalist_file import read_datalist
from voco_cli.data.io.image import Scan
from voco_cli.data.synthetic.generate import write_cts
from voco_cli.errors import DataError, ResourceError, VocoError
from voco_cli.models.build import build_segmenter
from voco_cli.operating_system import drop_cached_pages
from voco_cli.pretrain.dataset import CropDataset, collate
from voco_cli.resources.sampling import temporary_folder
from voco_cli.resources.subprocess_trial import run_apart, tidy_when_terminated
from voco_cli.resources.trial import crop_cases, try_sweep
from voco_cli.resources.tried import TRY_TRAINING, Sweep, Trial, TrialRequest
from voco_cli.tasks.cases import StoredCase
from voco_cli.training.dataloader import BatchPlan, load_batches, loader_workers
from voco_cli.training.distributed import device_alone
from voco_cli.training.task import DeviceContext

SPANS = 5
"""Rates that are taken one after another."""
ENDLESS = 10**9
CPU = DeviceContext(torch.device("cpu"), 0, 1, nullcontext)


@dataclass(frozen=True)
class LoadingRequest:
    """What to load, and for how long after the first batches."""

    settings: Settings
    cases: tuple[StoredCase, ...]
    budget_s: float


@dataclass(frozen=True)
class Loading:
    """What came of it.

    Attributes:
        volumes_per_s: in each span of time.
        crops_per_volume: random and base crops.
        loaders: loader processes.
    """

    volumes_per_s: tuple[float, ...]
    crops_per_volume: int
    loaders: int


def time_loading(request: LoadingRequest) -> Loading:
    """Draw batches as a run does, and count.

    Raises:
        DataError: a stored volume is damaged.
    """
    settings = request.settings
    loaders, size = loader_workers(settings.data), settings.train.batch_size
    cases = crop_cases(request.cases, size)
    dataset = CropDataset(cases, settings, 1)
    plan = BatchPlan(len(cases), size, settings.seed)
    ahead = max(1, loaders * settings.data.prefetch)
    rates: list[float] = []
    with closing(load_batches(dataset, plan, (0, ENDLESS), collate, settings.data, CPU)) as batches:
        for _ in range(ahead):  # what is prepared while the processes start is no rate
            _checked(next(batches))
        for _ in range(SPANS):
            start_s, drawn = time.perf_counter(), 0
            while not drawn or time.perf_counter() - start_s < request.budget_s / SPANS:
                _checked(next(batches))
                drawn += size
            rates.append(drawn / (time.perf_counter() - start_s))
    grid = settings.crops.grid_xyz
    return Loading(tuple(rates), settings.crops.random_per_volume + grid[0] * grid[1] * grid[2], loaders)


def _checked(batch: object) -> None:
    if isinstance(batch, VocoError):
        raise batch


MOST_SCANS = 8
MADE_VOX = (192, 192, 64)


@dataclass(frozen=True)
class MaterialRequest:
    """What to prepare.

    Attributes:
        settings: of the run; ``data.file`` lists the user's scans, or there are none.
        folder: temporary.
        budget_s: time after which no further scan is begun, two being there.
    """

    settings: Settings
    folder: Path
    budget_s: float


@dataclass(frozen=True)
class Material:
    """What was prepared.

    Attributes:
        cases: in a cache of their own.
        build_s: from the file to the cache, of each scan.
        stored_bytes: size of each in the cache.
        failed: scans that could not be used, with the reason.
    """

    cases: tuple[StoredCase, ...]
    build_s: tuple[float, ...]
    stored_bytes: tuple[int, ...]
    failed: tuple[tuple[str, str], ...] = field(default=())


def prepare_material(request: MaterialRequest) -> Material:
    """Preprocess and store scans that the grid of the settings fits, one by one.

    Raises:
        DataError: none of them can be used.
        ResourceError: the disk is full.
    """
    settings = request.settings
    cache = VolumeCache(request.folder / "cache", settings.preprocess, settings.cache)
    cases: list[StoredCase] = []
    build_s: list[float] = []
    stored: list[int] = []
    failed: list[tuple[str, str]] = []
    began_s = time.perf_counter()
    for entry in _entries(request):
        if len(cases) >= MOST_SCANS or (len(cases) >= 2 and time.perf_counter() - began_s > request.budget_s):
            break
        start_s = time.perf_counter()
        report = cache.build([entry], workers=1)
        took_s = time.perf_counter() - start_s
        volume = None if report.failed else cache.lookup(entry)
        if volume is None:
            failed.append((entry.name, report.failed[0][1]))
        elif any(have < need for have, need in zip(volume.shape_xyz, settings.crops.region_vox, strict=True)):
            failed.append((entry.name, "is too small for the grid of crops after preprocessing"))
        else:
            cases.append(StoredCase(entry, (volume,)))
            build_s.append(took_s)
            stored.append(volume.path.stat().st_size)
    if not cases:
        raise DataError(
            f"None of the {len(failed)} scans that were tried can be used; {failed[0][0]}: {failed[0][1]}",
            "look at them with `voco index --check full`",
        )
    return Material(tuple(cases), tuple(build_s), tuple(stored), tuple(failed))


def _entries(request: MaterialRequest) -> list[Entry]:
    """Training scans spread over the whole list, or generated ones."""
    data = request.settings.data.file
    if data is None:
        images = write_cts(request.folder / "scans", MOST_SCANS, 0, MADE_VOX)
        return [Entry(image=path, patient=path.stem) for path in images]
    listed = read_datalist(data).training
    if not listed:
        raise DataError(f"{data} lists no training scans.", "index a folder with scans: voco index FOLDER")
    return list(listed[:: max(1, len(listed) // (2 * MOST_SCANS))])


@dataclass(frozen=True)
class Measured:
    """One quantity, measured several times.

    Attributes:
        name: what it is.
        unit: of each value.
        values: in the order in which they were measured; at least one.
    """

    name: str
    unit: str
    values: tuple[float, ...]

    @property
    def middle(self) -> float:
        """The median."""
        return median(self.values)

    @property
    def spread(self) -> tuple[float, float]:
        """Least and largest value."""
        return min(self.values), max(self.values)

    def to_json(self) -> dict[str, Any]:
        """Median, spread and all values."""
        low, high = self.spread
        return {"median": self.middle, "least": low, "most": high, "unit": self.unit, "values": list(self.values)}


def limit_sentence(step_per_s: float, loader_per_s: float, loaders: int) -> str:
    """Which of the two holds the other up.

    Args:
        step_per_s: volumes that the steps use in a second.
        loader_per_s: volumes that the loader gives in a second when nobody else needs the cores.
        loaders: loader processes; with none, reading and computing take turns.
    """
    figures = f"steps take {step_per_s:.3g} volumes a second, and the loader gives {loader_per_s:.3g}"
    if loaders == 0:
        share = step_per_s / (step_per_s + loader_per_s)
        return f"Without loader processes, reading takes {share:.0%} of the time of a run ({figures})."
    if loader_per_s < step_per_s:
        return f"The loader is the limit: {figures}. More data.workers, cache.codec=lz4 or a faster disk would help."
    return f"The step is the limit: {figures}."


SPACING_XYZ_MM = (0.78, 0.78, 2.5)


@dataclass(frozen=True)
class PredictingRequest:
    """A task, and the shape of a scan: x, y, z voxels of 0.78 x 0.78 x 2.5 mm."""

    settings: Settings
    shape_xyz: tuple[int, int, int]


def time_prediction(request: PredictingRequest) -> Sweep:
    """Go over a made scan with a network of the task's size and fresh weights."""
    settings = request.settings
    made = preprocess(made_scan(request.shape_xyz), settings.preprocess)
    channel = quantise(made.array_xyz, settings.cache.dtype)
    channels = np.repeat(channel[None], len(settings.task.channels), axis=0)
    device, autocast = device_alone(settings.run)
    built = build_segmenter(settings.model, len(channels), settings.task.num_outputs).to(device).eval()

    def network(windows_NCXYZ: Tensor) -> Tensor:
        with torch.no_grad(), autocast():
            logits: Tensor = built(windows_NCXYZ)
        return logits.float()

    return try_sweep(channels, made.record, network, settings, device)


def made_scan(shape_xyz: tuple[int, int, int]) -> Scan:
    """Soft tissue with noise up to every border, so that nothing of it is cut away."""
    x, y, z = shape_xyz
    voxels = np.random.default_rng(0).normal(40, 20, (z, y, x)).astype(np.int16)
    return Scan(voxels, SPACING_XYZ_MM, (0.0, 0.0, 0.0), np.eye(3), Path("made"))


FILE_BYTES = 256 << 20
BLOCK_BYTES = 16 << 20
DISK_SHARE = 0.05
"""Of the free disk, at most."""
ROUNDS = 3


def time_disk(folder: Path, budget_s: float, file_bytes: int = FILE_BYTES) -> tuple[list[float], list[float]]:
    """Write and read a file of noise, as often as time allows; the system's copy in memory is dropped in between.

    Returns:
        MB/s of each write, until the disk has it, and of each read.
    Raises:
        OSError: the disk is full or does not allow it.
    """
    most = min(file_bytes, int(DISK_SHARE * shutil.disk_usage(folder).free))
    size = max(1, most // BLOCK_BYTES) * BLOCK_BYTES
    noise = np.random.default_rng(0).bytes(BLOCK_BYTES)
    path, began_s = folder / "noise", time.perf_counter()
    written: list[float] = []
    read: list[float] = []
    while len(written) < ROUNDS and (not written or time.perf_counter() - began_s < budget_s):
        written.append(size / 1e6 / _write_s(path, noise, size))
        read.append(size / 1e6 / _read_s(path))
        path.unlink()
    return written, read


def _write_s(path: Path, noise: bytes, size: int) -> float:
    start_s = time.perf_counter()
    with path.open("wb", buffering=0) as file:
        for _ in range(size // len(noise)):
            file.write(noise)
        os.fsync(file.fileno())
    return time.perf_counter() - start_s


def _read_s(path: Path) -> float:
    buffer = bytearray(BLOCK_BYTES)
    drop_cached_pages(path)
    with path.open("rb", buffering=0) as file:
        start_s = time.perf_counter()
        while file.readinto(buffer):
            pass
    return time.perf_counter() - start_s


USUAL_SCAN_VOX = (512, 512, 133)
SHARES = {"storage": 0.1, "preprocessing": 0.2, "loader": 0.1, "step": 0.4}
"""Of the time, for each stage; predicting has a budget of its own."""
STEPS = 3
LEAST_STEP_S = 20.0
"""Less, and all that a step waits for would be the start of the loader."""
Tell = Callable[[str], None]


@dataclass(frozen=True)
class BenchRequest:
    """What to measure.

    Attributes:
        settings: of the run.
        small: the same data with settings that every machine has the memory for.
        task: settings of the task whose network predicts.
        budget_s: about how long it may take.
        scan_vox: the scan that is predicted.
        disk_bytes: size of the file that is written and read.
    """

    settings: Settings
    small: Settings
    task: Settings
    budget_s: float
    scan_vox: tuple[int, int, int] = USUAL_SCAN_VOX
    disk_bytes: int = FILE_BYTES


@dataclass(frozen=True)
class Speed:
    """What came of it.

    Attributes:
        place: folder whose disk was measured.
        recipe: whose steps were taken.
        device, precision: of the steps and the prediction.
        scans: that were used.
        measured: by key.
        limit: what holds a run up, in a sentence.
        notes: what was done otherwise than asked, and why.
    """

    place: Path
    recipe: str
    device: str
    precision: str
    scans: int
    measured: dict[str, Measured]
    limit: str
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        figures = {key: {"name": one.name, **one.to_json()} for key, one in self.measured.items()}
        return {**vars(self), "measured": figures, "notes": list(self.notes)}


def measure_machine(request: BenchRequest, tell: Tell) -> Speed:
    """Measure disk, preprocessing, loader, step and prediction; nothing of it is left behind.

    Args:
        tell: is told what begins.
    Raises:
        DataError: none of the scans can be used.
        ResourceError: not even the small settings fit the memory, or the disk is full.
    """
    settings = request.settings
    beside = settings.cache.dir or (cache_folder(settings.data.file, settings.cache) if settings.data.file else Path())
    with tidy_when_terminated(), temporary_folder(beside) as folder:
        tell("disk ...")
        written, read = time_disk(folder, SHARES["storage"] * request.budget_s, request.disk_bytes)
        measured = {
            "disk_write": Measured("disk, writing", "MB/s", tuple(written)),
            "disk_read": Measured("disk, reading", "MB/s", tuple(read)),
        }
        run = _run(request, folder, tell)
        tell("prediction ...")
        sweep = run_apart(time_prediction, PredictingRequest(request.task, request.scan_vox)).result
        measured |= _of_run(run) | _of_sweep(sweep, request.scan_vox)
        step, loaded = measured["step_volumes"].middle, measured["loader_volumes"].middle
        limit = limit_sentence(step, loaded, run.loading.loaders)
        trial, place = run.trial, folder.parent.resolve()
        scans = len(run.material.cases)
        return Speed(place, run.recipe, trial.device, trial.precision, scans, measured, limit, run.notes)


@dataclass(frozen=True)
class _Run:
    """Preprocessing, loader and steps under the same settings."""

    recipe: str
    settings: Settings
    material: Material
    loading: Loading
    trial: Trial
    notes: tuple[str, ...]


def _run(request: BenchRequest, folder: Path, tell: Tell) -> _Run:
    """Under the settings that were asked for, or the small ones where the memory does not do."""
    run, reason = _try_run(request.settings, folder / "asked", request.budget_s, tell)
    if run is not None:
        return run
    tell(f"{reason}; on with the recipe {request.small.recipe} ...")
    run, again = _try_run(request.small, folder / "small", request.budget_s, tell)
    if run is None:
        raise ResourceError(f"Steps cannot be tried here: {again}.", "free some memory")
    return replace(run, notes=(*run.notes, f"{reason}; steps, loader and cache are of {request.small.recipe}"))


def _try_run(settings: Settings, folder: Path, budget_s: float, tell: Tell) -> tuple[_Run | None, str]:
    """The stages of a run, or why there are none."""
    folder.mkdir()
    tell("preprocessing ...")
    material = run_apart(prepare_material, MaterialRequest(settings, folder, SHARES["preprocessing"] * budget_s)).result
    tell(f"steps of {settings.recipe} ...")
    (folder / "trial").mkdir()
    trial_s = max(LEAST_STEP_S, SHARES["step"] * budget_s)
    request = TrialRequest(settings, material.cases, (), folder / "trial", STEPS, trial_s)
    try:
        trial: Trial = run_apart(TRY_TRAINING, request).result
    except ResourceError as error:
        return None, error.message.rstrip(".")
    if trial.steps is None:
        return None, f"a step of {settings.recipe} would not fit the free memory"
    tell("loader ...")
    loading = run_apart(time_loading, LoadingRequest(settings, material.cases, SHARES["loader"] * budget_s)).result
    notes = tuple(f"{name} was left out: {reason}" for name, reason in material.failed)
    return _Run(str(settings.recipe), settings, material, loading, trial, notes), ""


def _of_run(run: _Run) -> dict[str, Measured]:
    loading, steps, material = run.loading, run.trial.steps, run.material
    assert steps is not None
    train = run.settings.train
    volumes = train.batch_size * train.accumulate
    loader = f"loader, {loading.loaders} process{'' if loading.loaders == 1 else 'es'}"
    rates, crops = loading.volumes_per_s, loading.crops_per_volume
    found = [
        ("build", "from the file to the cache, one process", "s/scan", material.build_s),
        ("cached", "size in the cache", "MB/scan", tuple(size / 1e6 for size in material.stored_bytes)),
        ("loader_volumes", loader, "volumes/s", rates),
        ("loader_crops", loader, "crops/s", tuple(crops * rate for rate in rates)),
        ("step", f"step of {volumes} volumes", "s", steps.step_s),
        ("step_volumes", f"steps of {volumes} volumes", "volumes/s", tuple(volumes / s for s in steps.step_s)),
        ("wait", "share of the steps that waited for data", "%", (100 * steps.wait_share,)),
        ("memory", "memory of the run, loader processes included", "GB", (steps.host_bytes / 1e9,)),
    ]
    if steps.device_bytes:
        found.append(("device_memory", "memory of the device", "GB", (steps.device_bytes / 1e9,)))
    return {key: Measured(name, unit, tuple(values)) for key, name, unit, values in found}


def _of_sweep(sweep: Sweep, scan_vox: tuple[int, int, int]) -> dict[str, Measured]:
    words = "x".join(map(str, scan_vox))
    return {
        "window": Measured("prediction, one window", "s", (sweep.window_s,)),
        "scan": Measured(f"prediction of {words} voxels, {sweep.windows} windows", "s", (sweep.total_s,)),
    }
