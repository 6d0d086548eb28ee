"""`voco finetune` without its command line: from settings to a trained network and what it is worth on test cases."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from voco_cli.config import Resolved, Settings
from voco_cli.data.index.datalist import Datalist, Entry
from voco_cli.data.index.trained_on import MANIFEST_FILE, TrainingManifest, write_manifest
from voco_cli.errors import DataError
from voco_cli.evaluate.result_files import require_clean
from voco_cli.finetune.labelled_task import LabelledTask, select_checkpoint
from voco_cli.models.weights import LoadReport
from voco_cli.models.weights.load import load_start
from voco_cli.task_kinds import kind_of
from voco_cli.tasks.cases import LeftOut, StoredCase, StoredChannels, build_cases, open_cache, stored_cases
from voco_cli.tasks.find_data import TaskData
from voco_cli.tasks.splits import subset
from voco_cli.tasks.targets import target_of
from voco_cli.training.callbacks import Callback
from voco_cli.training.checkpoint import list_checkpoints
from voco_cli.training.distributed import annotate_rank, build_accelerator, run_on_main
from voco_cli.training.run_contents import open_run_folder, scan_content, settle_run_folder
from voco_cli.training.run_dir import RunFolder
from voco_cli.training.trainer import Trainer
from voco_cli.workflows.evaluate import MeasuredRun, measure_run
from voco_cli.workflows.finetune_checks import before_finetuning
from voco_cli.workflows.leakage import Findings, find_leakage, findings_object


@dataclass(frozen=True)
class PreparedFinetuning:
    """Everything that a run is about to work on."""

    folder: Path
    device: str
    precision: str
    data: TaskData
    num_training: int
    num_validation: int
    left_out: LeftOut
    num_parameters: int
    num_trainable: int
    loaded: LoadReport | None
    resumed_step: int
    leakage: Findings


@dataclass(frozen=True)
class FinetuneResult:
    """Result of a run.

    Attributes:
        weights: the chosen network.
        chosen_step, how_chosen: of these weights.
        measured: what they are worth, on test where it has labels, else on validation; None where nothing is labelled.
        is_main_process: this is the process that tells the user, of several that ran together.
    """

    folder: Path
    weights: Path
    chosen_step: int
    how_chosen: str
    measured: MeasuredRun | None
    is_main_process: bool

    @property
    def evaluated_split(self) -> str | None:
        """The split that was measured."""
        return self.measured.split if self.measured else None

    @property
    def evaluation(self) -> Path | None:
        """Folder with cases.csv, summary.json and table.md."""
        return self.measured.folder if self.measured else None


def run_finetuning(
    resolved: Resolved, callback: Callback, clean: bool = False, *, recheck: bool = False
) -> FinetuneResult:
    """Train a network on a task, or go on where an earlier run in the same folder stopped.

    Args:
        clean: refuse data leakage: cases to be evaluated that were trained on, or where that cannot be known.
        recheck: look at all scans and cached volumes, whatever the manifest of the cache says.
    Raises:
        VocoError: what ``clean`` refuses.
        UsageError: settings, data or run folder do not fit; weights of another architecture.
        DataError: nothing usable is there to train on; label values that no class has; the loss became non-finite.
        ResourceError: disk or memory.
        Interrupted: a signal; the same call resumes.
    """
    if os.environ.get("RANK", "0") != "0":
        callback = Callback()
    resolved, data = before_finetuning(resolved, callback)
    settings, folder = resolved.settings, RunFolder(resolved.settings.run.dir)
    training = subset(data.datalist.training, settings.task, settings.seed)
    datalist = data.datalist.model_copy(update={"training": training})
    accelerator = build_accelerator(settings.run)
    callback = callback if accelerator.is_main_process else Callback()
    on_main = partial(run_on_main, accelerator)
    with ExitStack() as stack:
        stack.callback(accelerator.end_training)
        stack.enter_context(annotate_rank(accelerator))

        # The main process holds the run folder and knows the cache; every other gets the same cases of it.
        on_main(lambda: _lock(folder, stack))
        there = on_main(lambda: open_run_folder(folder, resolved, datalist, _names))
        cases = on_main(lambda: _find_cases(settings, datalist, callback, recheck))
        on_main(lambda: settle_run_folder(folder, resolved, datalist, cases.contents, list_is_there=there))
        manifest, findings = on_main(lambda: _find_leakage(settings, datalist, cases, callback))
        if clean:
            require_clean(findings_object(findings))

        make_task = kind_of(settings.task).training_task
        task = make_task(settings, cases.training, cases.validation, accelerator.device, callback.progress)
        resumed_step = max((one.step for one in list_checkpoints(folder.checkpoints)), default=0)
        loaded = None if resumed_step else load_start(task.model, settings.model)
        if loaded is not None:
            on_main(lambda: folder.write_weights_report(loaded.to_json()))
        where = (str(accelerator.device), str(accelerator.mixed_precision).replace("no", "fp32"))
        callback.prepared(_prepared(folder, where, data, cases, task, loaded, resumed_step, findings))

        Trainer(task, settings.train, folder, accelerator, callback, settings.run.loggers).run()

        finish = partial(_finish, task, settings, folder, len(cases.validation), manifest, callback)
        step, how_chosen, measured = on_main(finish)
        weights = folder.weights / "model.safetensors"
        return FinetuneResult(folder.path, weights, step, how_chosen, measured, bool(accelerator.is_main_process))


@dataclass
class _Cases:
    """Usable cases, the same on every process.

    Attributes:
        contents: split to what each listed case holds as training sees it; none of one that cannot be used.
    """

    training: list[StoredCase] = field(default_factory=list)
    validation: list[StoredCase] = field(default_factory=list)
    left_out: LeftOut = field(default_factory=list)
    contents: dict[str, list[str | None]] = field(default_factory=dict)


def _lock(folder: RunFolder, stack: ExitStack) -> None:
    stack.enter_context(folder.lock())


def _names(datalist: Datalist) -> list[tuple[str, str]]:
    """Return split and name of each case, and its category."""
    return [
        (split, entry.name if entry.category is None else f"{entry.name} ({entry.category})")
        for split, entry in datalist.entries()
    ]


def _find_cases(settings: Settings, datalist: Datalist, callback: Callback, recheck: bool) -> _Cases:
    """Make what is missing of the cache, and find the cases that can be used.

    Raises:
        DataError: none of those that train can be used.
    """
    cache, cases = open_cache(settings), _Cases()
    stored = build_cases(cache, [*datalist.training, *datalist.validation], callback, recheck=recheck)
    for split, usable in (("training", cases.training), ("validation", cases.validation)):
        entries = getattr(datalist, split)
        found, others = stored_cases(cache, entries, settings, stored)
        usable += found
        cases.left_out += others
        names = {case.name for case in found}
        cases.contents[split] = [_content(entry, stored) if entry.name in names else None for entry in entries]
    if not cases.training:
        reasons = "; ".join(reason for _, reason in cases.left_out[:3])
        what = f"None of the {len(datalist.training)} training cases can be used"
        raise DataError(f"{what}: {reasons or 'there are none'}", f"voco tasks check --task {settings.task.preset}")
    return cases


def _content(entry: Entry, stored: StoredChannels) -> str:
    """Return what a usable case holds as training sees it."""
    known = [stored[one.image, one.label] for one in entry.channel_entries()]
    return scan_content([facts for facts in known if not isinstance(facts, str)])


def _find_leakage(
    settings: Settings, datalist: Datalist, cases: _Cases, callback: Callback
) -> tuple[TrainingManifest, Findings]:
    """Return the manifest of what the weights will be trained on, and which cases to be evaluated are in it."""
    target, listed = target_of(settings.task), [*datalist.test, *datalist.validation]
    evaluated = [entry for entry in listed if target.is_known(entry)]
    with callback.progress("comparing with training", len(evaluated) * len(settings.task.channels)) as advance:
        cache = open_cache(settings)
        public_set = settings.task.public_set
        return find_leakage(settings.model, cases.training, evaluated, datalist.name, cache, advance, public_set)


def _prepared(
    folder: RunFolder,
    where: tuple[str, str],
    data: TaskData,
    cases: _Cases,
    task: LabelledTask,
    loaded: LoadReport | None,
    resumed_step: int,
    findings: Findings,
) -> PreparedFinetuning:
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in task.model.parameters()]
    return PreparedFinetuning(
        folder.path,
        *where,
        data,
        len(cases.training),
        len(cases.validation),
        cases.left_out,
        sum(size for size, _ in sizes),
        sum(size for size, is_trained in sizes if is_trained),
        loaded,
        resumed_step,
        findings,
    )


def _finish(
    task: LabelledTask,
    settings: Settings,
    folder: RunFolder,
    num_validation: int,
    manifest: TrainingManifest,
    callback: Callback,
) -> tuple[int, str, MeasuredRun | None]:
    """Write the selected weights and the manifest of what they were trained on, and measure them."""
    step, how_chosen = select_checkpoint(task, folder.checkpoints, folder.weights, settings.task.choose, num_validation)
    write_manifest(manifest, folder.weights / MANIFEST_FILE)
    return step, how_chosen, measure_run(folder.path, callback.progress)
