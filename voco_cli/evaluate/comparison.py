"""Runs on the same cases against a first one: what differs, and whether that is more than chance.

Everything is paired: by case for the scores, by patient for resampling and tests. Two evaluations are compared as a
study compares two arms that have one seed each.

Legend: N cases, P parts, S seeds, G patients, B bootstrap resamples. NaN is a value that is left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from voco_cli.evaluate.metric import Metric, Table, TestName
from voco_cli.evaluate.statistics import (
    DECIMALS,
    Floats,
    Interval,
    draw_swaps,
    holm,
    nan_mean,
    otherwise_grouped,
    patient_indices,
    patient_means,
    percentile_interval,
    rank_biserial,
    resample_patients,
)
from voco_cli.evaluate.tables import from_json
from voco_cli.foreign_text import named

NO_INTERVAL: Interval = (math.nan, math.nan)


@dataclass(frozen=True)
class Difference:
    """One metric of one part of a run, or of its runs with several seeds, against the first.

    Attributes:
        run: its name; in a study the arm.
        metric: key of the metric.
        part: class, region or category; None is the whole run.
        labelled: cases that it was trained on, in a study.
        seeds, seed_differences: each seed's difference.
        cases, patients: that have a difference.
        unpaired: cases for which only one of two has a value (a distance of a structure that one missed, say).
        first, value: scores of the first and of this one, over what both have; means over seeds.
        difference: mean over seeds of (this one - first).
        low, high: bootstrap 95 % interval, patients and seeds resampled; NaN for fewer than two of either.
        runs_low, runs_high: the same for these very runs: only patients are resampled.
        left_out: resamples in which it is not defined, because they lack a category.
        better, worse: cases whose own mean difference over seeds is above, and below, zero.
        p: of the metric's test, by patient.
        p_holm: corrected for all tests of its family.
        test: which test p is of.
        effect: matched-pairs rank-biserial correlation of the patients' mean differences, in [-1, 1].
    """

    run: str
    metric: str
    part: str | None
    cases: int
    patients: int
    first: float
    value: float
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    effect: float = math.nan
    unpaired: int = 0
    left_out: int = 0
    test: TestName = "Wilcoxon"
    labelled: int = 0
    seeds: tuple[int, ...] = (0,)
    seed_differences: tuple[float, ...] = ()
    runs_low: float = math.nan
    runs_high: float = math.nan
    better: int = 0
    worse: int = 0

    @property
    def seeds_better(self) -> int:
        """Return in how many seeds it is above the first."""
        return int((np.round(self.seed_differences, DECIMALS) > 0).sum())


class Resampling:
    """One draw of patients for all intervals, one of seeds for each number of seeds, and one of swaps for tests.

    Args:
        patients: whose each case is, N.
        resamples: of the bootstrap, and the most swaps.
        patient_seed, swap_seed, seed_seed: of the three streams.
    """

    def __init__(
        self, patients: Sequence[str], resamples: int, patient_seed: int, swap_seed: int, seed_seed: int = 0
    ) -> None:
        self.patient_N = patient_indices(patients)
        self.num_patients = len(set(patients))
        self.resamples, self.seed_seed = resamples, seed_seed
        self.weights_BN = resample_patients(self.num_patients, resamples, patient_seed)[:, self.patient_N]
        self.swaps = draw_swaps(self.num_patients, resamples, swap_seed)
        self.ones_1N = np.ones((1, len(patients)))

    def intervals(self, means_BS: Floats, values_SN: Floats) -> tuple[Interval, Interval]:
        """Return two intervals of the mean over seeds: patients and seeds resampled, and patients alone.

        Args:
            means_BS: scores of each seed in each resample of the patients.
            values_SN: what each case has of them.
        """
        with_value = np.unique(self.patient_N[~np.isnan(values_SN).all(axis=0)])
        if with_value.size < 2:
            return NO_INTERVAL, NO_INTERVAL
        num_seeds = len(values_SN)
        by_case = percentile_interval(two_level_means(means_BS, np.ones_like(means_BS)))
        if num_seeds < 2:
            return NO_INTERVAL, by_case
        draws_BS = resample_patients(num_seeds, self.resamples, self.seed_seed)
        return percentile_interval(two_level_means(means_BS, draws_BS)), by_case


def two_level_means(means_BS: Floats, draws_BS: Floats) -> Floats:
    """Return the mean over the drawn seeds in each resample of each seed's score over the drawn patients.

    Args:
        means_BS: score over the cases of the patients drawn in resample b, of seed s.
        draws_BS: how often each seed is drawn in each resample; ones for these very seeds.
    Returns:
        means_B; NaN where no seed has a score.
    Source: the pigeonhole bootstrap of crossed factors; Owen, Ann. Appl. Stat. 1(2), 2007. It does not see that few
        seeds vary less than many: with three, the interval is too narrow where seeds, not cases, make the difference.
    """
    there = ~np.isnan(means_BS)
    sums_B = (np.where(there, means_BS, 0.0) * draws_BS).sum(axis=1)
    sizes_B = (there * draws_BS).sum(axis=1)
    return np.asarray(np.divide(sums_B, sizes_B, out=np.full(len(sums_B), np.nan), where=sizes_B > 0))


def paired_differences(
    run: str,
    metric: Metric[Table],
    pairs: Mapping[int, tuple[Table, Table]],
    resampling: Resampling,
) -> list[Difference]:
    """Compare one run with the first, part by part, over all seeds that both have.

    Args:
        pairs: results of the first and of this one by seed, all of the same cases in the same order.
    """
    tables = list(pairs.values())
    before_SP, after_SP = (side[0] for side in _pair_scores(metric, tables, resampling.ones_1N))
    before_BSP, after_BSP = _pair_scores(metric, tables, resampling.weights_BN)
    change_BSP = after_BSP - before_BSP
    values = (metric.case_values(first, other) for first, other in tables)
    change_SNP = np.stack([after_NP - before_NP for before_NP, after_NP in values])
    p_values, test = metric.test(tables, resampling.patient_N, resampling.swaps)
    of_cases_NP = nan_mean(change_SNP, axis=0)
    alone = [metric.case_values(table, table)[0] for table in tables[0]]
    found = []
    for i, part in enumerate(metric.parts(tables[0][0])):
        (low, high), (runs_low, runs_high) = resampling.intervals(change_BSP[:, :, i], change_SNP[:, :, i])
        of_patients_G = patient_means(of_cases_NP[:, i], resampling.patient_N)
        of_cases_N = np.round(of_cases_NP[:, i], DECIMALS)
        unpaired_N = np.isnan(alone[0][:, i]) != np.isnan(alone[1][:, i])
        found.append(
            Difference(
                run=run,
                metric=metric.key,
                part=part,
                cases=int((~np.isnan(of_cases_N)).sum()),
                patients=of_patients_G.size,
                first=float(nan_mean(before_SP[:, i], axis=0)),
                value=float(nan_mean(after_SP[:, i], axis=0)),
                difference=float(nan_mean(after_SP[:, i] - before_SP[:, i], axis=0)),
                low=low,
                high=high,
                p=p_values[i],
                p_holm=p_values[i],
                effect=rank_biserial(of_patients_G),
                unpaired=0 if part is None else int(unpaired_N.sum()),
                left_out=int(np.isnan(change_BSP[:, 0, i]).sum()),
                test=test,
                seeds=tuple(pairs),
                seed_differences=tuple(map(float, after_SP[:, i] - before_SP[:, i])),
                runs_low=runs_low,
                runs_high=runs_high,
                better=int((of_cases_N > 0).sum()),
                worse=int((of_cases_N < 0).sum()),
            )
        )
    return found


def compare_runs(
    runs: Sequence[str],
    tables: Sequence[Table],
    metrics: Sequence[Metric[Table]],
    resamples: int,
    seed: int,
    family: Callable[[Difference], Hashable | None],
) -> tuple[list[Difference], Resampling]:
    """Compare each run with the first under each metric, as a study with one seed.

    Args:
        runs: names, one a table.
        tables: of the same cases and parts (see `pairing_faults`), two at least.
        family: as `corrected`.
    Returns:
        Differences by metric, run and part, whose intervals are of these very runs; and what was drawn for them.
    """
    first = tables[0]
    # The tests take another stream than the bootstrap.
    resampling = Resampling(first.patients, resamples, patient_seed=seed, swap_seed=seed + 1)
    found = [
        replace(one, low=one.runs_low, high=one.runs_high)
        for metric in metrics
        for run, table in zip(runs[1:], tables[1:], strict=True)
        for one in paired_differences(run, metric, {0: (first, table)}, resampling)
    ]
    return corrected(found, family), resampling


def corrected(
    differences: Sequence[Difference], family: Callable[[Difference], Hashable | None] = lambda one: True
) -> list[Difference]:
    """Return the differences with p values corrected by Holm's method within each family of tests.

    Args:
        family: name of the family that a difference belongs to; None is a single test, which stays as it is.
    """
    members: dict[Hashable, list[int]] = {}
    for i, one in enumerate(differences):
        if (name := family(one)) is not None:
            members.setdefault(name, []).append(i)
    found = list(differences)
    for places in members.values():
        for i, p in zip(places, holm([found[i].p for i in places]), strict=True):
            found[i] = replace(found[i], p_holm=p)
    return found


def pairing_faults(runs: Sequence[str], tables: Sequence[Table]) -> list[str]:
    """Return why runs cannot be compared with the first, one sentence each; none where they can.

    Cases, their patients, classes or categories and the reference must be the same.
    """
    faults = []
    first = tables[0]
    for run, table in zip(runs[1:], tables[1:], strict=True):
        for here, there, name in ((first, table, run), (table, first, runs[0])):
            if lacking := sorted(set(here.cases) - set(there.cases)):
                faults.append(f"{name} has no {_case_names(lacking)}")
        ours, theirs = first.named_parts, table.named_parts
        unlike = {name for one in (ours, theirs) for part, name in one.items() if (part in ours) != (part in theirs)}
        if unlike:
            faults.append(f"{run} and {runs[0]} differ in {first.parts_noun}: {', '.join(sorted(unlike))}")
        elif set(first.cases) == set(table.cases):
            aligned = table.like(first)
            moved = otherwise_grouped(first.cases, first.patients, aligned.patients)
            found = {
                "{run} puts other cases together as one patient's than {first}:": moved,
                **first.unlike_cases(aligned),
            }
            faults += [
                f"{words.format(run=run, first=runs[0])} {_case_names(cases)}"
                for words, cases in found.items()
                if cases
            ]
    return faults


def json_keys(text: str) -> dict[str, str]:
    """Return the keys of a JSON object with the attributes that they hold, from ``cases mean=value``."""
    return {key: name or key for key, _, name in (word.partition("=") for word in text.split())}


def difference_object(one: Difference, keys: Mapping[str, str]) -> dict[str, Any]:
    """Return a difference as JSON holds it.

    Args:
        keys: as `json_keys`.
    """
    return {key: getattr(one, name) for key, name in keys.items()}


def difference_from_json(held: Mapping[str, Any], keys: Mapping[str, str], **more: Any) -> Difference:
    """Return the difference that `difference_object` gave; null among its numbers is NaN.

    Raises:
        KeyError, TypeError, ValueError: a key is missing, or a value is of another kind.
    """
    return from_json(Difference, {**{name: held[key] for key, name in keys.items()}, **more})


def _case_names(cases: Sequence[str]) -> str:
    return f"case{'s' if len(cases) > 1 else ''} {named(cases, 10)}"


def _pair_scores(
    metric: Metric[Table], tables: Sequence[tuple[Table, Table]], weights_BN: Floats
) -> tuple[Floats, Floats]:
    """Return the scores of the first and of the other under each weighting, of each seed and part: ``scores_BSP``."""
    by_seed = [metric.pair_scores(first, other, weights_BN) for first, other in tables]
    before, after = zip(*by_seed, strict=True)
    return np.stack(before, axis=1), np.stack(after, axis=1)
