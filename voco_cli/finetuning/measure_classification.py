"""What a fine-tuned classifier is worth: probabilities of a split where they are missing, measured with intervals."""

from __future__ import annotations

from collections.abc import Sequence

from voco_cli.dataset.datalist import Entry
from voco_cli.downstream.batches.volumes import category_index
from voco_cli.downstream.prediction.classify import classify_entries, table_made_by
from voco_cli.downstream.prediction.probabilities import is_made_by
from voco_cli.downstream.prediction.trained import load_trained
from voco_cli.errors import DataError
from voco_cli.evaluation.classification import scored_cases, summarise_classification
from voco_cli.evaluation.classification_folder import ClassificationEvaluation
from voco_cli.evaluation.folder import EvaluationOptions, Progress, no_progress
from voco_cli.evaluation.provenance import Provenance
from voco_cli.finetuning.finetuned_run import FinetunedRun


def measure_classification(
    run: FinetunedRun,
    split: str,
    entries: Sequence[Entry],
    options: EvaluationOptions,
    provenance: Provenance | None = None,
    *,
    device: str | None = None,
    progress: Progress = no_progress,
) -> ClassificationEvaluation:
    """Classify what is missing into ``predictions/<split>`` of the run and measure it against the known categories.

    Args:
        entries: cases of the split with a category, as `measured_split` gives them.
        options: resamples and seed of the bootstrap.
        provenance: what else is told of the figures.
        device: auto, cpu, cuda, cuda:N or mps; none is the run's.
    Raises:
        DataError: no case could be classified.
    """
    settings, trained = run.settings, load_trained(run.path, device)
    with progress("classifying", len(entries)) as advance:
        folder = run.predictions(split)
        # Probabilities of a run are those of its weights as they are now; others are made anew.
        others = not is_made_by(folder, table_made_by(trained))
        found = classify_entries(trained, entries, folder, overwrite=others, on_done=lambda *_: advance())
    failed = {entry.name: found.failed[entry.name] for entry in entries if entry.name in found.failed}
    usable = [entry for entry in entries if entry.name not in failed]
    if not usable:
        raise DataError(f"None of the {len(entries)} {split} cases could be classified: {next(iter(failed.values()))}")
    truth = [(entry.name, entry.patient, category_index(settings.task, entry)) for entry in usable]
    scored = scored_cases(truth, found.rows, found.categories)
    summary = summarise_classification(scored, options.resamples, options.seed)
    return ClassificationEvaluation(scored, summary, tuple(sorted(failed.items())), provenance)
