"""`voco finetune` without its command line: data, cache, network, loop, the chosen weights and what they are worth."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch import nn

from voco_cli.config import Resolved, Settings
from voco_cli.data.index.datalist import Datalist, Entry
from voco_cli.data.index.trained_on import SEEN_FILE, Seen, write_seen
from voco_cli.errors import DataError
from voco_cli.finetune.classification import ClassificationTask
from voco_cli.finetune.dataset import survey_labels
from voco_cli.finetune.segmentation import SegmentationTask
from voco_cli.models.weights import LoadReport, put_tensors
from voco_cli.models.weights.load import load_start
from voco_cli.tasks.cases import LeftOut, StoredCase, build_cases, open_cache, stored_cases
from voco_cli.tasks.find_data import TaskData
from voco_cli.tasks.splits import subset
from voco_cli.training.checkpoint import best_of, list_checkpoints
from voco_cli.training.distributed import annotate_rank, build_accelerator, run_on_all, run_on_main
from voco_cli.training.run_contents import open_run_folder, scan_content, settle_run_folder
from voco_cli.training.run_dir import RunFolder
from voco_cli.training.task import Callback, NullCallback, Values
from voco_cli.training.trainer import Trainer
from voco_cli.workflows.evaluate import MEASURABLE, Measured, measure_run
from voco_cli.workflows.finetune_checks import before_finetuning
from voco_cli.workflows.leakage import Findings, findings_object, look_back, require_clean


class Scored(Protocol):
    """A job whose checkpoints are scored by validation; the error is one minus the figure."""

    model: nn.Module
    score_words: str
    history: dict[str, dict[str, float]]

    def is_defined(self, figures: Values) -> bool:
        """Whether a validation had something to measure."""

    def export(self, folder: Path, step: int, **more: Any) -> None:
        """Write the network."""


def choose_weights(job: Scored, checkpoints: Path, weights: Path, choose: str, num_validation: int) -> tuple[int, str]:
    """Load the chosen checkpoint into the job's model and write it as the result of the run.

    Args:
        choose: ``best`` on validation, or ``last``.
        num_validation: cases that validated.
    Returns:
        its step, and how it was chosen.
    """
    found = list_checkpoints(checkpoints)
    defined = {step for step, figures in job.history.items() if job.is_defined(figures)}
    best = best_of(found) if choose == "best" else None
    if best is not None and str(best.step) in defined:
        score = 1.0 - (best.score or 0.0)
        words = (
            f"weights of step {best.step}, the best of {len(job.history)} validations by {job.score_words} "
            f"({score:.4f} on {num_validation} validation cases)"
        )
    elif best is not None and defined:
        words = (
            f"weights of step {best.step}, which predict nothing in {num_validation} validation cases, where nothing "
            f"is there; {len(defined)} of {len(job.history)} validations found what is not there"
        )
    else:
        nothing = best is not None
        best = found[-1]
        words = f"weights of the last step, {best.step}; no validation chose them"
        words += f", as nothing is there in {num_validation} validation cases" if nothing else ""
    put_tensors(job.model, load_file(best.path / "model.safetensors"))
    job.export(weights, best.step, chosen=words)
    return best.step, words


FinetuningJob = SegmentationTask | ClassificationTask


@dataclass(frozen=True)
class PreparedFinetuning:
    """What a run is about to work on."""

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


class FinetuneCallback(Callback, Protocol):
    """Who is told how a fine-tuning goes."""

    def building(self, total: int) -> AbstractContextManager[Callable[[str, str | None], None]]:
        """The cache of ``total`` volumes is built; the callable gets a file and why it failed, or None."""

    def prepared(self, prepared: PreparedFinetuning) -> None:
        """Data and network are ready."""

    def progress(self, description: str, total: int) -> AbstractContextManager[Callable[..., None]]:
        """Something that takes a while: labels are surveyed, scans predicted and measured."""


@dataclass(frozen=True)
class FinetuneResult:
    """How a run ended.

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
    measured: Measured | None
    is_main_process: bool

    @property
    def evaluated_split(self) -> str | None:
        """The split that was measured."""
        return self.measured.split if self.measured else None

    @property
    def evaluation(self) -> Path | None:
        """Folder with cases.csv, summary.json and table.md."""
        return self.measured.folder if self.measured else None


@dataclass
class _Cases:
    """Usable cases of this process."""

    training: list[StoredCase] = field(default_factory=list)
    validation: list[StoredCase] = field(default_factory=list)
    left_out: LeftOut = field(default_factory=list)


