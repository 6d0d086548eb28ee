"""Compared classifications as text: JSON-ready objects, and cells for a terminal or a paper."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from voco_cli.evaluation.classification_comparison import CategoryChange, ClassificationComparison, FigureDifference
from voco_cli.evaluation.tables import NONE, p_value, without_nan

TITLES = {
    "auc": "AUC",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "f1": "F1",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "precision": "precision",
}
FIGURE_HEADINGS = ("run", "figure")
CHANGE_HEADINGS = ["run", "case", "category", "from", "to", "p(category)", ""]


def figure_title(one: FigureDifference) -> str:
    """``macro F1``, or ``covid: F1``."""
    if one.category is not None:
        return f"{one.category}: {TITLES[one.metric]}"
    return "macro F1" if one.metric == "f1" else TITLES[one.metric]


def figure_headings(first: str) -> list[str]:
    """Headings of `figure_rows`."""
    return [*FIGURE_HEADINGS, first, "run's", "difference [95 %]", "p", "p (Holm)"]


def figure_rows(differences: Sequence[FigureDifference]) -> list[list[str]]:
    """Cells for a table of differences."""
    return [
        [
            one.run,
            figure_title(one),
            _number(one.first_value),
            _number(one.value),
            f"{_number(one.difference, sign=True)} {_interval(one.low, one.high)}".rstrip(),
            p_value(one.p),
            p_value(one.p_holm),
        ]
        for one in differences
    ]


def change_rows(changes: Sequence[CategoryChange]) -> list[list[str]]:
    """Cells for a table of the cases that changed category."""
    return [
        [
            *(one.run, one.case, one.category, one.first, one.value),
            f"{one.first_probability:.3f} to {one.probability:.3f}",
            one.kind,
        ]
        for one in changes
    ]


def classification_comparison_object(comparison: ClassificationComparison) -> dict[str, Any]:
    """A comparison as JSON holds it; NaN becomes null."""
    found = {
        "runs": comparison.runs,
        "cases": comparison.cases,
        "patients": comparison.patients,
        "categories": comparison.categories,
        "swaps": {"ways": comparison.swaps, "all_ways": comparison.exact, "of": "whole patients"},
        "differences": [asdict(one) for one in comparison.differences],
        "right": [asdict(one) for one in comparison.agreements],
        "changed_category": [{**asdict(one), "kind": one.kind} for one in comparison.changes],
    }
    return dict(without_nan(found))


def comparison_statements(comparison: ClassificationComparison, resamples: int) -> list[str]:
    """What a table of differences must say of itself, one line each."""
    first, names = comparison.runs[0], comparison.categories
    auc = "AUC is the mean of each category against the others"
    if len(names) == 2:
        auc = f"AUC is that of {names[1]}, whose specificity is the sensitivity of {names[0]}"
    lines = [
        f"{comparison.cases} cases of {comparison.patients} patients, paired; difference: run - {first}, with its "
        f"bootstrap 95 % interval, {resamples} resamples by patient.",
        f"{auc}; balanced accuracy and macro F1 are means over the categories that have cases.",
        _test_words(comparison),
    ]
    left_out = max(one.left_out for one in comparison.differences)
    if left_out:
        lines.append(f"Up to {left_out} of {resamples} resamples lack a category and are left out of an interval.")
    return lines + [_agreement_words(one.run, comparison) for one in comparison.agreements]


def _test_words(comparison: ClassificationComparison) -> str:
    ways = f"all {comparison.swaps} ways" if comparison.exact else f"{comparison.swaps} random ways"
    swaps = f"permutation test in which the two runs exchange whole patients ({ways}; the AUC by ranks within a run)"
    several = len(comparison.runs) > 2
    num_categories = len({one.category for one in comparison.differences} - {None})
    over = [*(["categories"] if num_categories > 1 else []), *(["runs"] if several else [])]
    correction = f" Holm's correction over {' and '.join(over)}, figure by figure." if over else ""
    mcnemar = any(one.test == "McNemar" for one in comparison.differences)
    test = f"McNemar's exact test for accuracy, else a {swaps}" if mcnemar else swaps
    return f"p: {test}.{correction}"


def _agreement_words(run: str, comparison: ClassificationComparison) -> str:
    one = next(one for one in comparison.agreements if one.run == run)
    first = comparison.runs[0]
    changed = sum(change.run == run for change in comparison.changes)
    return (
        f"{run} and {first}: {one.both_right} cases right in both, {one.only_run} only in {run}, {one.only_first} only "
        f"in {first}, {one.both_wrong} in neither; {changed} changed category."
    )


def _interval(low: float, high: float) -> str:
    return "" if math.isnan(low) else f"[{_number(low, sign=True)}, {_number(high, sign=True)}]"


def _number(value: float, sign: bool = False) -> str:
    return NONE if math.isnan(value) else f"{value:{'+' if sign else ''}.3f}"
