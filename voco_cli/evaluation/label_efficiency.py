"""Do pre-trained weights help where labels are few: scores by number of labels, and differences from the baseline.

Everything is paired: a run with weights and a run without them share the labelled cases, the seed and the cases that
they are measured on.

Legend: N cases, C structures, S seeds, G patients, B bootstrap resamples. NaN is a value that is left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from voco_cli.evaluation.statistics import (
    DECIMALS,
    RESAMPLES,
    Floats,
    holm,
    patient_indices,
    patient_means,
    percentile_interval,
    rank_biserial,
    resample_patients,
    wilcoxon_p,
)
from voco_cli.evaluation.summary import nan_mean

SIGNIFICANT = 0.05
Verdict = Literal["higher", "lower", "no difference shown", "one seed only"]


@dataclass(frozen=True)
class ScoredRun:
    """One fine-tuned network, measured.

    Attributes:
        arm: what it started from.
        labelled: cases that it was trained on.
        seed: of its subset of cases and of all else that is drawn.
        values_NC: of one metric where higher is better; all runs have the same cases and structures in the same order.
    """

    arm: str
    labelled: int
    seed: int
    values_NC: Floats


@dataclass(frozen=True)
class ArmScore:
    """All runs of an arm with one number of labelled cases.

    Attributes:
        seeds, seed_means: each run's seed and its mean over cases, of each case's mean over classes.
        mean: over seeds.
        sd: standard deviation over seeds (n - 1); NaN for one.
        low, high: bootstrap 95 % interval of the mean, patients and seeds resampled; NaN for fewer than two of either.
    """

    arm: str
    labelled: int
    seeds: tuple[int, ...]
    seed_means: tuple[float, ...]
    mean: float
    sd: float
    low: float
    high: float


@dataclass(frozen=True)
class Gain:
    """An arm against the baseline with one number of labelled cases, over the seeds that both have.

    Attributes:
        structure: class or region; None is the mean over classes.
        seeds, seed_differences: each seed's mean difference over cases.
        cases, patients: that have a difference.
        baseline_mean, mean: over seeds and cases.
        difference: mean over seeds and cases of (arm - baseline).
        low, high: bootstrap 95 % interval, patients and seeds resampled; NaN for fewer than two of either.
        runs_low, runs_high: the same for these very runs: only patients are resampled.
        better, worse: cases whose mean difference over seeds is above, and below, zero.
        p: Wilcoxon signed-rank test over the patients' mean differences over seeds.
        p_holm: corrected over all differences that stand in one table.
        effect: matched-pairs rank-biserial correlation, in [-1, 1].
    """

    arm: str
    labelled: int
    structure: str | None
    seeds: tuple[int, ...]
    seed_differences: tuple[float, ...]
    cases: int
    patients: int
    baseline_mean: float
    mean: float
    difference: float
    low: float
    high: float
    runs_low: float
    runs_high: float
    better: int
    worse: int
    p: float
    p_holm: float
    effect: float

    @property
    def seeds_better(self) -> int:
        """Seeds in which the arm is above the baseline."""
        return int((np.round(self.seed_differences, DECIMALS) > 0).sum())

    @property
    def verdict(self) -> Verdict:
        """What follows: a difference is shown where the interval leaves out 0 and the corrected test rejects it."""
        if len(self.seeds) < 2:
            return "one seed only"
        outside = self.low > 0 or self.high < 0  # false for NaN
        if not outside or not self.p_holm < SIGNIFICANT:
            return "no difference shown"
        return "higher" if self.low > 0 else "lower"


@dataclass(frozen=True)
class LabelEfficiency:
    """What a study found.

    Attributes:
        baseline: the arm that the others are compared with.
        cases, patients: that every run was measured on.
        scores: by number of labelled cases, then arm.
        gains: of the mean over classes, in the same order.
        by_structure: of each structure with the most labelled cases that the arm and the baseline share.
    """

    baseline: str
    cases: int
    patients: int
    scores: tuple[ArmScore, ...]
    gains: tuple[Gain, ...]
    by_structure: tuple[Gain, ...]

    @property
    def arms(self) -> list[str]:
        """Names, the baseline first."""
        return sorted(dict.fromkeys(one.arm for one in self.scores), key=lambda arm: arm != self.baseline)

    @property
    def sizes(self) -> list[int]:
        """Numbers of labelled cases, ascending."""
        return sorted({one.labelled for one in self.scores})


def label_efficiency(
    runs: Sequence[ScoredRun],
    patients: Sequence[str],
    structures: Sequence[str],
    averaged: Sequence[int],
    *,
    baseline: str = "none",
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> LabelEfficiency:
    """Scores and differences of all runs; arms and sizes need not have the same seeds, nor all be there.

    Args:
        runs: in the order in which arms are to be named.
        patients: whose each case is, N.
        structures: names, C.
        averaged: structures that the mean over classes takes.
    """
    bootstrap = _Bootstrap(patients, resamples, seed)
    groups = _grouped(runs)
    scores = tuple(_score(arm, labelled, of_seed, averaged, bootstrap) for arm, labelled, of_seed in groups)
    of_baseline = {labelled: of_seed for arm, labelled, of_seed in groups if arm == baseline}
    pairs = [
        _Pair(arm, labelled, of_baseline[labelled], of_seed)
        for arm, labelled, of_seed in groups
        if arm != baseline and of_baseline.get(labelled, {}).keys() & of_seed.keys()
    ]
    largest = {pair.arm: pair for pair in sorted(pairs, key=lambda pair: pair.labelled)}
    return LabelEfficiency(
        baseline=baseline,
        cases=len(patients),
        patients=len(set(patients)),
        scores=scores,
        gains=_corrected([_gain(pair, None, averaged, bootstrap) for pair in pairs]),
        by_structure=_corrected(
            [_gain(pair, name, [c], bootstrap) for pair in largest.values() for c, name in enumerate(structures)]
        ),
    )


def two_level_means(means_BS: Floats, draws_BS: Floats) -> Floats:
    """Mean over the drawn seeds in each resample, of each seed's mean over the drawn patients; NaN where none is.

    Args:
        means_BS: mean over the cases of the patients drawn in resample b, of seed s.
        draws_BS: how often each seed is drawn in each resample; ones for these very seeds.
    Source: the pigeonhole bootstrap of crossed factors; Owen, Ann. Appl. Stat. 1(2), 2007. It does not see that few
        seeds vary less than many: with three, the interval is too narrow where seeds, not cases, make the difference.
    """
    there = ~np.isnan(means_BS)
    sums_B = (np.where(there, means_BS, 0.0) * draws_BS).sum(axis=1)
    sizes_B = (there * draws_BS).sum(axis=1)
    return np.asarray(np.divide(sums_B, sizes_B, out=np.full(len(sums_B), np.nan), where=sizes_B > 0))


class _Bootstrap:
    """One draw of patients for all intervals, and one of seeds for each number of seeds."""

    def __init__(self, patients: Sequence[str], resamples: int, seed: int) -> None:
        self.patient_N = patient_indices(patients)
        self.num_patients = len(set(patients))
        self.resamples = resamples
        of_patients, self.of_seeds = (int(state) for state in np.random.SeedSequence(seed).generate_state(2))
        self.draws_BG = resample_patients(self.num_patients, resamples, of_patients)

    def intervals(self, values_SN: Floats) -> tuple[tuple[float, float], tuple[float, float]]:
        """Of the mean over seeds and cases: patients and seeds resampled; patients alone."""
        nothing = (math.nan, math.nan)
        with_value = np.unique(self.patient_N[~np.isnan(values_SN).all(axis=0)])
        if with_value.size < 2:
            return nothing, nothing
        means_BS = self._means(values_SN)
        num_seeds = len(values_SN)
        by_case = percentile_interval(two_level_means(means_BS, np.ones_like(means_BS)))
        if num_seeds < 2:
            return nothing, by_case
        draws_BS = resample_patients(num_seeds, self.resamples, self.of_seeds)
        return percentile_interval(two_level_means(means_BS, draws_BS)), by_case

    def _means(self, values_SN: Floats) -> Floats:
        """Mean over the drawn patients' cases in each resample, of each seed: ``means_BS``."""
        there_SN = ~np.isnan(values_SN)
        member_NG = (self.patient_N[:, None] == np.arange(self.num_patients)).astype(np.float64)
        totals_BS = self.draws_BG @ (np.where(there_SN, values_SN, 0.0) @ member_NG).T
        sizes_BS = self.draws_BG @ (there_SN @ member_NG).T
        return np.asarray(np.divide(totals_BS, sizes_BS, out=np.full(totals_BS.shape, np.nan), where=sizes_BS > 0))


