"""Classifications of the same cases compared: the differences of every figure, and the cases that changed category."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np

from voco_cli.evaluate.classification.metrics import METRICS, ScoredCases
from voco_cli.evaluate.compared_runs import ComparedTable, Comparison, ComparisonPanels
from voco_cli.evaluate.comparison import (
    Difference,
    compare_runs,
    difference_from_json,
    difference_object,
    json_keys,
)
from voco_cli.evaluate.statistics import RESAMPLES, Floats
from voco_cli.evaluate.tables import figure, from_json, p_value, with_interval, without_nan

KEYS = json_keys("run category=part metric first_value=first value difference low high left_out p p_holm test")
"""Keys of a difference in comparison.json."""


@dataclass(frozen=True)
class CategoryChange:
    """A case that one run takes for another category than the first run does.

    Attributes:
        first, value: the category that each takes it for.
        first_probability, probability: what each says of its true category.
    """

    run: str
    case: str
    patient: str
    category: str
    first: str
    value: str
    first_probability: float
    probability: float

    @property
    def kind(self) -> Literal["now right", "now wrong", "other error"]:
        """Return what the change came to."""
        if self.value == self.category:
            return "now right"
        return "now wrong" if self.first == self.category else "other error"


@dataclass(frozen=True)
class Agreement:
    """How many cases a run and the first run classify correctly."""

    run: str
    both_right: int
    only_first: int
    only_run: int
    both_wrong: int


@dataclass(frozen=True)
class ClassificationComparison(Comparison):
    """Differences by run; over all categories first, then category by category.

    Attributes:
        categories: names.
        changes: by run and case.
        agreements: by run.
        true_probabilities: what each run says of the true category of each case, ``(runs, cases)``.
        swaps: ways in which results were exchanged; all that there are, where `exact`.
    """

    format: ClassVar = "voco-classification-comparison/1"
    main: ClassVar = ("auc", "AUC")
    metrics: ClassVar = ("figures",)
    most_shown: ClassVar = 10
    more_changes: ClassVar = "{} more changed category, all in comparison.md."

    categories: tuple[str, ...]
    changes: tuple[CategoryChange, ...]
    agreements: tuple[Agreement, ...]
    true_probabilities: Floats
    swaps: int
    exact: bool

    def title(self, metric: str) -> str:
        """Return what all metrics together are called."""
        return "Classification"

    def differences_table(self, metric: str) -> ComparedTable:
        """Return the differences of every metric."""
        headings = ["run", "figure", self.runs[0], "run's", "difference [95 %]", "p", "p (Holm)"]
        rows = [
            [
                one.run,
                figure_title(one),
                figure(one.first),
                figure(one.value),
                with_interval(one.difference, one.low, one.high, sign=True),
                p_value(one.p),
                p_value(one.p_holm),
            ]
            for one in self.differences
        ]
        return ComparedTable(f"Difference from {self.runs[0]}", headings, rows, 2)

    def changes_table(self, metric: str) -> ComparedTable:
        """Return the cases that changed category."""
        headings = ["run", "case", "category", "from", "to", "p(category)", "came to"]
        rows = [
            [
                *(one.run, one.case, one.category, one.first, one.value),
                f"{one.first_probability:.3f} to {one.probability:.3f}",
                one.kind,
            ]
            for one in self.changes
        ]
        return ComparedTable("Cases that changed category", headings, rows, 5)

    def statements(self, resamples: int) -> list[str]:
        """Return how to read the tables, and how many cases each run gets right (see `Comparison.statements`)."""
        first, names = self.runs[0], self.categories
        auc = "AUC is the mean of each category against the others"
        if len(names) == 2:
            auc = f"AUC is that of {names[1]}, whose specificity is the sensitivity of {names[0]}"
        lines = [
            *super().statements(resamples),
            f"{auc}; balanced accuracy and macro F1 are means over the categories that have cases.",
            self._test_sentence(),
        ]
        left_out = max(one.left_out for one in self.differences)
        if left_out:
            lines.append(f"Up to {left_out} of {resamples} resamples lack a category and are left out of an interval.")
        changed = Counter(change.run for change in self.changes)
        return lines + [
            f"{one.run} and {first}: {one.both_right} cases right in both, {one.only_run} only in {one.run}, "
            f"{one.only_first} only in {first}, {one.both_wrong} in neither; {changed[one.run]} changed category."
            for one in self.agreements
        ]

    def _test_sentence(self) -> str:
        ways = f"all {self.swaps} ways" if self.exact else f"{self.swaps} random ways"
        test = f"permutation test in which the two runs exchange whole patients ({ways}; the AUC by ranks within a run)"
        if any(one.test == "McNemar" for one in self.differences):
            test = f"McNemar's exact test for accuracy, else a {test}"
        num_categories = len({one.part for one in self.differences} - {None})
        over = [*(["categories"] if num_categories > 1 else []), *(["runs"] if len(self.runs) > 2 else [])]
        correction = f" Holm's correction over {' and '.join(over)}, figure by figure." if over else ""
        return f"p: {test}.{correction}"

    def panels(self, metric: str) -> ComparisonPanels:
        """Return every difference, and what each run says of the true category of each case."""
        kinds = Counter(change.kind for change in self.changes if change.run == self.runs[-1])
        words = f"now right {kinds['now right']}, now wrong {kinds['now wrong']}, another error {kinds['other error']}"
        return ComparisonPanels(
            title=self.title(metric),
            forest_title="By figure",
            difference_label="difference",
            marks=[(figure_title(one), one) for one in self.differences],
            dots_title="By case: p(true category)",
            dots_label="probability",
            values_RN=self.true_probabilities,
            footnote=words if len(self.runs) > 2 else f"{words}; blue: higher, orange: lower",
            limits=(-0.03, 1.03),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as JSON holds it; NaN becomes null."""
        held = {
            "runs": self.runs,
            "cases": self.cases,
            "patients": self.patients,
            "categories": self.categories,
            "swaps": {"ways": self.swaps, "all_ways": self.exact, "of": "whole patients"},
            "differences": [difference_object(one, KEYS) for one in self.differences],
            "right": [asdict(one) for one in self.agreements],
            "changed_category": [{**asdict(one), "kind": one.kind} for one in self.changes],
        }
        return dict(without_nan(held))

    @classmethod
    def from_json(cls, held: Mapping[str, Any]) -> Self:
        """Return what `to_json` gave, without what each run says of each case (see `Comparison.from_json`)."""
        paired = {"cases": held["cases"], "patients": held["patients"]}
        return cls(
            runs=tuple(map(str, held["runs"])),
            **paired,
            differences=tuple(difference_from_json(one, KEYS, **paired) for one in held["differences"]),
            categories=tuple(map(str, held["categories"])),
            changes=tuple(from_json(CategoryChange, one) for one in held["changed_category"]),
            agreements=tuple(from_json(Agreement, one) for one in held["right"]),
            true_probabilities=np.empty((0, 0)),
            swaps=held["swaps"]["ways"],
            exact=held["swaps"]["all_ways"],
        )


