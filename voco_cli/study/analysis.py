"""Do pre-trained weights help where labels are few: scores by number of labels, and differences from the baseline.

Everything is paired: a run with weights and a run without them share the labelled cases, the seed and the cases that
they are measured on. What a score is, a `Yardstick` says.

Legend: N cases, S seeds, G patients, B bootstrap resamples. NaN is a value that is left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from voco_cli.evaluate.segmentation.table import nan_mean
from voco_cli.evaluate.statistics import (
    DECIMALS,
    RESAMPLES,
    Floats,
    draw_swaps,
    holm,
    patient_indices,
    patient_means,
    percentile_interval,
    rank_biserial,
    resample_patients,
)
from voco_cli.study.metrics import Words, Yardstick

SIGNIFICANT = 0.05
Verdict = Literal["higher", "lower", "no difference shown", "one seed only"]
Run = TypeVar("Run")


@dataclass(frozen=True)
class ScoredRun(Generic[Run]):
    """One fine-tuned network, measured.

    Attributes:
        arm: what it started from.
        labelled: cases that it was trained on.
        seed: of its subset of cases and of all else that is drawn.
        measured: what the yardstick takes; all runs have the same cases in the same order.
    """

    arm: str
    labelled: int
    seed: int
    measured: Run


@dataclass(frozen=True)
class ArmScore:
    """All runs of an arm with one number of labelled cases.

    Attributes:
        seeds, seed_means: each run's seed and its score.
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
        structure: class, region or category; None is the score of whole runs.
        seeds, seed_differences: each seed's difference.
        cases, patients: that have a difference.
        baseline_mean, mean: of the scores, over seeds.
        difference: mean over seeds of (arm - baseline).
        low, high: bootstrap 95 % interval, patients and seeds resampled; NaN for fewer than two of either.
        runs_low, runs_high: the same for these very runs: only patients are resampled.
        better, worse: cases whose own mean difference over seeds is above, and below, zero.
        p: of the yardstick's test, by patient.
        p_holm: corrected over all differences that stand in one table.
        effect: matched-pairs rank-biserial correlation of the patients' mean differences over seeds, in [-1, 1].
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
        words: what it is measured by.
        cases, patients: that every run was measured on.
        scores: by number of labelled cases, then arm.
        gains: of the scores, in the same order.
        by_structure: of each structure with the most labelled cases that the arm and the baseline share.
    """

    baseline: str
    words: Words
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
    runs: Sequence[ScoredRun[Run]],
    patients: Sequence[str],
    yardstick: Yardstick[Run],
    *,
    baseline: str = "none",
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> LabelEfficiency:
    """Scores and differences of all runs; arms and sizes need not have the same seeds, nor all be there.

    Args:
        runs: in the order in which arms are to be named.
        patients: whose each case is, N.
        yardstick: what runs are scored and compared by.
    """
    bootstrap = _Bootstrap(patients, resamples, seed)
    groups = _grouped(runs)
    scores = tuple(_score(arm, labelled, of_seed, yardstick, bootstrap) for arm, labelled, of_seed in groups)
    of_baseline = {labelled: of_seed for arm, labelled, of_seed in groups if arm == baseline}
    pairs = [
        _Pair(arm, labelled, of_baseline[labelled], of_seed)
        for arm, labelled, of_seed in groups
        if arm != baseline and of_baseline.get(labelled, {}).keys() & of_seed.keys()
    ]
    largest = {pair.arm: pair for pair in sorted(pairs, key=lambda pair: pair.labelled)}
    parts = range(len(yardstick.parts))
    return LabelEfficiency(
        baseline=baseline,
        words=yardstick.words,
        cases=len(patients),
        patients=len(set(patients)),
        scores=scores,
        gains=_corrected([_gain(pair, None, yardstick, bootstrap) for pair in pairs]),
        by_structure=_corrected([_gain(pair, c, yardstick, bootstrap) for pair in largest.values() for c in parts]),
    )


def two_level_means(means_BS: Floats, draws_BS: Floats) -> Floats:
    """Mean over the drawn seeds in each resample, of each seed's score over the drawn patients; NaN where none is.

    Args:
        means_BS: score over the cases of the patients drawn in resample b, of seed s.
        draws_BS: how often each seed is drawn in each resample; ones for these very seeds.
    Source: the pigeonhole bootstrap of crossed factors; Owen, Ann. Appl. Stat. 1(2), 2007. It does not see that few
        seeds vary less than many: with three, the interval is too narrow where seeds, not cases, make the difference.
    """
    there = ~np.isnan(means_BS)
    sums_B = (np.where(there, means_BS, 0.0) * draws_BS).sum(axis=1)
    sizes_B = (there * draws_BS).sum(axis=1)
    return np.asarray(np.divide(sums_B, sizes_B, out=np.full(len(sums_B), np.nan), where=sizes_B > 0))


class _Bootstrap:
    """One draw of patients for all intervals, one of seeds for each number of seeds, and one of exchanges for tests."""

    def __init__(self, patients: Sequence[str], resamples: int, seed: int) -> None:
        self.patient_N = patient_indices(patients)
        num_patients = len(set(patients))
        self.resamples = resamples
        states = np.random.SeedSequence(seed).generate_state(3)
        of_patients, self.of_seeds, of_swaps = (int(state) for state in states)
        self.weights_BN = resample_patients(num_patients, resamples, of_patients)[:, self.patient_N]
        self.swaps = draw_swaps(num_patients, resamples, of_swaps)

    def intervals(self, means_BS: Floats, values_SN: Floats) -> tuple[tuple[float, float], tuple[float, float]]:
        """Of the mean over seeds: patients and seeds resampled; patients alone.

        Args:
            means_BS: scores of each seed in each resample of the patients.
            values_SN: what each case has of them.
        """
        nothing = (math.nan, math.nan)
        with_value = np.unique(self.patient_N[~np.isnan(values_SN).all(axis=0)])
        if with_value.size < 2:
            return nothing, nothing
        num_seeds = len(values_SN)
        by_case = percentile_interval(two_level_means(means_BS, np.ones_like(means_BS)))
        if num_seeds < 2:
            return nothing, by_case
        draws_BS = resample_patients(num_seeds, self.resamples, self.of_seeds)
        return percentile_interval(two_level_means(means_BS, draws_BS)), by_case


@dataclass(frozen=True)
class _Pair(Generic[Run]):
    """Runs of the baseline and of an arm with the same number of labelled cases, by seed."""

    arm: str
    labelled: int
    baseline: dict[int, Run]
    of_arm: dict[int, Run]

    @property
    def seeds(self) -> list[int]:
        return sorted(self.baseline.keys() & self.of_arm.keys())

    @property
    def runs(self) -> list[tuple[Run, Run]]:
        return [(self.baseline[seed], self.of_arm[seed]) for seed in self.seeds]


def _grouped(runs: Sequence[ScoredRun[Run]]) -> list[tuple[str, int, dict[int, Run]]]:
    """Arm, number of labelled cases and the run of each seed; by number, then in the order of the arms."""
    groups: dict[tuple[int, str], dict[int, Run]] = {}
    arms = list(dict.fromkeys(run.arm for run in runs))
    for run in runs:
        groups.setdefault((run.labelled, run.arm), {})[run.seed] = run.measured
    ordered = sorted(groups, key=lambda key: (key[0], arms.index(key[1])))
    return [(arm, labelled, dict(sorted(groups[labelled, arm].items()))) for labelled, arm in ordered]


def _score(
    arm: str, labelled: int, of_seed: dict[int, Run], yardstick: Yardstick[Run], bootstrap: _Bootstrap
) -> ArmScore:
    ones_1N = np.ones((1, len(bootstrap.patient_N)))
    means_S = np.array([yardstick.scores(run, ones_1N)[0] for run in of_seed.values()])
    means_BS = np.stack([yardstick.scores(run, bootstrap.weights_BN) for run in of_seed.values()], axis=1)
    values_SN = np.stack([yardstick.case_values(run, run, None)[0] for run in of_seed.values()])
    there = means_S[~np.isnan(means_S)]
    low, high = bootstrap.intervals(means_BS, values_SN)[0]
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


def _gain(pair: _Pair[Run], part: int | None, yardstick: Yardstick[Run], bootstrap: _Bootstrap) -> Gain:
    before_S, after_S = _pair_scores(pair, part, yardstick, np.ones((1, len(bootstrap.patient_N))))[:, 0]
    before_BS, after_BS = _pair_scores(pair, part, yardstick, bootstrap.weights_BN)
    values = (yardstick.case_values(first, other, part) for first, other in pair.runs)
    change_SN = np.stack([after_N - before_N for before_N, after_N in values])
    (low, high), (runs_low, runs_high) = bootstrap.intervals(after_BS - before_BS, change_SN)
    of_cases_N = nan_mean(change_SN, axis=0)
    of_patients_G = patient_means(of_cases_N, bootstrap.patient_N)
    better, worse = _signs(of_cases_N)
    p = yardstick.p_value(pair.runs, part, bootstrap.patient_N, bootstrap.swaps)
    return Gain(
        arm=pair.arm,
        labelled=pair.labelled,
        structure=None if part is None else yardstick.parts[part],
        seeds=tuple(pair.seeds),
        seed_differences=tuple(map(float, after_S - before_S)),
        cases=int((~np.isnan(of_cases_N)).sum()),
        patients=of_patients_G.size,
        baseline_mean=float(nan_mean(before_S, axis=0)),
        mean=float(nan_mean(after_S, axis=0)),
        difference=float(nan_mean(after_S - before_S, axis=0)),
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


def _pair_scores(pair: _Pair[Run], part: int | None, yardstick: Yardstick[Run], weights_BN: Floats) -> Floats:
    """Of the baseline and of the arm, under each weighting and of each seed: ``scores_2BS``."""
    by_seed = [yardstick.pair_scores(first, other, part, weights_BN) for first, other in pair.runs]
    return np.stack([np.stack(side, axis=1) for side in zip(*by_seed, strict=True)])


def _signs(values: NDArray[np.float64]) -> tuple[int, int]:
    rounded = np.round(values[~np.isnan(values)], DECIMALS)
    return int((rounded > 0).sum()), int((rounded < 0).sum())


def _corrected(gains: Sequence[Gain]) -> tuple[Gain, ...]:
    corrected: Iterator[float] = iter(holm([one.p for one in gains]))
    return tuple(replace(one, p_holm=next(corrected)) for one in gains)
