"""What a metric is: the only seam between single results and everything that scores, compares and tests them.

An evaluation keeps a table of results, one row a case. A metric says how a run's score follows from such a table, and
how two tables of the same cases are compared and tested. The comparison of evaluations and the study know nothing else.
Dice, surface Dice, HD95, AUC and accuracy are instances, each written down in one place:
`segmentation.metrics.METRICS` and `classification.metrics.METRICS`.

Legend: N cases, C structures, P parts (the whole run, its classes or its categories), S seeds, G patients, B weightings
of the cases (a bootstrap resample counts a case as often as its patient was drawn). NaN is a value that is left out.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar

import numpy as np

from voco_cli.evaluate.statistics import Floats, Indices, Swaps, nan_mean, patient_means, wilcoxon_p

TestName = Literal["Wilcoxon", "McNemar", "swaps"]
"""``swaps`` is the permutation test in which two runs exchange the results of whole patients."""


@dataclass(frozen=True)
class DisplayText:
    """How tables and pictures speak of a metric.

    Attributes:
        metric: its name.
        part, parts: what it can be taken of alone, one and several.
        score: how the score of a run is made.
        paired: how two runs are compared.
        better: by what a case counts as better.
        test: where p comes from.
        effect: of what the effect is.
    """

    metric: str
    part: str
    parts: str
    score: str = ""
    paired: str = ""
    better: str = ""
    test: str = ""
    effect: str = ""


class CaseResults(Protocol):
    """Results of a run: of each of N cases its name and a number in place of its patient's name."""

    @property
    def cases(self) -> tuple[str, ...]:
        """Return the names of the cases."""

    @property
    def patients(self) -> tuple[str, ...]:
        """Return the patient of each case."""

    @property
    def parts_noun(self) -> str:
        """Return what its parts are: classes or categories."""

    @property
    def named_parts(self) -> Mapping[Any, str]:
        """Return its classes or categories with their names, which must be the same to be compared."""

    def like(self, other: Any) -> Any:
        """Return the same table with cases and parts in the order of another that has the same."""

    def unlike_cases(self, aligned: Any) -> Mapping[str, Sequence[str]]:
        """Return the cases whose reference differs in another table, by a sentence about ``{run}`` and ``{first}``."""


Table = TypeVar("Table", bound=CaseResults)


@dataclass(frozen=True)
class Metric(ABC, Generic[Table]):
    """A figure of a run, and of parts of it.

    Attributes:
        key: its name in files.
        title: its name in tables.
    """

    key: str
    title: str

    @abstractmethod
    def parts(self, table: Table) -> tuple[str | None, ...]:
        """Return what it is computed of: None is the whole run, a name one class or category."""

    @abstractmethod
    def scores(self, table: Table, weights_BN: Floats) -> Floats:
        """Return the scores of a run under each weighting, one column a part: ``scores_BP``."""

    @abstractmethod
    def case_values(self, first: Table, other: Table) -> tuple[Floats, Floats]:
        """Return what each case adds to the scores of two runs, two of ``values_NP``; NaN where either has nothing."""

    @abstractmethod
    def test(
        self, pairs: Sequence[tuple[Table, Table]], patient_N: Indices, swaps: Swaps
    ) -> tuple[list[float], TestName]:
        """Return p of the mean difference over pairs of runs (one a seed) for each part, and which test it is of."""

    @abstractmethod
    def text(self, table: Table) -> DisplayText:
        """Return how it is spoken of."""

    def pair_scores(self, first: Table, other: Table, weights_BN: Floats) -> tuple[Floats, Floats]:
        """Return the scores of two runs by what both have a value for, two of ``scores_BP``."""
        return self.scores(first, weights_BN), self.scores(other, weights_BN)

    def score(self, table: Table) -> float:
        """Return the score of a whole run; NaN where it is not defined."""
        column = self.parts(table).index(None)
        return float(self.scores(table, np.ones((1, len(table.cases))))[0, column])


class StructureTable(CaseResults, Protocol):
    """A table that holds a value of each metric for each case and each of C structures."""

    @property
    def structures(self) -> Sequence[Any]:
        """Return the structures, each with a ``name``."""

    @property
    def averaged(self) -> list[int]:
        """Return the indices of the structures that a case's mean takes."""

    def of_metric(self, metric: str) -> Floats:
        """Return the values of one metric, ``values_NC``."""


@dataclass(frozen=True)
class MeanOverCases(Metric[StructureTable]):
    """A metric that every case has by itself; a run's score is the mean over cases of each case's mean over classes."""

    def parts(self, table: StructureTable) -> tuple[str | None, ...]:
        """Return the structures, and then the mean over classes (see `Metric.parts`)."""
        return (*(one.name for one in table.structures), None)

    def scores(self, table: StructureTable, weights_BN: Floats) -> Floats:
        """Return weighted means over the cases that have a value (see `Metric.scores`)."""
        return weighted_means(_with_mean(table.of_metric(self.key), table.averaged), weights_BN)

    def pair_scores(self, first: StructureTable, other: StructureTable, weights_BN: Floats) -> tuple[Floats, Floats]:
        """Return the scores over the values that both runs have (see `Metric.pair_scores`)."""
        before_NP, after_NP = self.case_values(first, other)
        return weighted_means(before_NP, weights_BN), weighted_means(after_NP, weights_BN)

    def case_values(self, first: StructureTable, other: StructureTable) -> tuple[Floats, Floats]:
        """Return each case's values, and its mean over the classes that both runs have (see `Metric.case_values`)."""
        before_NC, after_NC = first.of_metric(self.key), other.of_metric(self.key)
        lacking = np.isnan(before_NC) | np.isnan(after_NC)
        before_NC, after_NC = np.where(lacking, np.nan, before_NC), np.where(lacking, np.nan, after_NC)
        return _with_mean(before_NC, first.averaged), _with_mean(after_NC, first.averaged)

    def test(
        self, pairs: Sequence[tuple[StructureTable, StructureTable]], patient_N: Indices, swaps: Swaps
    ) -> tuple[list[float], TestName]:
        """Return the Wilcoxon signed-rank test over the patients' mean differences (see `Metric.test`)."""
        values = (self.case_values(first, other) for first, other in pairs)
        change_NP = nan_mean(np.stack([after_NP - before_NP for before_NP, after_NP in values]), axis=0)
        return [wilcoxon_p(patient_means(change_N, patient_N)) for change_N in change_NP.T], "Wilcoxon"

    def text(self, table: StructureTable) -> DisplayText:
        """Return how it is spoken of."""
        return DisplayText(
            metric=self.title,
            part="class",
            parts="classes",
            score=f"in each scan's own space: mean {self.title} over the classes of a case, averaged over cases",
            paired="case by case",
            better="by their mean over seeds",
            test="Wilcoxon signed-rank test over the patients' mean differences",
        )


def weighted_means(values_NP: Floats, weights_BN: Floats) -> Floats:
    """Return the mean of each column under each weighting, ``means_BP``; NaN where no value has a weight."""
    there_NP = ~np.isnan(values_NP)
    sums_BP = weights_BN @ np.where(there_NP, values_NP, 0.0)
    sizes_BP = weights_BN @ there_NP.astype(np.float64)
    return np.asarray(np.divide(sums_BP, sizes_BP, out=np.full(sums_BP.shape, np.nan), where=sizes_BP > 0))


def _with_mean(values_NC: Floats, averaged: Sequence[int]) -> Floats:
    return np.column_stack([values_NC, nan_mean(values_NC[:, averaged], axis=1)])
