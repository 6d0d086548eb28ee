"""Classifications of the same cases compared: the differences of every figure, and the cases that changed category."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from voco_cli.evaluate.classification.metrics import METRICS, ScoredCases
from voco_cli.evaluate.comparison import (
    Comparison,
    Difference,
    compare_runs,
    difference_from_json,
    difference_object,
    json_keys,
)
from voco_cli.evaluate.statistics import RESAMPLES, Floats
from voco_cli.evaluate.tables import figure, p_value, with_interval, without_nan

KEYS = json_keys("run category=part metric first_value=first value difference low high left_out p p_holm test")
"""Keys of a difference in comparison.json."""
CHANGE_HEADINGS = ["run", "case", "category", "from", "to", "p(category)", ""]


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
    """How many cases a run and the first run tell rightly."""

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

    categories: tuple[str, ...]
    changes: tuple[CategoryChange, ...]
    agreements: tuple[Agreement, ...]
    true_probabilities: Floats
    swaps: int
    exact: bool


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


def classification_comparison_object(found: ClassificationComparison) -> dict[str, Any]:
    """Return a comparison as JSON holds it; NaN becomes null."""
    held = {
        "runs": found.runs,
        "cases": found.cases,
        "patients": found.patients,
        "categories": found.categories,
        "swaps": {"ways": found.swaps, "all_ways": found.exact, "of": "whole patients"},
        "differences": [difference_object(one, KEYS) for one in found.differences],
        "right": [asdict(one) for one in found.agreements],
        "changed_category": [{**asdict(one), "kind": one.kind} for one in found.changes],
    }
    return dict(without_nan(held))


def category_difference_from_object(held: Mapping[str, Any], comparison: Mapping[str, Any]) -> Difference:
    """Return a difference of comparison.json, whose numbers of cases and patients stand for all together.

    Raises:
        KeyError, TypeError, ValueError: it makes no sense.
    """
    return difference_from_json(held, KEYS, cases=comparison["cases"], patients=comparison["patients"])


def figure_title(one: Difference) -> str:
    """Return ``macro F1``, or ``covid: F1``."""
    title = METRICS[one.metric].title
    if one.part is not None:
        return f"{one.part}: {title}"
    return f"macro {title}" if one.metric == "f1" else title


def figure_headings(first: str) -> list[str]:
    """Return the headings of `figure_rows`."""
    return ["run", "figure", first, "run's", "difference [95 %]", "p", "p (Holm)"]


def figure_rows(differences: Sequence[Difference]) -> list[list[str]]:
    """Return the cells for a table of differences."""
    return [
        [
            one.run,
            figure_title(one),
            figure(one.first),
            figure(one.value),
            with_interval(one.difference, one.low, one.high, sign=True),
            p_value(one.p),
            p_value(one.p_holm),
        ]
        for one in differences
    ]


def category_change_rows(changes: Sequence[CategoryChange]) -> list[list[str]]:
    """Return the cells for a table of the cases that changed category."""
    return [
        [
            *(one.run, one.case, one.category, one.first, one.value),
            f"{one.first_probability:.3f} to {one.probability:.3f}",
            one.kind,
        ]
        for one in changes
    ]


def comparison_statements(found: ClassificationComparison, resamples: int) -> list[str]:
    """Return what a table of differences must say of itself, one line each."""
    first, names = found.runs[0], found.categories
    auc = "AUC is the mean of each category against the others"
    if len(names) == 2:
        auc = f"AUC is that of {names[1]}, whose specificity is the sensitivity of {names[0]}"
    lines = [
        f"{found.cases} cases of {found.patients} patients, paired; difference: run - {first}, with its "
        f"bootstrap 95 % interval, {resamples} resamples by patient.",
        f"{auc}; balanced accuracy and macro F1 are means over the categories that have cases.",
        _test_text(found),
    ]
    left_out = max(one.left_out for one in found.differences)
    if left_out:
        lines.append(f"Up to {left_out} of {resamples} resamples lack a category and are left out of an interval.")
    for one in found.agreements:
        changed = sum(change.run == one.run for change in found.changes)
        lines.append(
            f"{one.run} and {first}: {one.both_right} cases right in both, {one.only_run} only in {one.run}, "
            f"{one.only_first} only in {first}, {one.both_wrong} in neither; {changed} changed category."
        )
    return lines


def _test_text(found: ClassificationComparison) -> str:
    ways = f"all {found.swaps} ways" if found.exact else f"{found.swaps} random ways"
    swaps = f"permutation test in which the two runs exchange whole patients ({ways}; the AUC by ranks within a run)"
    num_categories = len({one.part for one in found.differences} - {None})
    over = [*(["categories"] if num_categories > 1 else []), *(["runs"] if len(found.runs) > 2 else [])]
    correction = f" Holm's correction over {' and '.join(over)}, figure by figure." if over else ""
    mcnemar = any(one.test == "McNemar" for one in found.differences)
    test = f"McNemar's exact test for accuracy, else a {swaps}" if mcnemar else swaps
    return f"p: {test}.{correction}"


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
