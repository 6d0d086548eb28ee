"""`voco pretrain` without its command line: cache, model, loop, verdict."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from accelerate import Accelerator

from voco_cli.config import Resolved, Settings
from voco_cli.config.stages import stage_runs
from voco_cli.data.cache.store import VolumeCache, cache_folder
from voco_cli.data.index.datalist import Datalist, Entry
from voco_cli.data.index.labelled import CaseLabels, labels_of
from voco_cli.data.index.trained_on import (
    ScanIdentity,
    TrainingManifest,
    manifest_before,
    scan_identity,
    training_scans,
)
from voco_cli.errors import DataError, UsageError
from voco_cli.models.weights import LoadReport
from voco_cli.objectives.objective import Case, FigureInfo, Figures, Objective, Verdict
from voco_cli.pretrain.task import PretrainingTask, batch_plan, build_model
from voco_cli.training.callbacks import Callback
from voco_cli.training.checkpoint import list_checkpoints
from voco_cli.training.distributed import annotate_rank, build_accelerator, run_on_all, run_on_main
from voco_cli.training.run_contents import open_run_folder, scan_content, settle_run_folder
from voco_cli.training.run_dir import RunFolder
from voco_cli.training.trainer import Trainer
from voco_cli.workflows.pretrain_checks import before_pretraining

TOO_SMALL = "too small after preprocessing"


@dataclass(frozen=True)
class PreparedPretraining:
    """What a run is about to work on.

    Attributes:
        objective: in words.
        terms: parts of the loss that are shown.
        figures: what the held-out figures are.
    """

    folder: Path
    device: str
    precision: str
    objective: str
    terms: tuple[str, ...]
    figures: Mapping[str, FigureInfo]
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
        infos: what each figure is, in the order of a table.
        verdict: what they say; None where nothing was held out.
        weights: the encoder that was written.
        is_main_process: this is the process that tells the user, of several that ran together.
    """

    folder: Path
    start: Figures
    end: Figures
    infos: Mapping[str, FigureInfo]
    verdict: Verdict | None
    weights: Path
    is_main_process: bool


@dataclass
class UsableScans:
    """What of a list can be trained on.

    Attributes:
        training, held_out: cached scans that are large enough.
        identities: of the training scans, for the manifest that goes with the weights.
        contents: split to what each of its scans holds, None for those that are left out.
        left_out: the others, with the reason.
        label_maps: files of the label maps that held-out scans are measured against, by the case's name.
    """

    training: list[Case] = field(default_factory=list)
    held_out: list[Case] = field(default_factory=list)
    identities: list[ScanIdentity] = field(default_factory=list)
    contents: dict[str, list[str | None]] = field(default_factory=dict)
    left_out: list[tuple[Path, str]] = field(default_factory=list)
    label_maps: dict[str, Path] = field(default_factory=dict)


def run_pretraining(resolved: Resolved, callback: Callback) -> PretrainResult:
    """Pre-train an encoder, stage by stage, or go on where an earlier run in the same folder stopped.

    Raises:
        UsageError: settings, data file or run folder do not fit.
        DataError: nothing usable is there to train on; the loss became non-finite.
        ResourceError: disk.
        Interrupted: a signal; the same call resumes.
    """
    if os.environ.get("RANK", "0") != "0":
        callback = Callback()
    stages = stage_runs(resolved)
    with ExitStack() as ending:
        for number, stage in enumerate(stages, 1):
            if len(stages) > 1:
                names = " + ".join(stage.settings.objective.active())
                callback.say(f"stage {number} of {len(stages)}: {names}, in {stage.settings.run.dir}")
            result = _run_stage(stage, callback, ending)
    return result


def _run_stage(resolved: Resolved, callback: Callback, ending: ExitStack) -> PretrainResult:
    """Train one stage to its end; one that has come there already is only checked.

    Args:
        ending: after the last stage, when the processes of all of them part.
    """
    resolved, datalist = before_pretraining(resolved, callback)
    settings = resolved.settings
    accelerator = build_accelerator(settings.run)
    if not accelerator.is_main_process:
        callback = Callback()
    ending.callback(accelerator.end_training)
    folder = RunFolder(settings.run.dir)
    with ExitStack() as stack, annotate_rank(accelerator):

        def open_run() -> dict[Path, str]:
            stack.enter_context(folder.lock())
            open_run_folder(folder, resolved, datalist, _names)
            return _build_cache(settings, datalist, callback)

        failed = run_on_main(accelerator, open_run)
        objective = build_model(settings, accelerator.device)
        scans = UsableScans()
        run_on_all(accelerator, lambda: _find_cases(scans, settings, datalist, failed, objective.region_vox))
        run_on_all(accelerator, lambda: batch_plan(settings, len(scans.training), 0, accelerator.num_processes))
        run_on_main(accelerator, lambda: settle_run_folder(folder, resolved, datalist, scans.contents))
        task = _make_task(objective, settings, datalist, scans, folder)
        callback.prepared(_start(task, scans, folder, accelerator))
        Trainer(task, settings.train, folder, accelerator, callback, settings.run.loggers).run()
        return _result(task, folder, accelerator)