@dataclass(frozen=True)
class _Pair:
    """Runs of the baseline and of an arm with the same number of labelled cases, by seed."""

    arm: str
    labelled: int
    baseline: dict[int, Floats]
    of_arm: dict[int, Floats]

    @property
    def seeds(self) -> list[int]:
        return sorted(self.baseline.keys() & self.of_arm.keys())

    def case_means(self, columns: Sequence[int]) -> tuple[Floats, Floats]:
        """Each seed's and case's mean over the structures that both runs have a value for: two of ``values_SN``."""
        before = np.stack([self.baseline[seed][:, columns] for seed in self.seeds])
        after = np.stack([self.of_arm[seed][:, columns] for seed in self.seeds])
        lacking = np.isnan(before) | np.isnan(after)
        return nan_mean(np.where(lacking, np.nan, before), axis=2), nan_mean(np.where(lacking, np.nan, after), axis=2)


def _grouped(runs: Sequence[ScoredRun]) -> list[tuple[str, int, dict[int, Floats]]]:
    """Arm, number of labelled cases and the values of each seed; by number, then in the order of the arms."""
    groups: dict[tuple[int, str], dict[int, Floats]] = {}
    arms = list(dict.fromkeys(run.arm for run in runs))
    for run in runs:
        groups.setdefault((run.labelled, run.arm), {})[run.seed] = run.values_NC
    ordered = sorted(groups, key=lambda key: (key[0], arms.index(key[1])))
    return [(arm, labelled, dict(sorted(groups[labelled, arm].items()))) for labelled, arm in ordered]


