"""Two or more classifications of the same cases: what differs, and whether that is more than chance.

Everything is paired: figures by case, resampling and tests by patient. The first set is what the others are compared
with.

Legend: N cases, K categories, G patients, B weightings of the cases. NaN is a figure that is not defined.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from voco_cli.evaluate.classification.metrics import (
    OVERALL_METRICS,
    Floats,
    ScoredCases,
    figures,
    in_blocks,
    measure,
    sides,
    stack,
)
from voco_cli.evaluate.segmentation.compare import named
from voco_cli.evaluate.statistics import (
    RESAMPLES,
    draw_swaps,
    holm,
    mcnemar_p,
    otherwise_grouped,
    patient_indices,
    percentile_interval,
    resample_patients,
    swap_p,
)

COMPARED = ("auc", "sensitivity", "specificity", "f1")
"""Figures of a category that are compared; its precision is not defined where nothing was taken for it."""
Figures = dict[tuple[str, int | None], Floats]
"""Values_B by metric and category (none: over all categories)."""


@dataclass(frozen=True)
class FigureDifference:
    """One figure of one set against the first set.

    Attributes:
        run: name of the set.
        category: against all others; none is a figure over all categories.
        metric: one of `OVERALL_METRICS`, or of `COMPARED` for a category (of two, only the second has its own).
        first_value, value: of the first set and of this one.
        difference: value - first_value.
        low, high: bootstrap 95 % interval of the difference, resampled by patient; NaN for fewer than two.
        left_out: resamples in which it is not defined, because they lack a category.
        p: of the test; NaN where the figure is not defined.
        p_holm: corrected over the sets, and over the categories for figures of a category.
        test: ``McNemar`` (exact), or ``swaps``: the sets exchange their results of whole patients.
    """

    run: str
    category: str | None
    metric: str
    first_value: float
    value: float
    difference: float
    low: float
    high: float
    left_out: int
    p: float
    p_holm: float
    test: Literal["McNemar", "swaps"]


@dataclass(frozen=True)
class CategoryChange:
    """A case that one set takes for another category than the first set does.

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
        """What the change came to."""
        if self.value == self.category:
            return "now right"
        return "now wrong" if self.first == self.category else "other error"


@dataclass(frozen=True)
class Agreement:
    """How many cases a set and the first set tell rightly."""

    run: str
    both_right: int
    only_first: int
    only_run: int
    both_wrong: int


@dataclass(frozen=True)
class ClassificationComparison:
    """All differences.

    Attributes:
        runs: names of the sets; the first is compared with.
        cases, patients: how many are paired.
        categories: names.
        differences: by set; over all categories first, then category by category.
        changes: by set and case.
        agreements: by set.
        true_probabilities: what each set says of the true category of each case, ``(runs, cases)``.
        right: which of them each set tells rightly, ``(runs, cases)``.
        swaps: ways in which results were exchanged; all that there are, where `exact`.
    """

    runs: tuple[str, ...]
    cases: int
    patients: int
    categories: tuple[str, ...]
    differences: tuple[FigureDifference, ...]
    changes: tuple[CategoryChange, ...]
    agreements: tuple[Agreement, ...]
    true_probabilities: Floats
    right: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]
    swaps: int
    exact: bool


def pairing_faults(runs: Sequence[str], tables: Sequence[ScoredCases]) -> list[str]:
    """Why classifications cannot be paired, one sentence each; none where they can.

    Cases, their patients, the categories and what each case truly is must be the same.
    """
    faults = []
    first = tables[0]
    for run, table in zip(runs[1:], tables[1:], strict=True):
        for here, there, name in ((first, table, run), (table, first, runs[0])):
            lacking = sorted(set(here.cases) - set(there.cases))
            if lacking:
                faults.append(f"{name} has no {named('case', lacking)}")
        ours, theirs = set(first.categories), set(table.categories)
        if ours != theirs:
            faults.append(f"{run} and {runs[0]} differ in categories: {', '.join(sorted(ours ^ theirs))}")
        if set(first.cases) == set(table.cases) and ours == theirs:
            other = aligned(table, first)
            moved = otherwise_grouped(first.cases, first.patients, other.patients)
            odd = [case for case, a, b in zip(first.cases, first.truth_N, other.truth_N, strict=True) if a != b]
            if moved:
                faults.append(
                    f"{run} puts other cases together as one patient's than {runs[0]}: {named('case', moved)}"
                )
            if odd:
                faults.append(f"{run} has another true category than {runs[0]} for {named('case', odd)}")
    return faults


def aligned(table: ScoredCases, like: ScoredCases) -> ScoredCases:
    """The same cases and categories in the order of another table that has the same."""
    place = {case: n for n, case in enumerate(table.cases)}
    rows = [place[case] for case in like.cases]
    columns = [table.categories.index(name) for name in like.categories]
    return ScoredCases(
        cases=like.cases,
        patients=tuple(table.patients[n] for n in rows),
        categories=like.categories,
        truth_N=np.array([columns.index(table.truth_N[n]) for n in rows], np.intp),
        probabilities_NK=table.probabilities_NK[np.ix_(rows, columns)],
    )


