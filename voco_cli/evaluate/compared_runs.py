"""What a comparison of runs shows, whatever the kind of their task: tables, sentences, a picture and JSON."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from voco_cli.evaluate.comparison import Difference
from voco_cli.evaluate.statistics import Floats
from voco_cli.evaluate.tables import p_value, with_interval


@dataclass(frozen=True)
class ComparedTable:
    """A table of a comparison.

    Attributes:
        names: columns from the left that are words.
        whole_runs: indices of the rows that are of a whole run, where the others are of its parts.
    """

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    names: int
    whole_runs: Sequence[int] = ()


@dataclass(frozen=True)
class ComparisonPanels:
    """What the two halves of the picture show.

    Attributes:
        title, forest_title, difference_label, dots_title, dots_label: words.
        marks: name of the row of each difference in the forest.
        values_RN: of each run and case, for the dots.
        footnote: how the last run changed the cases.
        limits: of the axis of the dots; none is as the values have it.
        lower_is_better, digits: of the metric.
    """

    title: str
    forest_title: str
    difference_label: str
    marks: Sequence[tuple[str, Difference]]
    dots_title: str
    dots_label: str
    values_RN: Floats
    footnote: str
    limits: tuple[float, float] | None = None
    lower_is_better: bool = False
    digits: int = 3


@dataclass(frozen=True)
class Comparison(ABC):
    """Differences of runs on the same cases; a subclass for each kind of task.

    Attributes:
        runs: names; the first is compared with.
        cases, patients: how many are paired.
        differences: of every run, metric and part.
    """

    format: ClassVar[str]
    """Of comparison.json."""
    main: ClassVar[tuple[str, str]]
    """The metric of a whole run that is named in one line, and its name there."""
    metrics: ClassVar[Collection[str]]
    """Names of the tables that there are, the most important first: one a metric, or one of all."""
    most_shown: ClassVar[int]
    more_changes: ClassVar[str]
    """Changes on a terminal, and what is said there of the others."""

    runs: tuple[str, ...]
    cases: int
    patients: int
    differences: tuple[Difference, ...]

    def of_metric(self, metric: str) -> list[Difference]:
        """Return the differences of one metric."""
        return [one for one in self.differences if one.metric == metric]

    def headline(self) -> str:
        """Return the main metric of each run against the first in a few words."""
        metric, name = self.main
        return "; ".join(
            f"{one.run}: {with_interval(one.difference, one.low, one.high, sign=True)} {name}, p {p_value(one.p)}"
            for one in self.of_metric(metric)
            if one.part is None
        )

    def statements(self, resamples: int) -> list[str]:
        """Return what tables of differences must say of themselves, one line each."""
        return [
            f"{self.cases} cases of {self.patients} patients, paired; difference: run - {self.runs[0]}, with its "
            f"bootstrap 95 % interval, {resamples} resamples by patient."
        ]

    def warnings(self) -> Sequence[str]:
        """Return what spoils the differences, one sentence each."""
        return ()

    @abstractmethod
    def title(self, metric: str) -> str:
        """Return what one of `metrics` is called."""

    @abstractmethod
    def differences_table(self, metric: str) -> ComparedTable:
        """Return the differences of one of `metrics`."""

    @abstractmethod
    def changes_table(self, metric: str) -> ComparedTable:
        """Return the cases that changed by it, the largest change first."""

    @abstractmethod
    def panels(self, metric: str) -> ComparisonPanels:
        """Return what a picture of it shows."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Return the comparison as JSON holds it; NaN becomes null."""

    @classmethod
    @abstractmethod
    def from_json(cls, held: Mapping[str, Any]) -> Self:
        """Return what `to_json` gave, as far as tables and sentences need it.

        Raises:
            AttributeError, KeyError, TypeError, ValueError: it makes no sense.
        """
