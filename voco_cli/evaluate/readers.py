"""Readers who tell real lesions from painted ones: sensitivity and specificity with exact intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from scipy.special import betaincinv

from voco_cli.evaluate.statistics import LEVEL, Interval

REAL, PAINTED = "real", "painted"


@dataclass(frozen=True)
class Share:
    """A share with its exact interval; NaN where there is nothing to share."""

    part: int
    total: int

    @property
    def value(self) -> float:
        """Return the share."""
        return self.part / self.total if self.total else math.nan

    @property
    def interval(self) -> Interval:
        """Return the interval of Clopper and Pearson, "The use of confidence or fiducial limits", Biometrika 1934."""
        return exact_interval(self.part, self.total)


def exact_interval(part: int, total: int, level: float = LEVEL) -> Interval:
    """Return the Clopper-Pearson interval of a share; NaN where the total is 0."""
    if not total:
        return (math.nan, math.nan)
    tail = (1 - level) / 2
    low = float(betaincinv(part, total - part + 1, tail)) if part else 0.0
    high = float(betaincinv(part + 1, total - part, 1 - tail)) if part < total else 1.0
    return (low, high)


@dataclass(frozen=True)
class ReaderResult:
    """What one reader told apart; a painted lesion that is called painted is a hit.

    Attributes:
        sensitivity: painted lesions that were called painted.
        specificity: real lesions that were called real.
        accuracy: both.
        unanswered: crops without an answer, which count nowhere.
    """

    reader: str
    sensitivity: Share
    specificity: Share
    accuracy: Share
    unanswered: int


def measure_reader(reader: str, truth: Mapping[str, str], answers: Mapping[str, str]) -> ReaderResult:
    """Compare a reader's answers with what the crops are.

    Args:
        truth, answers: crop to ``real`` or ``painted``.
    """
    given = {crop: answer for crop, answer in answers.items() if answer}
    right = {kind: sum(truth[crop] == kind == answer for crop, answer in given.items()) for kind in (PAINTED, REAL)}
    total = {kind: sum(truth[crop] == kind for crop in given) for kind in (PAINTED, REAL)}
    return ReaderResult(
        reader,
        Share(right[PAINTED], total[PAINTED]),
        Share(right[REAL], total[REAL]),
        Share(sum(right.values()), len(given)),
        len(truth) - len(given),
    )