def compare_classifications(
    runs: Sequence[str], tables: Sequence[ScoredCases], resamples: int = RESAMPLES, seed: int = 0
) -> ClassificationComparison:
    """Compare each set with the first.

    Args:
        runs: names, one a table.
        tables: of the same cases and categories (see `pairing_faults`), two at least.
        resamples: of the patients, and the most ways to exchange their results.
    """
    first, *others = (aligned(table, tables[0]) for table in tables)
    patient_N = patient_indices(first.patients)
    num_patients = len(set(first.patients))
    draws_BG = resample_patients(num_patients, resamples, seed)
    swaps = draw_swaps(num_patients, resamples, seed + 1)  # another stream than that of the bootstrap
    ones_1N = np.ones((1, len(first.cases)))
    before, before_drawn = _figures(first, ones_1N), _resampled(first, draws_BG[:, patient_N])
    rows: list[FigureDifference] = []
    for run, other in zip(runs[1:], others, strict=True):
        after, after_drawn = _figures(other, ones_1N), _resampled(other, draws_BG[:, patient_N])
        swapped = swapped_differences(first, other, swaps.swapped_BG[:, patient_N])
        for key in before:
            observed = float(after[key][0] - before[key][0])
            values = (float(before[key][0]), float(after[key][0]), observed)
            p, test = _p(key, first, other, swap_p(swapped[key], observed, swaps.exact))
            change_B = after_drawn[key] - before_drawn[key]
            rows.append(_difference(run, first.categories, key, values, change_B, num_patients, p, test))
    tables = [first, *others]
    right = np.stack([table.predicted == table.truth_N for table in tables])
    return ClassificationComparison(
        runs=tuple(runs),
        cases=len(first.cases),
        patients=num_patients,
        categories=first.categories,
        differences=tuple(_corrected(rows)),
        changes=tuple(
            change for run, other in zip(runs[1:], others, strict=True) for change in _changes(run, first, other)
        ),
        agreements=tuple(_agreement(run, right[0], of_run) for run, of_run in zip(runs[1:], right[1:], strict=True)),
        true_probabilities=np.stack([_true_probabilities(table) for table in tables]),
        right=right,
        swaps=len(swaps.swapped_BG),
        exact=swaps.exact,
    )


def swapped_differences(
    first: ScoredCases, other: ScoredCases, swapped_BN: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]
) -> Figures:
    """Differences (other - first) after the two have exchanged their results of some cases, see `stack`."""
    both = stack(first, other)
    parts: list[Figures] = []
    for block_BN in in_blocks(swapped_BN, 2 * len(both.truth_M)):
        measured = (figures(both.truth_M, both.predicted_M, both.ranks_MK, side) for side in sides(block_BN))
        before, after = (_by_key(*one) for one in measured)
        parts.append({key: after[key] - before[key] for key in before})
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def _figures(scored: ScoredCases, weights_BN: Floats) -> Figures:
    return _by_key(*measure(scored, weights_BN))


def _by_key(overall: dict[str, Floats], of_category: dict[str, Floats]) -> Figures:
    found: Figures = {(metric, None): overall[metric] for metric in OVERALL_METRICS}
    num_categories = of_category["auc"].shape[1]
    if num_categories == 2:  # the first one's figures are the second's turned round, and its AUC is that over all
        return found | {(metric, 1): of_category[metric][:, 1] for metric in COMPARED if metric != "auc"}
    for k in range(num_categories):
        found |= {(metric, k): of_category[metric][:, k] for metric in COMPARED}
    return found


def _resampled(scored: ScoredCases, weights_BN: Floats) -> Figures:
    parts = [_figures(scored, block) for block in in_blocks(weights_BN, len(scored.cases))]
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def _p(
    key: tuple[str, int | None], first: ScoredCases, other: ScoredCases, of_swaps: float
) -> tuple[float, Literal["McNemar", "swaps"]]:
    """McNemar's test of the accuracy, where cases are patients; it takes scans of one patient for independent."""
    if key != ("accuracy", None) or len(set(first.patients)) < len(first.cases):
        return of_swaps, "swaps"
    right, right_other = (one.predicted == one.truth_N for one in (first, other))
    return mcnemar_p(int((right & ~right_other).sum()), int((right_other & ~right).sum())), "McNemar"


def _difference(
    run: str,
    categories: Sequence[str],
    key: tuple[str, int | None],
    values: tuple[float, float, float],
    change_B: Floats,
    num_patients: int,
    p: float,
    test: Literal["McNemar", "swaps"],
) -> FigureDifference:
    metric, k = key
    low, high = percentile_interval(change_B) if num_patients > 1 else (math.nan, math.nan)
    return FigureDifference(
        run, None if k is None else categories[k], metric, *values, low, high, int(np.isnan(change_B).sum()), p, p, test
    )


def _corrected(rows: Sequence[FigureDifference]) -> list[FigureDifference]:
    """Holm's correction within each figure over the sets, and apart from that within each figure of categories."""
    families: dict[tuple[str, bool], list[int]] = {}
    for i, one in enumerate(rows):
        families.setdefault((one.metric, one.category is None), []).append(i)
    corrected = list(rows)
    for members in families.values():
        for i, p in zip(members, holm([rows[i].p for i in members]), strict=True):
            corrected[i] = replace(rows[i], p_holm=p)
    return corrected


def _changes(run: str, first: ScoredCases, other: ScoredCases) -> list[CategoryChange]:
    names = first.categories
    before, after = _true_probabilities(first), _true_probabilities(other)
    guesses = zip(first.predicted, other.predicted, strict=True)
    return [
        CategoryChange(
            *(run, first.cases[n], first.patients[n], names[first.truth_N[n]], names[a], names[b]),
            *(float(before[n]), float(after[n])),
        )
        for n, (a, b) in enumerate(guesses)
        if a != b
    ]


def _agreement(run: str, first_N: np.ndarray, run_N: np.ndarray) -> Agreement:
    counts = (first_N & run_N, first_N & ~run_N, run_N & ~first_N, ~first_N & ~run_N)
    return Agreement(run, *(int(one.sum()) for one in counts))


def _true_probabilities(scored: ScoredCases) -> Floats:
    return np.asarray(scored.probabilities_NK[np.arange(len(scored.cases)), scored.truth_N])
