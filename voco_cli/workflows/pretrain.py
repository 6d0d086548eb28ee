"""`voco pretrain` without its command line: cache, model, loop, verdict."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from accelerate import Accelerator

from voco_cli.config import Resolved, Settings
from voco_cli.config.stages import stage_runs
from voco_cli.data.cache.build import PreparedCache
from voco_cli.data.index.datalist import Datalist, Entry
from voco_cli.data.index.trained_on import ScanIdentity, TrainingManifest, training_scans
from voco_cli.data.mixing import epoch_words
from voco_cli.models.weights import LoadReport
from voco_cli.objectives.objective import FigureInfo, Figures, Objective, Verdict
from voco_cli.pretrain.cases import UsableScans, case_names, open_cache, usable_scans
from voco_cli.pretrain.task import PretrainingTask, batch_plan, build_model
from voco_cli.training.callbacks import Callback
from voco_cli.training.checkpoint import list_checkpoints
from voco_cli.training.distributed import annotate_rank, build_accelerator, run_on_main
from voco_cli.training.run_contents import open_run_folder, settle_run_folder
from voco_cli.training.run_dir import RunFolder
from voco_cli.training.trainer import Trainer
from voco_cli.workflows.pretrain_checks import before_pretraining
from voco_cli.workflows.weights_origin import manifest_before


@dataclass(frozen=True)
class PreparedPretraining:
    """What a run is about to work on.

    Attributes:
        objective: in words.
        terms: parts of the loss that are shown.
        figures: what the held-out figures are.
        drawn: how often an epoch draws each set, in words; none where there is one set.
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
    drawn: str | None


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


def run_pretraining(resolved: Resolved, callback: Callback, *, recheck: bool = False) -> PretrainResult:
    """Pre-train an encoder, stage by stage, or go on where an earlier run in the same folder stopped.

    Args:
        recheck: look at all scans and cached volumes, whatever the manifest of the cache says.
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
            result = _run_stage(stage, callback, ending, recheck)
    return result


def _run_stage(resolved: Resolved, callback: Callback, ending: ExitStack, recheck: bool) -> PretrainResult:
    """Train one stage to its end; one that has come there already is only checked.

    Args:
        ending: after the last stage, when the processes of all of them part.
    """
    accelerator = build_accelerator(resolved.settings.run)
    if not accelerator.is_main_process:
        callback = Callback()
    ending.callback(accelerator.end_training)
    folder = RunFolder(resolved.settings.run.dir)
    # List and cache are read by the main process alone; the others get what they need of them.
    listed: list[tuple[Datalist, bool, PreparedCache]] = []
    identities: list[ScanIdentity] = []
    with ExitStack() as stack, annotate_rank(accelerator):

        def open_run() -> Resolved:
            suited, datalist = before_pretraining(resolved, callback)
            stack.enter_context(folder.lock())
            list_is_there = open_run_folder(folder, suited, datalist, _names)
            prepared = _prepare_cache(suited.settings, datalist, callback, recheck)
            listed.append((datalist, list_is_there, prepared))
            return suited

        def find_scans() -> UsableScans:
            datalist, list_is_there, prepared = listed.pop()
            scans, record = usable_scans(datalist, prepared.facts, settings, objective.region_vox)
            batch_plan(settings, len(scans.training), 0, accelerator.num_processes)  # refuses too few
            settle_run_folder(folder, suited, datalist, record.contents, list_is_there=list_is_there)
            identities.extend(record.identities)
            return scans

        suited = run_on_main(accelerator, open_run)
        settings = suited.settings
        objective = build_model(settings, accelerator.device)
        scans = run_on_main(accelerator, find_scans)
        task = _make_task(objective, settings, scans, identities, folder)
        callback.prepared(_start(task, scans, folder, accelerator))
        Trainer(task, settings.train, folder, accelerator, callback, settings.run.loggers).run()
        return _result(task, folder, accelerator)


def _prepare_cache(settings: Settings, datalist: Datalist, callback: Callback, recheck: bool) -> PreparedCache:
    """Make what is missing of the cache, and find out what it holds."""
    entries = [*datalist.training, *datalist.validation]
    with callback.building(len(entries)) as on_done:

        def done(entry: Entry, reason: str | None) -> None:
            on_done(str(entry.image), reason)

        prepared = open_cache(settings).prepare(entries, on_done=done, recheck=recheck)
    for note in prepared.notes:
        callback.warn(note, style="yellow")
    return prepared


def _names(datalist: Datalist) -> list[tuple[str, str]]:
    """Split and name of each scan that the run uses."""
    names = case_names([*datalist.training, *datalist.validation])
    splits = (("training", datalist.training), ("validation", datalist.validation))
    return [(split, names[entry.image]) for split, entries in splits for entry in entries]


def _make_task(
    objective: Objective, settings: Settings, scans: UsableScans, identities: list[ScanIdentity], folder: RunFolder
) -> PretrainingTask:
    before = manifest_before(settings.model)

    def seen() -> TrainingManifest:
        weak = settings.objective.weak.classes if "weak" in settings.objective.active() else ()
        classes = tuple(dict.fromkeys((*objective.classes, *weak)))
        learned = training_scans("pre-training", scans.dataset, identities, classes=classes)
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
        drawn=epoch_words(
            (case.set_name for case in task.training),
            task.settings.data.mix,
            len(task.training) // (width := task.settings.train.batch_size * accelerator.num_processes),
            width,
        ),
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
