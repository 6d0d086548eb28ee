"""The kinds of labelled tasks: what trains one, what applies its network, and what measures its predictions.

A new kind of task is one module in each of ``finetune/``, ``predict/`` and ``evaluate/``, a `Target` in
``tasks/targets.py``, a network in ``models/build.py``, an `EvaluationResult` in ``evaluate/read_results.py``, and its
line here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from voco_cli.config import Settings
from voco_cli.config.task_schema import Task
from voco_cli.data.index.datalist import Entry
from voco_cli.data.parallel import HERE, Runner
from voco_cli.evaluate.classification.results import ClassificationEvaluation
from voco_cli.evaluate.classification.table import scored_cases
from voco_cli.evaluate.result_files import EvaluationOptions
from voco_cli.evaluate.segmentation.case_files import CasePair
from voco_cli.evaluate.segmentation.classes import task_classes, task_regions
from voco_cli.evaluate.segmentation.evaluate import Progress, evaluate_pairs
from voco_cli.evaluate.segmentation.results import Evaluation
from voco_cli.finetune.classification import ClassificationTask, category_index
from voco_cli.finetune.segmentation import SegmentationTask
from voco_cli.predict.classification import TABLE, classify_entries, read_probabilities
from voco_cli.predict.output_dir import OnDone, PredictionReport
from voco_cli.predict.predictor import Trained
from voco_cli.predict.segmentation import predict_entries


class PredictEntries(Protocol):
    """Apply a trained network to scans and write what it predicts into a folder."""

    def __call__(
        self,
        trained: Trained,
        entries: Sequence[Entry],
        out: Path,
        *,
        overwrite: bool = ...,
        on_done: OnDone = ...,
        runner: Runner = ...,
    ) -> PredictionReport:
        """Predict what is not in the folder yet; see `predict_entries`."""


class EvaluatePredictions(Protocol):
    """Measure what `PredictEntries` wrote against what is known of the cases."""

    def __call__(
        self,
        settings: Settings,
        entries: Sequence[Entry],
        predictions: Path,
        options: EvaluationOptions,
        progress: Progress,
        runner: Runner = ...,
    ) -> Evaluation | ClassificationEvaluation:
        """Measure the predictions of cases that have a label map or a category.

        Args:
            entries: cases that are all predicted.
            predictions: folder of the predictions.
            runner: does the work.
        Raises:
            DataError: none could be measured.
        """


@dataclass(frozen=True)
class TaskKind:
    """One kind of task.

    Attributes:
        training_task: what the trainer trains.
        predict: applies the network of a run.
        evaluate: measures what it predicted.
    """

    training_task: type[SegmentationTask] | type[ClassificationTask]
    predict: PredictEntries
    evaluate: EvaluatePredictions


def evaluate_label_maps(
    settings: Settings,
    entries: Sequence[Entry],
    predictions: Path,
    options: EvaluationOptions,
    progress: Progress,
    runner: Runner = HERE,
) -> Evaluation:
    """Measure predicted label maps; see `EvaluatePredictions`."""
    pairs = [
        CasePair(entry.name, entry.patient, predictions / f"{entry.name}{settings.predict.suffix}", entry.label)
        for entry in entries
        if entry.label is not None
    ]
    classes, regions = task_classes(settings.task), task_regions(settings.task)
    return evaluate_pairs(pairs, options, classes=classes, regions=regions, progress=progress, runner=runner)


def evaluate_probabilities(
    settings: Settings,
    entries: Sequence[Entry],
    predictions: Path,
    options: EvaluationOptions,
    progress: Progress,
    runner: Runner = HERE,
) -> ClassificationEvaluation:
    """Measure predicted probabilities of categories; see `EvaluatePredictions`.

    A shard measures nothing: the table of all cases is the whole command's.
    """
    categories = tuple(one.name for one in settings.task.classes)
    if runner.is_part:
        return ClassificationEvaluation(scored_cases([], {}, categories), options)
    truth = [(entry.name, entry.patient, category_index(settings.task, entry)) for entry in entries]
    scored = scored_cases(truth, read_probabilities(predictions / TABLE, categories), categories)
    return ClassificationEvaluation(scored, options)


TASK_KINDS = {
    "segmentation": TaskKind(SegmentationTask, predict_entries, evaluate_label_maps),
    "classification": TaskKind(ClassificationTask, classify_entries, evaluate_probabilities),
}
"""By ``task.kind``."""


def kind_of(task: Task) -> TaskKind:
    """Return what trains, applies and measures the network of a task."""
    return TASK_KINDS[task.kind]