def _score(
    arm: str, labelled: int, of_seed: dict[int, Floats], averaged: Sequence[int], bootstrap: _Bootstrap
) -> ArmScore:
    values_SN = np.stack([nan_mean(values_NC[:, averaged], axis=1) for values_NC in of_seed.values()])
    means_S = nan_mean(values_SN, axis=1)
    there = means_S[~np.isnan(means_S)]
    low, high = bootstrap.intervals(values_SN)[0]
    return ArmScore(
        arm=arm,
        labelled=labelled,
        seeds=tuple(of_seed),
        seed_means=tuple(map(float, means_S)),
        mean=float(nan_mean(means_S, axis=0)),
        sd=float(there.std(ddof=1)) if there.size > 1 else math.nan,
        low=low,
        high=high,
    )


def _gain(pair: _Pair, structure: str | None, columns: Sequence[int], bootstrap: _Bootstrap) -> Gain:
    before_SN, after_SN = pair.case_means(columns)
    change_SN = after_SN - before_SN
    (low, high), (runs_low, runs_high) = bootstrap.intervals(change_SN)
    of_seeds_S = nan_mean(change_SN, axis=1)
    of_cases_N = nan_mean(change_SN, axis=0)
    of_patients_G = patient_means(of_cases_N, bootstrap.patient_N)
    better, worse = _signs(of_cases_N)
    p = wilcoxon_p(of_patients_G)
    return Gain(
        arm=pair.arm,
        labelled=pair.labelled,
        structure=structure,
        seeds=tuple(pair.seeds),
        seed_differences=tuple(map(float, of_seeds_S)),
        cases=int((~np.isnan(of_cases_N)).sum()),
        patients=of_patients_G.size,
        baseline_mean=_mean(before_SN),
        mean=_mean(after_SN),
        difference=_mean(change_SN),
        low=low,
        high=high,
        runs_low=runs_low,
        runs_high=runs_high,
        better=better,
        worse=worse,
        p=p,
        p_holm=p,
        effect=rank_biserial(of_patients_G),
    )


def _mean(values_SN: Floats) -> float:
    return float(nan_mean(nan_mean(values_SN, axis=1), axis=0))


def _signs(values: NDArray[np.float64]) -> tuple[int, int]:
    rounded = np.round(values[~np.isnan(values)], DECIMALS)
    return int((rounded > 0).sum()), int((rounded < 0).sum())


def _corrected(gains: Sequence[Gain]) -> tuple[Gain, ...]:
    corrected: Iterator[float] = iter(holm([one.p for one in gains]))
    return tuple(replace(one, p_holm=next(corrected)) for one in gains)
