"""Intervals and tests that respect that scans of one patient are alike.

Legend: N values (cases), G patients, B bootstrap resamples. NaN is a value that is left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]
Interval = tuple[float, float]

RESAMPLES = 2000
LEVEL = 0.95
# Differences that are equal on paper differ by rounding, and ties matter to ranks.
DECIMALS = 12


def nan_mean(values: Floats, axis: int) -> Floats:
    """Return the mean over what is there; NaN, and no warning, where nothing is."""
    there = ~np.isnan(values)
    counts = there.sum(axis=axis)
    sums = np.where(there, values, 0.0).sum(axis=axis)
    return np.asarray(np.divide(sums, counts, out=np.full(counts.shape, np.nan), where=counts > 0))


def patient_indices(patients: Sequence[str]) -> Indices:
    """Return a number from 0 for each value's patient."""
    return np.unique(np.array(patients, dtype=np.str_), return_inverse=True)[1].astype(np.intp)


def otherwise_grouped(cases: Sequence[str], patients: Sequence[str], others: Sequence[str]) -> list[str]:
    """Return the cases that have other cases of their patient beside them in one set than in another; names may differ.

    Args:
        cases: names, N.
        patients, others: whose each case is, in one set and in the other, N each.
    """
    beside, beside_other = _cases_of(patients), _cases_of(others)
    return [case for case, a, b in zip(cases, patients, others, strict=True) if beside[a] != beside_other[b]]


