"""`voco evaluate RUN`: the cases of a fine-tuning run are predicted where they are not yet, and measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voco_cli.cli.evaluation_output import print_classification, print_evaluation, report_failures
from voco_cli.cli.output import done, print_json, progress, shell_words

if TYPE_CHECKING:
    from voco_cli.evaluation.classification_folder import ClassificationEvaluation


def evaluate_run(
    path: Path,
    wanted: str | None,
    data: Path | None,
    output: Path | None,
    options: Mapping[str, Any],
    device: str | None,
    require_clean: bool,
    as_json: bool,
) -> None:
    """Measure a split of a run.

    Args:
        wanted: the split; none is test where it has labels, else validation.
        data: where the data lie now.
        options: fields of `EvaluationOptions` that differ from the run's settings.
        require_clean: refuse where the cases were seen in training, or where that cannot be known.
    """
    from dataclasses import replace

    from voco_cli.evaluation.classification_folder import ClassificationEvaluation
    from voco_cli.evaluation.result_folder import evaluation_object
    from voco_cli.finetuning.finetuned_run import measured_split, open_run
    from voco_cli.finetuning.measure import measure, options_of

    run = open_run(path, data)
    split, entries = measured_split(run, wanted)
    measured = measure(
        run,
        split,
        entries,
        replace(options_of(run.settings), **options),
        output=output,
        device=device,
        clean=require_clean,
        progress=progress,
    )
    evaluation, provenance = measured.evaluation, measured.provenance
    if isinstance(evaluation, ClassificationEvaluation):
        _tell_categories(evaluation, measured.written, path, as_json)
        return
    if as_json:
        print_json(evaluation_object(evaluation, str(run.predictions(split)), str(path / "data.json"), provenance))
    else:
        print_evaluation(evaluation, provenance)
        done(measured.written, shell_words("voco", "compare", path, "OTHER_RUN"))
    report_failures(evaluation)


def _tell_categories(evaluation: ClassificationEvaluation, written: Sequence[Path], path: Path, as_json: bool) -> None:
    from voco_cli.evaluation.classification_folder import classification_object

    if as_json:
        print_json(classification_object(evaluation))
    else:
        print_classification(evaluation)
        done(written, shell_words("voco", "predict", path, "NEW_SCANS", "-o", "predictions"))
    report_failures(evaluation)