def run_finetuning(resolved: Resolved, callback: FinetuneCallback, clean: bool = False) -> FinetuneResult:
    """Train a network on a task, or go on where an earlier run in the same folder stopped.

    Args:
        clean: refuse where cases to be evaluated were seen in training, or where that cannot be known.
    Raises:
        VocoError: what ``clean`` refuses.
        UsageError: settings, data or run folder do not fit; weights of another architecture.
        DataError: nothing usable is there to train on; label values that no class has; the loss became non-finite.
        ResourceError: disk or memory.
        Interrupted: a signal; the same call resumes.
    """
    if os.environ.get("RANK", "0") != "0":
        callback = NullCallback()
    resolved, data = before_finetuning(resolved, callback)
    settings = resolved.settings
    training = subset(data.datalist.training, settings.task, settings.seed)
    datalist = data.datalist.model_copy(update={"training": tuple(training)})
    accelerator = build_accelerator(settings.run)
    if not accelerator.is_main_process:
        callback = NullCallback()
    folder = RunFolder(settings.run.dir)
    try:
        with ExitStack() as stack, annotate_rank(accelerator):

            def open_run() -> dict[Path, str]:
                stack.enter_context(folder.lock())
                open_run_folder(folder, resolved, datalist, _names)
                entries = [*datalist.training, *datalist.validation]
                with callback.building(len(entries) * len(settings.task.channels)) as on_done:
                    return build_cases(open_cache(settings), entries, on_done)

            failed = run_on_main(accelerator, open_run)
            cases = _Cases()
            run_on_all(accelerator, lambda: _find_cases(cases, datalist, settings, failed))
            run_on_main(accelerator, lambda: settle_run_folder(folder, resolved, datalist, _contents(cases, datalist)))
            seen, findings = run_on_main(accelerator, lambda: _look_back(settings, datalist, cases, callback))
            if clean:
                require_clean(findings_object(findings))
            return _train(resolved, data, cases, folder, accelerator, callback, seen, findings)
    finally:
        accelerator.end_training()


def _names(datalist: Datalist) -> list[tuple[str, str]]:
    """Split and name of each case, and its category."""
    return [
        (split, entry.name if entry.category is None else f"{entry.name} ({entry.category})")
        for split, entry in datalist.entries()
    ]


def _contents(cases: _Cases, datalist: Datalist) -> dict[str, list[str | None]]:
    """What each listed case holds as training sees it; none of one that cannot be used."""
    return {
        split: _contents_of(entries, usable)
        for split, entries, usable in (
            ("training", datalist.training, cases.training),
            ("validation", datalist.validation, cases.validation),
        )
    }


def _contents_of(entries: Sequence[Entry], usable: Sequence[StoredCase]) -> list[str | None]:
    known = {case.name: scan_content(case.volumes) for case in usable}
    return [known.get(entry.name) for entry in entries]


def _find_cases(cases: _Cases, datalist: Datalist, settings: Settings, failed: Mapping[Path, str]) -> None:
    cache = open_cache(settings)
    for entries, usable in ((datalist.training, cases.training), (datalist.validation, cases.validation)):
        found, others = stored_cases(cache, entries, settings, failed)
        usable += found
        cases.left_out += others
    if not cases.training:
        reasons = "; ".join(reason for _, reason in cases.left_out[:3])
        what = f"None of the {len(datalist.training)} training cases can be used"
        raise DataError(f"{what}: {reasons or 'there are none'}", f"voco tasks check --task {settings.task.preset}")


def _look_back(
    settings: Settings, datalist: Datalist, cases: _Cases, callback: FinetuneCallback
) -> tuple[Seen, Findings]:
    """What the weights will have seen, and which of the cases that will be evaluated are among it."""
    listed = [entry for split in MEASURABLE for entry in getattr(datalist, split) if entry.label or entry.category]
    with callback.progress("comparing with training", len(listed) * len(settings.task.channels)) as advance:
        cache = open_cache(settings)
        return look_back(settings.model.weights, cases.training, listed, datalist.name, cache, advance)


def _make_job(settings: Settings, cases: _Cases, device: torch.device, callback: FinetuneCallback) -> FinetuningJob:
    if settings.task.kind == "classification":
        return ClassificationTask(settings, cases.training, cases.validation, device)
    labelled = [*cases.training, *cases.validation]
    with callback.progress("labels", len(labelled)) as advance:
        points = survey_labels(labelled, settings.task, advance)
    return SegmentationTask(settings, cases.training, cases.validation, points, device)


def _train(
    resolved: Resolved,
    data: TaskData,
    cases: _Cases,
    folder: RunFolder,
    accelerator: Accelerator,
    callback: FinetuneCallback,
    seen: Seen,
    findings: Findings,
) -> FinetuneResult:
    settings = resolved.settings
    job = _make_job(settings, cases, accelerator.device, callback)
    resumed = max((one.step for one in list_checkpoints(folder.checkpoints)), default=0)
    loaded = None if resumed else load_start(job.model, settings.model)
    if loaded is not None:
        run_on_main(accelerator, lambda: folder.write_weights_report(loaded.to_json()))
    trainable = [parameter for parameter in job.model.parameters() if parameter.requires_grad]
    callback.prepared(
        PreparedFinetuning(
            folder.path,
            str(accelerator.device),
            str(accelerator.mixed_precision).replace("no", "fp32"),
            data,
            len(cases.training),
            len(cases.validation),
            cases.left_out,
            sum(parameter.numel() for parameter in job.model.parameters()),
            sum(parameter.numel() for parameter in trainable),
            loaded,
            resumed,
            findings,
        )
    )
    Trainer(job, settings.train, folder, accelerator, callback, settings.run.loggers).run()

    def finish() -> tuple[int, str, Measured | None]:
        step, words = choose_weights(
            job, folder.checkpoints, folder.weights, settings.task.choose, len(cases.validation)
        )
        write_seen(seen, folder.weights / SEEN_FILE)
        return step, words, measure_run(folder.path, callback.progress)

    step, words, measured = run_on_main(accelerator, finish)
    weights = folder.weights / "model.safetensors"
    return FinetuneResult(folder.path, weights, step, words, measured, bool(accelerator.is_main_process))
