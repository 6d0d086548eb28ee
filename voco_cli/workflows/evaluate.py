"""`voco evaluate RUN` without its command line: the run is opened, its split predicted, measured and written down."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from json import loads
from pathlib import Path
from typing import Any

from voco_cli.config import Settings, read_saved
from voco_cli.data.case_labels import CaseLabels
from voco_cli.data.index.datalist import Datalist, Entry
from voco_cli.data.index.datalist_file import read_datalist
from voco_cli.data.index.labelled import labels_of
from voco_cli.data.index.trained_on import TrainingManifest, manifest_of
from voco_cli.data.parallel import HERE, Runner
from voco_cli.data.shards import own_entries
from voco_cli.errors import DataError, UsageError
from voco_cli.evaluate.classification.results import ClassificationEvaluation
from voco_cli.evaluate.result_files import EvaluationOptions, Provenance, require_clean
from voco_cli.evaluate.segmentation.case_files import CasePair
from voco_cli.evaluate.segmentation.evaluate import Progress, evaluate_pairs, no_progress
from voco_cli.evaluate.segmentation.metrics import empty_rule
from voco_cli.evaluate.segmentation.results import Evaluation
from voco_cli.evaluate.segmentation.union_of_classes import union_structures
from voco_cli.foreign_text import named
from voco_cli.object_stores import ask_of_many
from voco_cli.predict.predictor import Trained, load_trained
from voco_cli.task_kinds import kind_of
from voco_cli.tasks.cases import open_cache
from voco_cli.tasks.find_data import find_task_data
from voco_cli.tasks.targets import as_task, is_class_union, target_of, tells_classes
from voco_cli.training.run_dir import RunFolder
from voco_cli.workflows.leakage import Findings, findings_object, identities_of, leakage

MEASURABLE = ("test", "validation")


@dataclass(frozen=True)
class FinetunedRun:
    """A run folder of a fine-tuning, opened to be measured.

    Attributes:
        path: the folder.
        settings: those of the run.
        datalist: its cases.
        chosen: how its weights were chosen, one sentence for people; empty where that is not known.
        labels: what each label map knows of the classes that a pre-training tells, by image; empty of a fine-tuning.
    """

    path: Path
    settings: Settings
    datalist: Datalist
    chosen: str = ""
    labels: Mapping[Path, CaseLabels] = field(default_factory=dict)

    def predictions(self, split: str) -> Path:
        """Return the folder of the predictions of a split."""
        return self.path / "predictions" / split

    def evaluation(self, split: str) -> Path:
        """Return the folder of the evaluation of a split."""
        return self.path / "evaluation" / split

    def labelled(self, split: str) -> list[Entry]:
        """Return the cases of a split that have what the task learns: a label map, or a category."""
        entries: tuple[Entry, ...] = getattr(self.datalist, split)
        if is_class_union(self.settings):
            return [entry for entry in entries if entry.image in self.labels]
        return [entry for entry in entries if target_of(self.settings.task).is_known(entry)]


def open_run(path: Path, data: Path | None = None) -> FinetunedRun:
    """Open the run folder of a fine-tuning, or of a pre-training whose network tells classes.

    Args:
        data: data folder or data.json, where the scans are not any more where the run found them.
    Raises:
        DataError: no such folder, no weights yet, scans that are missing.
        UsageError: the run of something else, or cases that the data does not have.
    """
    folder = RunFolder(path)
    if not folder.settings_file.is_file():
        raise DataError(f"{path} is not a run folder.", "give the folder that voco finetune wrote")
    settings = read_saved(folder.settings_file)
    settings = as_task(settings) if tells_classes(settings) else settings
    if settings.task.preset is None:
        raise UsageError(
            f"{path} is a pre-training run, which predicts nothing.",
            f"fine-tune it first: voco finetune --task TASK --weights {shlex.quote(str(path))}",
        )
    about = folder.weights / "model.json"
    if not about.is_file():
        raise DataError(f"{path} has no trained network yet.", "run voco finetune on it to the end")
    datalist = read_datalist(folder.data_file, check_files=False)
    if data is not None:
        datalist = _moved(datalist, settings, data)
    _require_files(datalist, path)
    labels = {}
    if is_class_union(settings):
        labels = labels_of(datalist, settings.objective.supervised.classes, folder.data_file)
    return FinetunedRun(path, settings, datalist, _chosen(about), labels)


def measured_split(run: FinetunedRun, wanted: str | None = None) -> tuple[str, list[Entry]]:
    """Return a split and its labelled cases: the wanted one, else test where it has labels, else validation.

    Raises:
        UsageError: no labelled case.
    """
    for split in MEASURABLE if wanted is None else (wanted,):
        if labelled := run.labelled(split):
            return split, labelled
    where = f"in its {wanted} split" if wanted else "to test or validate on"
    raise UsageError(f"{run.path} has no labelled case {where}.", "see data.json in the run folder")


def _require_files(datalist: Datalist, path: Path) -> None:
    """Raise if scans or labels to be measured are not there; those that were trained on need not be any more."""
    entries = [entry for split in MEASURABLE for entry in getattr(datalist, split)]
    files = [file for entry in entries for file in (entry.image, *entry.files, *entry.channels, entry.label) if file]
    ask_of_many(files)
    missing = [str(file) for file in files if not file.exists()]
    if missing:
        raise DataError(
            f"{named(missing)} of {path}/data.json: no such file any more.",
            "copy them back, or say where the data lie now with --data",
        )


def _chosen(about: Path) -> str:
    try:
        content = loads(about.read_text())
        step = content.get("step")
        chosen = content.get("chosen") or (f"those of step {step} of a run that is not finished" if step else "")
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(f"{about} is damaged: {error}.", "run voco finetune on the folder again") from error
    return str(chosen)


def _moved(datalist: Datalist, settings: Settings, data: Path) -> Datalist:
    """Return the same cases of the same splits, where they lie now."""
    if is_class_union(settings):
        return read_datalist(data)
    where = {"file": data, "root": None} if data.is_file() else {"file": None, "root": data}
    moved = settings.model_copy(update={"data": settings.data.model_copy(update=where)})
    found = {entry.name: entry for _, entry in find_task_data(moved).datalist.entries()}
    missing = [entry.name for split in MEASURABLE for entry in getattr(datalist, split) if entry.name not in found]
    if missing:
        raise DataError(f"{data} has no case {named(missing)}.", "give the data of the run")
    return datalist.model_copy(
        update={split: tuple(found[entry.name] for entry in getattr(datalist, split)) for split in MEASURABLE}
    )


@dataclass(frozen=True)
class MeasuredRun:
    """A run that was measured.

    Attributes:
        split: test or validation.
        folder: with cases.csv, summary.json and table.md, which were `written`.
        evaluation: the figures.
        summary: the content of summary.json.
        provenance: whose they are, and whether the cases were in the training.
    """

    split: str
    folder: Path
    evaluation: Evaluation | ClassificationEvaluation
    summary: Mapping[str, Any]
    provenance: Provenance
    written: tuple[Path, ...]


def measure_run(path: Path, progress: Progress = no_progress) -> MeasuredRun | None:
    """Measure the chosen weights at the end of a run, on the test split where it has labels, else on validation.

    Returns:
        None where no case to be measured has a label.
    """
    run = open_run(path)
    if not any(run.labelled(split) for split in MEASURABLE):
        return None
    split, entries = measured_split(run)
    return measure(run, split, entries, progress=progress)


def measure(
    run: FinetunedRun,
    split: str,
    entries: Sequence[Entry],
    options: EvaluationOptions | None = None,
    *,
    output: Path | None = None,
    device: str | None = None,
    clean: bool = False,
    progress: Progress = no_progress,
    runner: Runner = HERE,
) -> MeasuredRun:
    """Predict what is missing, measure it, find cases that were in the training, and write it all down.

    Args:
        entries: labelled cases of the split, as `measured_split` gives them.
        options: how to measure; none is as the run's settings have it.
        output: folder to write to; none is ``evaluation/<split>`` in the run.
        device: auto, cpu, cuda, cuda:N or mps; none is the run's.
        clean: refuse, before anything is predicted, cases that were in the training or of which that is not known.
        runner: does the work; a shard does its share of the cases, and writes nothing but their predictions.
    Raises:
        VocoError: what ``clean`` refuses.
        DataError: no case could be predicted or measured.
    """
    entries = own_entries(entries, [run.path], runner)
    found = findings_object(_leakage_of(run, entries, progress, runner))
    if clean:
        require_clean(found)
    provenance = Provenance(str(run.path), split, run.chosen, found)
    folder, options = output or run.evaluation(split), options or options_of(run.settings)
    trained = load_trained(run.path, device)
    evaluation = _predicted_and_evaluated(run, split, entries, trained, options, progress, runner)
    if runner.is_part:
        return MeasuredRun(split, folder, evaluation, {}, provenance, ())
    origin = (str(run.predictions(split)), str(run.path / "data.json"))
    written = evaluation.write(folder, *origin, provenance)
    summary = evaluation.to_json(*origin, provenance)
    return MeasuredRun(split, folder, evaluation, summary, provenance, tuple(written))


def _leakage_of(run: FinetunedRun, entries: Sequence[Entry], progress: Progress, runner: Runner) -> Findings:
    """Return which of these cases were in the training of a run or of the weights that it started from."""
    scans = sum(len(entry.channel_entries()) for entry in entries)
    with progress("comparing with training", scans) as advance:
        identities = identities_of(entries, open_cache(run.settings), advance, runner)
    manifest = manifest_of(run.path) or TrainingManifest(unknown=(str(run.path),))
    return leakage(manifest, identities, run.datalist.name, run.settings.task.public_set)


def _predicted_and_evaluated(
    run: FinetunedRun,
    split: str,
    entries: Sequence[Entry],
    trained: Trained,
    options: EvaluationOptions,
    progress: Progress,
    runner: Runner,
) -> Evaluation | ClassificationEvaluation:
    """Predict what is missing into ``predictions/<split>`` of the run and measure it against what is known."""
    folder, kind = run.predictions(split), kind_of(run.settings.task)
    with progress("predicting", len(entries)) as advance:
        # Predictions of a run are those of its weights as they are now; others are made anew.
        report = kind.predict(trained, entries, folder, overwrite=True, on_done=lambda *_: advance(), runner=runner)
    reasons = dict(report.failed)
    usable = [entry for entry in entries if entry.name not in reasons]
    if not usable and not runner.is_part:
        case, reason = next(iter(reasons.items()))
        raise DataError(f"None of the {len(reasons)} {split} cases could be predicted; {case}: {reason}")
    if run.labels:
        found: Evaluation | ClassificationEvaluation = _evaluate_union(run, usable, folder, options, progress, runner)
    else:
        found = kind.evaluate(run.settings, usable, folder, options, progress, runner)
    return replace(found, failed=tuple(sorted([*found.failed, *reasons.items()])))


def _evaluate_union(
    run: FinetunedRun,
    entries: Sequence[Entry],
    folder: Path,
    options: EvaluationOptions,
    progress: Progress,
    runner: Runner,
) -> Evaluation:
    """Measure each case on the classes that it is labelled for."""
    told = run.settings.objective.supervised
    suffix = run.settings.predict.suffix
    pairs = [
        CasePair(one.name, one.patient, folder / f"{one.name}{suffix}", one.label, run.labels[one.image])
        for one in entries
        if one.label is not None
    ]
    classes = union_structures(told.classes, told.inside)
    return evaluate_pairs(pairs, options, classes=classes, progress=progress, runner=runner)


def options_of(settings: Settings) -> EvaluationOptions:
    """Return how the settings have it measured."""
    evaluate = settings.evaluate
    return EvaluationOptions(
        evaluate.tolerance_mm,
        empty_rule(evaluate.empty),
        evaluate.resamples,
        settings.seed,
        ignore_label=settings.task.ignore_value,
    )
