"""`voco pretrain` without its command line: cache, model, loop, verdict."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from accelerate import Accelerator

from voco_cli.config import Resolved, Settings
from voco_cli.data.cache.store import VolumeCache, cache_folder
from voco_cli.data.index.datalist import Datalist, Entry
from voco_cli.data.index.trained_on import (
    ScanIdentity,
    TrainingManifest,
    manifest_before,
    scan_identity,
    training_scans,
)
from voco_cli.errors import DataError, UsageError
from voco_cli.models.weights import LoadReport
from voco_cli.objectives.voco.diagnostics import Figures, Verdict
from voco_cli.pretrain.dataset import Case
from voco_cli.pretrain.task import PretrainingTask, batch_plan
from voco_cli.training.checkpoint import list_checkpoints
from voco_cli.training.distributed import annotate_rank, build_accelerator, run_on_all, run_on_main
from voco_cli.training.run_contents import open_run_folder, scan_content, settle_run_folder
from voco_cli.training.run_dir import RunFolder
from voco_cli.training.task import Callback, NullCallback
from voco_cli.training.trainer import Trainer
from voco_cli.workflows.pretrain_checks import before_pretraining

TOO_SMALL = "too small after preprocessing"


class PretrainCallback(Callback, Protocol):
    """Who is told how a pre-training run goes."""

    def building(self, total: int) -> AbstractContextManager[Callable[[str, str | None], None]]:
        """The cache of ``total`` scans is built; the callable gets a scan and why it failed, or None."""

    def prepared(self, prepared: PreparedPretraining) -> None:
        """Data and model are ready."""


@dataclass(frozen=True)
class PreparedPretraining:
    """What a run is about to work on."""

    folder: Path
    device: str
    precision: str
    num_training: int
    num_held_out: int
    left_out: list[tuple[Path, str]]
    num_parameters: int
    recompute: bool
    resumed_step: int
    loaded: LoadReport | None


@dataclass(frozen=True)
class PretrainResult:
    """How a run ended.

    Attributes:
        start, end: figures at step 0 and at the last step; empty where nothing was held out.
        verdict: what they say; None where nothing was held out.
        weights: the encoder that was written.
        is_main_process: this is the process that tells the user, of several that ran together.
    """

    folder: Path
    start: Figures
    end: Figures
    verdict: Verdict | None
    weights: Path
    num_bases: int
    is_main_process: bool


def run_pretraining(resolved: Resolved, callback: PretrainCallback) -> PretrainResult:
    """Pre-train an encoder, or go on where an earlier run in the same folder stopped.

    Raises:
        UsageError: settings, data file or run folder do not fit.
        DataError: nothing usable is there to train on; the loss became non-finite.
        ResourceError: disk.
        Interrupted: a signal; the same call resumes.
    """
    if os.environ.get("RANK", "0") != "0":
        callback = NullCallback()
    resolved, datalist = before_pretraining(resolved, callback)
    settings = resolved.settings
    accelerator = build_accelerator(settings.run)
    if not accelerator.is_main_process:
        callback = NullCallback()
    folder = RunFolder(settings.run.dir)
    try:
        with ExitStack() as stack, annotate_rank(accelerator):

            def open_run() -> dict[Path, str]:
                stack.enter_context(folder.lock())
                open_run_folder(folder, resolved, datalist, _names)
                return _build_cache(settings, datalist, callback)

            failed = run_on_main(accelerator, open_run)
            return _train(resolved, datalist, folder, accelerator, callback, failed)
    finally:
        accelerator.end_training()


def _cache(settings: Settings) -> VolumeCache:
    assert settings.data.file is not None
    return VolumeCache(cache_folder(settings.data.file, settings.cache), settings.preprocess, settings.cache)


def _build_cache(settings: Settings, datalist: Datalist, callback: PretrainCallback) -> dict[Path, str]:
    """Make what is missing of the cache; returns the scans that failed, with the reason."""
    entries = [*datalist.training, *datalist.validation]
    with callback.building(len(entries)) as on_done:
        report = _cache(settings).build(entries, on_done=lambda entry, reason: on_done(str(entry.image), reason))
    return dict(report.failed)


def case_names(entries: Sequence[Entry]) -> dict[Path, str]:
    """Names that random draws go by: paths below the folder that all scans share, wherever data.json lies."""
    paths = [str(entry.image) for entry in entries]
    shared = os.path.commonpath([str(Path(path).parent) for path in paths]) if paths else ""
    return {Path(path): Path(os.path.relpath(path, shared)).as_posix() for path in paths}


def _names(datalist: Datalist) -> list[tuple[str, str]]:
    """Split and name of each scan that the run uses."""
    names = case_names([*datalist.training, *datalist.validation])
    splits = (("training", datalist.training), ("validation", datalist.validation))
    return [(split, names[entry.image]) for split, entries in splits for entry in entries]


def _cases(
    cache: VolumeCache,
    entries: Sequence[Entry],
    settings: Settings,
    names: Mapping[Path, str],
    failed: Mapping[Path, str],
) -> tuple[list[Case], list[ScanIdentity], list[str | None], list[tuple[Path, str]]]:
    """Cached scans that the grid fits, by what they are known, what each entry holds, and why others are left out."""
    cases: list[Case] = []
    identities: list[ScanIdentity] = []
    contents: list[str | None] = []
    left_out: list[tuple[Path, str]] = []
    region = settings.crops.region_vox
    for entry in entries:
        contents.append(None)
        try:
            volume = cache.lookup(entry)
            if volume is None:
                left_out.append((entry.image, failed.get(entry.image, "could not be cached")))
                continue
            # The hash is read while the file is open: 30 microseconds, and 140 for a second opening.
            shape, voxel_hash = volume.shape_xyz, volume.voxel_hash
            contents[-1] = scan_content([volume])
        except DataError as error:
            left_out.append((entry.image, error.message))
            continue
        if any(have < need for have, need in zip(shape, region, strict=True)):
            sizes = ["x".join(map(str, size)) for size in (shape, region)]
            left_out.append((entry.image, f"{TOO_SMALL}: {sizes[0]} voxels, the grid needs {sizes[1]}"))
            continue
        cases.append(Case(names[entry.image], volume))
        identities.append(scan_identity(entry, voxel_hash))
    return cases, identities, contents, left_out


def _train(
    resolved: Resolved,
    datalist: Datalist,
    folder: RunFolder,
    accelerator: Accelerator,
    callback: PretrainCallback,
    failed: Mapping[Path, str],
) -> PretrainResult:
    settings = resolved.settings
    training: list[Case] = []
    held_out: list[Case] = []
    left_out: list[tuple[Path, str]] = []
    trained_on: list[ScanIdentity] = []
    contents: dict[str, list[str | None]] = {}

    def find_cases() -> None:
        names = case_names([*datalist.training, *datalist.validation])
        for split, cases in (("training", training), ("validation", held_out)):
            entries = getattr(datalist, split)
            usable, identities, contents[split], others = _cases(_cache(settings), entries, settings, names, failed)
            cases += usable
            left_out.extend(others)
            if cases is training:
                trained_on.extend(identities)
        if not training:
            raise _nothing_to_train_on(datalist, settings, left_out)
        batch_plan(settings, len(training), 0, accelerator.num_processes)

    run_on_all(accelerator, find_cases)
    run_on_main(accelerator, lambda: settle_run_folder(folder, resolved, datalist, contents))
    before = manifest_before(settings.model.weights)

    def seen() -> TrainingManifest:
        return before.followed_by(training_scans("pre-training", datalist.name, trained_on))

    job = PretrainingTask(settings, training, held_out, accelerator.device, seen, folder.location)
    resumed = max((checkpoint.step for checkpoint in list_checkpoints(folder.checkpoints)), default=0)
    loaded = None if resumed else job.load_start()
    if loaded is not None:
        run_on_main(accelerator, lambda: folder.write_weights_report(loaded.to_json()))
    loop = Trainer(job, settings.train, folder, accelerator, callback)
    callback.prepared(
        PreparedPretraining(
            folder.path,
            str(accelerator.device),
            str(accelerator.mixed_precision).replace("no", "fp32"),
            len(training),
            len(held_out),
            left_out,
            sum(p.numel() for p in job.model.parameters() if p.requires_grad),
            job.voco.recompute,
            resumed,
            loaded,
        )
    )
    loop.run()
    history = {int(step): figures for step, figures in job.history.items()}
    start, end = (history[min(history)], history[max(history)]) if history else ({}, {})
    grid = settings.crops.grid_xyz
    return PretrainResult(
        folder.path,
        start,
        end,
        job.health.verdict(start, end) if history else None,
        folder.weights / "encoder.safetensors",
        grid[0] * grid[1] * grid[2],
        bool(accelerator.is_main_process),
    )


def _nothing_to_train_on(
    datalist: Datalist, settings: Settings, left_out: Sequence[tuple[Path, str]]
) -> UsageError | DataError:
    what = f"None of the {len(datalist.training)} training scans of {settings.data.file} can be used"
    reasons = "; ".join(f"{path.name} is {reason}" for path, reason in left_out[:3])
    if any(reason.startswith(TOO_SMALL) for _, reason in left_out):
        return UsageError(
            f"{what} ({reasons}).", "choose a smaller crops.size or crops.grid, or pad with preprocess.min_size_vox"
        )
    return DataError(f"{what} ({reasons or 'it lists none'}).", "look at them with `voco index --check full`")
