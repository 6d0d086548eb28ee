"""What a study measures its runs by: the mean of values that each case has, or the AUC, which no case has alone.

Legend: N cases, C structures, K categories, S seeds, G patients, B weightings of the cases (a bootstrap resample counts
a case as often as its patient was drawn). NaN is a value that is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from voco_cli.evaluate.classification import compare
from voco_cli.evaluate.classification.metrics import ScoredCases, auc, in_blocks, sides, stack
from voco_cli.evaluate.segmentation import compare as comparison
from voco_cli.evaluate.segmentation.table import ResultTable, nan_mean
from voco_cli.evaluate.statistics import Floats, Swaps, patient_means, swap_p, wilcoxon_p

Indices = NDArray[np.intp]
Run = TypeVar("Run", contravariant=True)


@dataclass(frozen=True)
class Words:
    """How a yardstick is spoken of.

    Attributes:
        metric: its name in tables and pictures.
        part: what it can be taken of alone; parts: several of them.
        score: how the score of a run is made.
        paired: how two runs are compared.
        better: by what a case counts as better.
        test: where p comes from.
        effect: of what the effect is.
    """

    metric: str
    part: str
    parts: str
    score: str
    paired: str
    better: str
    test: str
    effect: str


class Yardstick(Protocol[Run]):
    """How runs are scored and compared. ``part`` is an index of `parts`; none is the score of a whole run."""

    @property
    def words(self) -> Words:
        """For people."""

    @property
    def parts(self) -> Sequence[str]:
        """What can be scored alone: classes or categories."""

    def scores(self, run: Run, weights_BN: Floats) -> Floats:
        """The score of a run under each weighting, values_B."""

    def pair_scores(self, first: Run, other: Run, part: int | None, weights_BN: Floats) -> tuple[Floats, Floats]:
        """The scores of two runs by what both have a value for, two of ``values_B``."""

    def case_values(self, first: Run, other: Run, part: int | None) -> tuple[Floats, Floats]:
        """What each case has of the two runs' scores, two of ``values_N``; NaN where either has nothing."""

    def p_value(self, pairs: Sequence[tuple[Run, Run]], part: int | None, patient_N: Indices, swaps: Swaps) -> float:
        """Of the mean difference over pairs of runs, one for each seed, by patient."""


@dataclass(frozen=True)
class CaseMeans:
    """Mean over cases, of each case's mean over classes; a run is its ``values_NC``, where higher is better.

    Attributes:
        words: names the metric.
        parts: names of the structures, C.
        averaged: structures that the mean over classes takes.
    """

    words: Words
    parts: Sequence[str]
    averaged: Sequence[int]

    def scores(self, run: Floats, weights_BN: Floats) -> Floats:
        """See `Yardstick`."""
        return _weighted_means(nan_mean(run[:, self.averaged], axis=1), weights_BN)

    def pair_scores(self, first: Floats, other: Floats, part: int | None, weights_BN: Floats) -> tuple[Floats, Floats]:
        """See `Yardstick`."""
        before_N, after_N = self.case_values(first, other, part)
        return _weighted_means(before_N, weights_BN), _weighted_means(after_N, weights_BN)

    def case_values(self, first: Floats, other: Floats, part: int | None) -> tuple[Floats, Floats]:
        """Each case's mean over the structures that both runs have a value for."""
        columns = self.averaged if part is None else [part]
        before, after = first[:, columns], other[:, columns]
        lacking = np.isnan(before) | np.isnan(after)
        return nan_mean(np.where(lacking, np.nan, before), axis=1), nan_mean(np.where(lacking, np.nan, after), axis=1)

    def p_value(
        self, pairs: Sequence[tuple[Floats, Floats]], part: int | None, patient_N: Indices, swaps: Swaps
    ) -> float:
        """Wilcoxon signed-rank test over the patients' mean differences over seeds."""
        values = (self.case_values(first, other, part) for first, other in pairs)
        change_SN = np.stack([after_N - before_N for before_N, after_N in values])
        return wilcoxon_p(patient_means(nan_mean(change_SN, axis=0), patient_N))


