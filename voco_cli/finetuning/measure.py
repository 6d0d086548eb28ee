"""What a fine-tuned network is worth: predictions of a split where they are missing, measured in each scan's space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from json import loads
from pathlib import Path

from voco_cli.dataset.datalist import Entry
from voco_cli.dataset.seen import Seen, seen_by
from voco_cli.downstream.prediction.batch import predict_entries
from voco_cli.downstream.prediction.folder import RECORD, made_by
from voco_cli.downstream.prediction.trained import Trained, load_trained
from voco_cli.errors import DataError, UsageError
from voco_cli.evaluation.case_files import CasePair
from voco_cli.evaluation.classification_folder import ClassificationEvaluation, write_classification
from voco_cli.evaluation.empty import empty_rule
from voco_cli.evaluation.folder import Evaluation, EvaluationOptions, Progress, evaluate_pairs, no_progress
from voco_cli.evaluation.measures import Structure
from voco_cli.evaluation.provenance import Provenance
from voco_cli.evaluation.result_folder import write_evaluation
from voco_cli.finetuning.cases import open_cache
from voco_cli.finetuning.contamination import Findings, contamination, findings_object, identities_of, require_clean
from voco_cli.finetuning.finetuned_run import MEASURABLE, FinetunedRun, measured_split, open_run
from voco_cli.finetuning.measure_classification import measure_classification
from voco_cli.settings import Settings
from voco_cli.settings.task import Task


@dataclass(frozen=True)
class Measured:
    """A run that was measured.

    Attributes:
        split: test or validation.
        folder: with cases.csv, summary.json and table.md, which were `written`.
        evaluation: the figures.
        provenance: whose they are, and whether the cases were seen in training.
    """

    split: str
    folder: Path
    evaluation: Evaluation | ClassificationEvaluation
    provenance: Provenance
    written: tuple[Path, ...]


def measure_run(path: Path, progress: Progress = no_progress) -> Measured | None:
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
) -> Measured:
    """Predict what is missing, measure it, look for cases that were seen in training, and write it all down.

    Args:
        entries: labelled cases of the split, as `measured_split` gives them.
        options: how to measure; none is as the run's settings have it.
        output: folder to write to; none is ``evaluation/<split>`` in the run.
        device: auto, cpu, cuda, cuda:N or mps; none is the run's.
        clean: refuse, before anything is predicted, cases that were seen in training or of which that is not known.
    Raises:
        VocoError: what ``clean`` refuses.
        DataError: no case could be predicted or measured.
    """
    found = findings_object(contamination_of(run, entries, progress))
    if clean:
        require_clean(found)
    provenance = Provenance(str(run.path), split, run.chosen, found)
    folder = output or run.evaluation(split)
    options = options or options_of(run.settings)
    if run.settings.task.kind == "classification":
        told = measure_classification(run, split, entries, options, provenance, device=device, progress=progress)
        return Measured(split, folder, told, provenance, tuple(write_classification(told, folder)))
    evaluation = measure_segmentation(run, split, entries, options, device=device, progress=progress)
    written = write_evaluation(evaluation, folder, str(run.predictions(split)), str(run.path / "data.json"), provenance)
    return Measured(split, folder, evaluation, provenance, tuple(written))


def contamination_of(run: FinetunedRun, entries: Sequence[Entry], progress: Progress = no_progress) -> Findings:
    """Which of these cases the weights of a run have seen, in pre-training or in the run itself."""
    scans = sum(len(entry.channel_entries()) for entry in entries)
    with progress("comparing with training", scans) as advance:
        identities = identities_of(entries, open_cache(run.settings), advance)
    return contamination(seen_by(run.path) or Seen(unknown=(str(run.path),)), identities, run.datalist.name)


def measure_segmentation(
    run: FinetunedRun,
    split: str,
    entries: Sequence[Entry],
    options: EvaluationOptions | None = None,
    *,
    device: str | None = None,
    progress: Progress = no_progress,
) -> Evaluation:
    """Predict what is missing into ``predictions/<split>`` of the run and measure it against the original label maps.

    Args:
        entries: labelled cases of the split, as `measured_split` gives them.
        options: how to measure; none is as the run's settings have it.
        device: auto, cpu, cuda, cuda:N or mps; none is the run's.
    Raises:
        DataError: no case could be predicted or measured.
    """
    folder, suffix = run.predictions(split), run.settings.predict.suffix
    trained = load_trained(run.path, device)
    with progress("predicting", len(entries)) as advance:
        report = predict_entries(
            trained,
            entries,
            folder,
            overwrite=not _made_by_it(folder, trained),
            on_done=lambda entry, reason: advance(),
        )
    reasons = dict(report.failed)
    pairs = [
        CasePair(entry.name, entry.patient, folder / f"{entry.name}{suffix}", entry.label)
        for entry in entries
        if entry.label is not None and entry.name not in reasons
    ]
    if not pairs:
        raise nothing_predicted(split, reasons)
    evaluation = evaluate_pairs(
        pairs,
        options or options_of(run.settings),
        classes=task_classes(run.settings.task),
        regions=task_regions(run.settings.task),
        progress=progress,
    )
    return replace(evaluation, failed=tuple(sorted([*evaluation.failed, *reasons.items()])))


def _made_by_it(folder: Path, trained: Trained) -> bool:
    """Whether predictions of a run are those of its weights as they are now; else they are made anew."""
    try:
        record = loads((folder / RECORD).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(record, dict) and record.get("made_by") == made_by(trained)


def nothing_predicted(split: str, reasons: Mapping[str, str]) -> DataError:
    """The error of a split of which no case could be predicted."""
    case, reason = next(iter(reasons.items()))
    return DataError(f"None of the {len(reasons)} {split} cases could be predicted; {case}: {reason}")


def options_of(settings: Settings) -> EvaluationOptions:
    """How the settings have it measured."""
    evaluate = settings.evaluate
    return EvaluationOptions(
        evaluate.tolerance_mm,
        empty_rule(evaluate.empty),
        evaluate.resamples,
        settings.seed,
        ignore_label=settings.task.ignore_value,
    )


def task_classes(task: Task) -> tuple[Structure, ...]:
    """The classes of a task by the values of its label maps; several values are one structure."""
    return tuple(Structure(one.name, one.values) for one in task.classes)


def task_regions(task: Task) -> tuple[Structure, ...]:
    """The regions of a task: the values of all classes that belong to each.

    Raises:
        UsageError: a region of a region that is only named after it.
    """
    values = {one.name: set(one.values) for one in task.classes}
    regions = []
    for region in task.regions:
        later = [name for name in region.classes if name not in values]
        if later:
            raise UsageError(f"The region {region.name!r} consists of {later[0]!r}, which is only named after it.")
        values[region.name] = set().union(*(values[name] for name in region.classes))
        regions.append(Structure(region.name, tuple(sorted(values[region.name])), is_region=True))
    return tuple(regions)