def _cache(settings: Settings) -> VolumeCache:
    assert settings.data.file is not None
    labels = settings.objective.needs_labels
    folder = cache_folder(settings.data.file, settings.cache)
    return VolumeCache(folder, settings.preprocess, settings.cache, labels=labels)


def _build_cache(settings: Settings, datalist: Datalist, callback: Callback) -> dict[Path, str]:
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
    needed_vox: tuple[int, int, int],
    names: Mapping[Path, str],
    failed: Mapping[Path, str],
    labels: Mapping[Path, CaseLabels],
) -> tuple[list[Case], list[ScanIdentity], list[str | None], list[tuple[Path, str]]]:
    """Return cached scans that are large enough, their identities, what each entry holds, and why others are not."""
    cases: list[Case] = []
    identities: list[ScanIdentity] = []
    contents: list[str | None] = []
    left_out: list[tuple[Path, str]] = []
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
        if any(have < need for have, need in zip(shape, needed_vox, strict=True)):
            sizes = ["x".join(map(str, size)) for size in (shape, needed_vox)]
            left_out.append((entry.image, f"{TOO_SMALL}: {sizes[0]} voxels, {sizes[1]} are needed"))
            continue
        cases.append(Case(names[entry.image], volume, labels.get(entry.image)))
        used = cases[-1].labels is not None
        identities.append(replace(scan_identity(entry, voxel_hash), labels_used=used))
    return cases, identities, contents, left_out


def _find_cases(
    scans: UsableScans,
    settings: Settings,
    datalist: Datalist,
    failed: Mapping[Path, str],
    needed_vox: tuple[int, int, int],
) -> None:
    """Fill in what can be trained on.

    Raises:
        UsageError: none is as large as the crops need.
        DataError: none can be used.
    """
    names = case_names([*datalist.training, *datalist.validation])
    classes = settings.objective.supervised.classes
    labels = labels_of(datalist, classes, settings.data.file) if classes else {}
    scans.label_maps = {names[one.image]: one.label for one in datalist.validation if one.label is not None}
    for split, cases in (("training", scans.training), ("validation", scans.held_out)):
        usable, identities, scans.contents[split], others = _cases(
            _cache(settings), getattr(datalist, split), needed_vox, names, failed, labels
        )
        cases += usable
        scans.left_out += others
        if cases is scans.training:
            scans.identities += identities
    if not scans.training:
        raise _nothing_to_train_on(datalist, settings, scans.left_out)


def _make_task(
    objective: Objective, settings: Settings, datalist: Datalist, scans: UsableScans, folder: RunFolder
) -> PretrainingTask:
    before = manifest_before(settings.model.weights)

    def seen() -> TrainingManifest:
        learned = training_scans("pre-training", datalist.name, scans.identities, classes=objective.classes)
        return before.followed_by(learned)

    return PretrainingTask(
        settings, objective, scans.training, scans.held_out, seen, folder.pictures, label_maps=scans.label_maps
    )


def _start(
    task: PretrainingTask, scans: UsableScans, folder: RunFolder, accelerator: Accelerator
) -> PreparedPretraining:
    """Load the starting weights of a run that begins, and say what is about to run."""
    resumed = max((checkpoint.step for checkpoint in list_checkpoints(folder.checkpoints)), default=0)
    loaded = None if resumed else task.load_start()
    if loaded is not None:
        run_on_main(accelerator, lambda: folder.write_weights_report(loaded.to_json()))
    objective = task.objective
    run_on_main(accelerator, lambda: folder.write_objective(objective.title, objective.figure_infos))
    return PreparedPretraining(
        folder=folder.path,
        device=str(accelerator.device),
        precision=str(accelerator.mixed_precision).replace("no", "fp32"),
        objective=objective.title,
        terms=objective.shown_terms,
        figures=objective.figure_infos,
        num_training=len(scans.training),
        num_held_out=len(scans.held_out),
        left_out=scans.left_out,
        num_parameters=sum(p.numel() for p in objective.parameters() if p.requires_grad),
        recompute=objective.recompute,
        resumed_step=resumed,
        loaded=loaded,
    )


def _result(task: PretrainingTask, folder: RunFolder, accelerator: Accelerator) -> PretrainResult:
    history = {int(step): figures for step, figures in task.history.items()}
    start, end = (history[min(history)], history[max(history)]) if history else ({}, {})
    return PretrainResult(
        folder=folder.path,
        start=start,
        end=end,
        infos=task.objective.figure_infos,
        verdict=task.verdict(),
        weights=folder.weights / "encoder.safetensors",
        is_main_process=bool(accelerator.is_main_process),
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
