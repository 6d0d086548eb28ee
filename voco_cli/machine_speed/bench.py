"""All of `voco bench`: each stage in a process of its own, one after another, on the disk where the cache would be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from voco_cli.cache.store import cache_folder
from voco_cli.errors import ResourceError
from voco_cli.machine_speed.loading import Loading, LoadingRequest, time_loading
from voco_cli.machine_speed.material import Material, MaterialRequest, prepare_material
from voco_cli.machine_speed.measured import Measured, limit_sentence
from voco_cli.machine_speed.predicting import PredictingRequest, time_prediction
from voco_cli.machine_speed.storage import FILE_BYTES, time_disk
from voco_cli.planning.apart import run_apart, tidy_when_terminated
from voco_cli.planning.places import temporary_folder
from voco_cli.planning.tried import TRY_TRAINING, Sweep, Trial, TrialRequest
from voco_cli.settings import Settings

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
