"""The kinds of labelled tasks: what trains one, and what applies its network.

A new kind of task is one module in each of ``finetune/``, ``predict/`` and ``evaluate/``, a `Target` in
``tasks/targets.py``, a network in ``models/build.py``, and its line here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from voco_cli.config.task_schema import Task
from voco_cli.data.index.datalist import Entry
from voco_cli.finetune.classification import ClassificationTask
from voco_cli.finetune.segmentation import SegmentationTask
from voco_cli.predict.classification import classify_entries
from voco_cli.predict.output_dir import OnDone, PredictionReport
from voco_cli.predict.predictor import Trained
from voco_cli.predict.segmentation import predict_entries


class PredictEntries(Protocol):
    """Apply a trained network to scans and write what it predicts into a folder."""

    def __call__(
        self, trained: Trained, entries: Sequence[Entry], out: Path, *, overwrite: bool = ..., on_done: OnDone = ...
    ) -> PredictionReport:
        """Predict what is not in the folder yet; see `predict_entries`."""


@dataclass(frozen=True)
class TaskKind:
    """One kind of task.

    Attributes:
        training_task: what the trainer trains.
        predict: applies the network of a run.
    """

    training_task: type[SegmentationTask] | type[ClassificationTask]
    predict: PredictEntries


TASK_KINDS = {
    "segmentation": TaskKind(SegmentationTask, predict_entries),
    "classification": TaskKind(ClassificationTask, classify_entries),
}
"""By ``task.kind``."""


def kind_of(task: Task) -> TaskKind:
    """Return what trains and applies the network of a task."""
    return TASK_KINDS[task.kind]