@dataclass(frozen=True)
class AreaUnderCurve:
    """The AUC of a classification, as `mean_area` has it; runs are of the same cases and categories in one order.

    Attributes:
        categories: names, in the order of the probabilities.
        there: indices of those that have cases.
    """

    categories: tuple[str, ...]
    there: tuple[int, ...]

    @property
    def words(self) -> Words:
        """For people."""
        two = len(self.categories) == 2
        of_two = f"AUC of {self.categories[-1]}"
        return Words(
            metric="AUC",
            part="category",
            parts="categories",
            score=of_two if two else "AUC of each category against the others, averaged over categories",
            paired="on the same cases",
            better="by the share of the other categories' cases that a case stands above in its own category",
            test="permutation test in which two arms exchange whole patients in all seeds, by ranks within a run",
            effect=" of these shares",
        )

    @property
    def columns(self) -> tuple[int, ...]:
        """Categories that are scored alone: of two, one says what the other would."""
        return (1,) if len(self.categories) == 2 else self.there

    @property
    def parts(self) -> list[str]:
        """Their names."""
        return [self.categories[k] for k in self.columns]

    def scores(self, run: ScoredCases, weights_BN: Floats) -> Floats:
        """See `Yardstick`."""
        blocks = in_blocks(weights_BN, len(run.truth_N))
        return np.concatenate([self._area(run.truth_N, run.probabilities_NK, None, block) for block in blocks])

    def pair_scores(
        self, first: ScoredCases, other: ScoredCases, part: int | None, weights_BN: Floats
    ) -> tuple[Floats, Floats]:
        """See `Yardstick`."""
        blocks = in_blocks(weights_BN, len(first.truth_N))
        before, after = (
            np.concatenate([self._area(run.truth_N, run.probabilities_NK, part, block) for block in blocks])
            for run in (first, other)
        )
        return before, after

    def case_values(self, first: ScoredCases, other: ScoredCases, part: int | None) -> tuple[Floats, Floats]:
        """The placement of each case in its own category, or in that of the part; see `placements`."""
        columns_N = first.truth_N if part is None else np.full(len(first.truth_N), self.columns[part])
        rows_N = np.arange(len(first.truth_N))
        before, after = (placements(run.truth_N, run.probabilities_NK)[rows_N, columns_N] for run in (first, other))
        return before, after

    def p_value(
        self, pairs: Sequence[tuple[ScoredCases, ScoredCases]], part: int | None, patient_N: Indices, swaps: Swaps
    ) -> float:
        """Permutation test: a patient's results change sides in the runs of all seeds at once."""
        ones_1N = np.ones((1, len(patient_N)))
        observed, swapped = [], []
        for first, other in pairs:
            before_1, after_1 = self.pair_scores(first, other, part, ones_1N)
            observed.append(float(after_1[0] - before_1[0]))
            both = stack(first, other)
            parts_B = []
            for block_BN in in_blocks(swaps.swapped_BG[:, patient_N], 2 * len(both.truth_M)):
                left_B, right_B = (self._area(both.truth_M, both.ranks_MK, part, side) for side in sides(block_BN))
                parts_B.append(right_B - left_B)
            swapped.append(np.concatenate(parts_B))
        return swap_p(np.mean(swapped, axis=0), float(np.mean(observed)), swaps.exact)

    def _area(self, truth_N: Indices, scores_NK: Floats, part: int | None, weights_BN: Floats) -> Floats:
        columns = self.columns if part is None else (self.columns[part],)
        return np.asarray(np.mean([auc(scores_NK[:, k], truth_N == k, weights_BN) for k in columns], axis=0))


def placements(truth_N: Indices, scores_NK: Floats) -> Floats:
    """Where each case stands among those that it should be told from, by category.

    A case of category k: the share of the other cases that have a lower score for k; another case: the share of the
    cases of k that have a higher one; a tie counts half. The mean over the cases of k, and that over the others, is the
    AUC of k.

    Returns:
        values_NK in [0, 1]; NaN where there is nothing to be told from.
    Source: DeLong, DeLong and Clarke-Pearson, Biometrics 44, 1988 (structural components).
    """
    found = np.full(scores_NK.shape, np.nan)
    for k, scores_N in enumerate(scores_NK.T):
        positive_N = truth_N == k
        if positive_N.any() and not positive_N.all():
            found[positive_N, k] = _share_below(scores_N[positive_N], scores_N[~positive_N])
            found[~positive_N, k] = 1 - _share_below(scores_N[~positive_N], scores_N[positive_N])
    return found


def _share_below(scores: Floats, others: Floats) -> Floats:
    ordered = np.sort(others)
    low, high = (np.searchsorted(ordered, scores, side) for side in ("left", "right"))
    return np.asarray((low + high) / (2 * len(others)))


def _weighted_means(values_N: Floats, weights_BN: Floats) -> Floats:
    there_N = ~np.isnan(values_N)
    sums_B, sizes_B = weights_BN @ np.where(there_N, values_N, 0.0), weights_BN @ there_N.astype(np.float64)
    return np.asarray(np.divide(sums_B, sizes_B, out=np.full(len(sums_B), np.nan), where=sizes_B > 0))


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
    "classification": StudyMetric("auc", "AUC", compare.pairing_faults, compare.aligned, _auc),
}
"""By the kind of a task."""