def compare_classifications(
    runs: Sequence[str], tables: Sequence[ScoredCases], resamples: int = RESAMPLES, seed: int = 0
) -> ClassificationComparison:
    """Compare each run with the first.

    Args:
        runs: names, one a table.
        tables: of the same cases and categories (see `comparison.pairing_faults`), two at least.
        resamples: of the patients, and the most ways to exchange their results.
    """
    aligned = [table.like(tables[0]) for table in tables]
    first, *others = aligned
    # A figure over all categories is one family of tests, and that of single categories another.
    found, resampling = compare_runs(
        runs,
        aligned,
        [metric for metric in METRICS.values() if metric.compared],
        resamples,
        seed,
        lambda one: (one.metric, one.part is None),
    )
    names, two = first.categories, len(first.categories) == 2
    order: dict[str | None, int] = {None: -1, **{name: k for k, name in enumerate(names)}}
    shown = [one for one in found if not (two and one.metric == "auc" and one.part)]  # that of two is the AUC over all
    shown.sort(key=lambda one: (runs.index(one.run), order[one.part]))
    pairs = list(zip(runs[1:], others, strict=True))
    return ClassificationComparison(
        runs=tuple(runs),
        cases=len(first.cases),
        patients=resampling.num_patients,
        differences=tuple(shown),
        categories=names,
        changes=tuple(change for run, other in pairs for change in _changes(run, first, other)),
        agreements=tuple(_agreement(run, first, other) for run, other in pairs),
        true_probabilities=np.stack([table.true_probabilities for table in aligned]),
        swaps=len(resampling.swaps.swapped_BG),
        exact=resampling.swaps.exact,
    )


def figure_title(one: Difference) -> str:
    """Return ``macro F1``, or ``covid: F1``."""
    title = METRICS[one.metric].title
    if one.part is not None:
        return f"{one.part}: {title}"
    return f"macro {title}" if one.metric == "f1" else title


def _changes(run: str, first: ScoredCases, other: ScoredCases) -> list[CategoryChange]:
    names = first.categories
    before, after = first.true_probabilities, other.true_probabilities
    guesses = zip(first.predicted, other.predicted, strict=True)
    return [
        CategoryChange(
            *(run, first.cases[n], first.patients[n], names[first.truth_N[n]], names[a], names[b]),
            *(float(before[n]), float(after[n])),
        )
        for n, (a, b) in enumerate(guesses)
        if a != b
    ]


def _agreement(run: str, first: ScoredCases, other: ScoredCases) -> Agreement:
    first_N, run_N = (table.predicted == table.truth_N for table in (first, other))
    counts = (first_N & run_N, first_N & ~run_N, run_N & ~first_N, ~first_N & ~run_N)
    return Agreement(run, *(int(one.sum()) for one in counts))