def _cases_of(patients: Sequence[str]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for n, patient in enumerate(patients):
        found.setdefault(patient, []).append(n)
    return found


def resample_patients(num_patients: int, resamples: int, seed: int) -> Floats:
    """Return how often each patient is drawn in each resample, with replacement: ``draws_BG``; each row sums to G."""
    rng = np.random.default_rng(seed)
    draws_BG = rng.multinomial(num_patients, np.full(num_patients, 1 / num_patients), size=resamples)
    return np.asarray(draws_BG, np.float64)


def bootstrap_means(values_N: Floats, patient_N: Indices, draws_BG: Floats) -> Floats:
    """Return the mean over the values of the drawn patients in each resample; NaN where none of them has a value.

    Source: cluster bootstrap; Davison and Hinkley, "Bootstrap Methods and their Application", 1997, Sec. 3.8.
    """
    there = ~np.isnan(values_N)
    num_patients = draws_BG.shape[1]
    sums_G = np.bincount(patient_N[there], values_N[there], minlength=num_patients)
    counts_G = np.bincount(patient_N[there], minlength=num_patients)
    totals_B, sizes_B = draws_BG @ sums_G, draws_BG @ counts_G
    return np.asarray(np.divide(totals_B, sizes_B, out=np.full(len(draws_BG), np.nan), where=sizes_B > 0))


def percentile_interval(means_B: Floats, level: float = LEVEL) -> Interval:
    """Return the middle ``level`` of bootstrap means; NaN where there are none."""
    there = means_B[~np.isnan(means_B)]
    if not there.size:
        return (math.nan, math.nan)
    low, high = np.quantile(there, ((1 - level) / 2, (1 + level) / 2))
    return (float(low), float(high))


def mean_interval(values_N: Floats, patient_N: Indices, draws_BG: Floats, level: float = LEVEL) -> Interval:
    """Return the percentile interval of the mean, resampled by patient; NaN where fewer than two have a value."""
    if np.unique(patient_N[~np.isnan(values_N)]).size < 2:
        return (math.nan, math.nan)
    return percentile_interval(bootstrap_means(values_N, patient_N, draws_BG), level)


def patient_means(values_N: Floats, patient_N: Indices) -> Floats:
    """Return one mean for each patient who has a value, so that a test sees independent numbers."""
    there = ~np.isnan(values_N)
    counts_G = np.bincount(patient_N[there])
    sums_G = np.bincount(patient_N[there], values_N[there])
    return np.asarray(sums_G[counts_G > 0] / counts_G[counts_G > 0])


def wilcoxon_p(differences_G: Floats) -> float:
    """Return the two-sided p of the Wilcoxon signed-rank test that differences are symmetric about 0.

    Zero differences are dropped (Wilcoxon's own way); 1 where all are zero, NaN where there are none at all.
    """
    rounded = np.round(differences_G, DECIMALS)
    if not rounded.size:
        return math.nan
    if not rounded.any():
        return 1.0
    return _signed_rank_p(tuple(rounded[rounded != 0].tolist()))


MOST_SIGNS = 13
"""Values with ties whose signs are all tried; of more, scipy takes the normal approximation."""


@lru_cache(maxsize=4096)
def _signed_rank_p(values: tuple[float, ...]) -> float:
    """Return p of values without zeros; a study asks for the same after each run.

    Of few values with ties scipy tries all signs in a Python loop, half a second for 12; here they are one product.
    """
    from scipy import stats  # late: no other part of scipy takes so long to load

    twice_ranks = (2 * stats.rankdata(np.abs(values))).astype(int)  # a tie's mean rank may end in a half
    if len(values) > MOST_SIGNS or len(set(twice_ranks)) == len(values):
        return float(stats.wilcoxon(values).pvalue)
    signs_2VV = np.arange(2 ** len(values))[:, None] >> np.arange(len(values)) & 1
    sums, found = signs_2VV @ twice_ranks, twice_ranks[np.array(values) > 0].sum()
    return float(min(1, 2 * min((sums <= found).mean(), (sums >= found).mean())))


def rank_biserial(differences_G: Floats) -> float:
    """Return the matched-pairs rank-biserial correlation, the effect size of the signed-rank test.

    Returns:
        ``(W+ - W-) / (W+ + W-)`` in [-1, 1]: 1 where every difference is positive, 0 where all are zero, NaN for none.
    Source: Kerby, "The simple difference formula", Comprehensive Psychology 3, 2014.
    """
    rounded = np.round(differences_G, DECIMALS)
    if not rounded.size:
        return math.nan
    rounded = rounded[rounded != 0]
    if not rounded.size:
        return 0.0
    ranks = mean_ranks(np.abs(rounded))
    return float((ranks * np.sign(rounded)).sum() / ranks.sum())


def mean_ranks(values_N: Floats) -> Floats:
    """Return the rank of each value from 1; equal values share the mean of their ranks."""
    _, place_N, counts = np.unique(values_N, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[place_N])


@dataclass(frozen=True)
class Swaps:
    """Patients whose results two runs exchange in a permutation test.

    Attributes:
        swapped_BG: one row for each way to exchange.
        exact: these are all ways that there are.
    """

    swapped_BG: NDArray[np.bool_]
    exact: bool


def draw_swaps(num_patients: int, most: int, seed: int) -> Swaps:
    """Return all ways to exchange the results of patients, or ``most`` random ones where there are more."""
    if 2**num_patients <= most:
        ways_B1 = np.arange(2**num_patients)[:, None]
        return Swaps((ways_B1 >> np.arange(num_patients)) % 2 == 1, exact=True)
    return Swaps(np.random.default_rng(seed).random((most, num_patients)) < 0.5, exact=False)


def swap_p(differences_B: Floats, observed: float, exact: bool) -> float:
    """Return the two-sided p of a permutation test: the share of ways with a difference as large as the observed one.

    Args:
        differences_B: difference after each exchange.
        exact: the ways are all that there are; to a sample, the observed one is added.
    Returns:
        NaN where the difference is not defined.
    Source: Phipson and Smyth, "Permutation p-values should never be zero", Stat. Appl. Genet. Mol. Biol. 9, 2010.
    """
    if math.isnan(observed):
        return math.nan
    extreme = int((np.round(np.abs(differences_B), DECIMALS) >= np.round(abs(observed), DECIMALS)).sum())
    return extreme / len(differences_B) if exact else (extreme + 1) / (len(differences_B) + 1)


def mcnemar_p(only_first: int, only_second: int) -> float:
    """Return the two-sided exact p of McNemar's test: of the cases that one of two got right, half should be either's.

    Returns:
        1 where both are right in the same cases.
    Source: McNemar, "Note on the sampling error of the difference between correlated proportions", Psychometrika 12,
        1947; the exact binomial form.
    """
    different = only_first + only_second
    tail = sum(math.comb(different, count) for count in range(min(only_first, only_second) + 1))
    return float(min(1.0, 2 * tail / 2**different))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values corrected for the number of tests, in their order; NaN is no test and stays.

    Source: Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Statist. 6, 1979.
    """
    tested = sorted((p, i) for i, p in enumerate(p_values) if not math.isnan(p))
    corrected = list(p_values)
    largest = 0.0
    for rank, (p, i) in enumerate(tested):
        largest = max(largest, min(1.0, (len(tested) - rank) * p))
        corrected[i] = largest
    return corrected
