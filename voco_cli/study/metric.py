"""What the runs of a study are scored by: Dice of a segmentation, AUC of a classification."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from voco_cli.evaluation import classification_comparison, comparison
from voco_cli.evaluation.classification import ScoredCases
from voco_cli.evaluation.results import ResultTable
from voco_cli.evaluation.statistics import Floats
from voco_cli.evaluation.yardsticks import AreaUnderCurve, CaseMeans, Words, Yardstick

DICE_WORDS = Words(
    metric="Dice",
    part="class",
    parts="classes",
    score="in each scan's own space: mean Dice over the classes of a case, averaged over cases",
    paired="case by case",
    better="by their mean over seeds",
    test="Wilcoxon signed-rank test over the patients' mean differences",
    effect="",
)


@dataclass(frozen=True)
class StudyMetric:
    """How tables of a kind are scored and compared; a table is what its evaluation's folder holds of every case.

    Attributes:
        name: in study.json.
        title: for people.
        faults: why tables cannot be paired, as `pairing_faults`.
        values: what the yardstick takes of a table, with the cases in the order of another.
        yardstick: for tables like this one.
    """

    name: str
    title: str
    faults: Callable[[Sequence[str], Sequence[Any]], list[str]]
    values: Callable[[Any, Any], Any]
    yardstick: Callable[[Any], Yardstick[Any]]

    def score(self, table: Any) -> float:
        """The score of a run; NaN where it is not defined."""
        ones_1N = np.ones((1, len(table.cases)))
        return float(self.yardstick(table).scores(self.values(table, table), ones_1N)[0])


def metric_of(settings: Mapping[str, Any]) -> StudyMetric:
    """That of a study whose runs share these settings, dotted key to value."""
    return METRICS[settings["task.kind"]]


def _dice_values(table: ResultTable, like: ResultTable) -> Floats:
    rows = [table.cases.index(case) for case in like.cases]
    columns = [table.structures.index(one) for one in like.structures]
    return np.asarray(table.of_metric("dice")[np.ix_(rows, columns)])


def _dice(table: ResultTable) -> Yardstick[Any]:
    return CaseMeans(DICE_WORDS, tuple(one.name for one in table.structures), table.averaged)


def _auc(table: ScoredCases) -> Yardstick[Any]:
    return AreaUnderCurve(table.categories, tuple(np.unique(table.truth_N).tolist()))


METRICS = {
    "segmentation": StudyMetric("dice", DICE_WORDS.metric, comparison.pairing_faults, _dice_values, _dice),
    "classification": StudyMetric(
        "auc", "AUC", classification_comparison.pairing_faults, classification_comparison.aligned, _auc
    ),
}
"""By the kind of a task."""
