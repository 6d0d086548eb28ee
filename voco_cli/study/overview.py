"""Several studies with the same arms, side by side: mean ranks over tasks, and how often a difference is shown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import friedmanchisquare, rankdata

from voco_cli.study.analysis import LabelEfficiency, verdict


@dataclass(frozen=True)
class ArmStanding:
    """How an arm stands over all tasks.

    Attributes:
        rank: mean over tasks and numbers of labelled cases of its rank by score; 1 is the best, ties share.
        blocks: how many of these there are.
        higher, lower: how often its difference from the baseline is shown.
    """

    arm: str
    rank: float
    blocks: int
    higher: int
    lower: int


@dataclass(frozen=True)
class Overview:
    """What several studies say together.

    Attributes:
        studies: what each task found.
        standings: of the arms that all tasks have, the baseline first.
        p: of Friedman's test that the arms' ranks are alike; NaN for fewer than three arms or blocks.
    """

    studies: Mapping[str, LabelEfficiency]
    standings: tuple[ArmStanding, ...]
    p: float


def overview(studies: Mapping[str, LabelEfficiency]) -> Overview:
    """Rank the arms that all studies have, in each task and for each number of labelled cases.

    Friedman's test (Demsar, "Statistical comparisons of classifiers over multiple data sets", JMLR 2006) takes each
    task and number as a block. Arms of one task share its cases, so the blocks of a task are not independent: the test
    is a remark beside the paired tests of each study, and no more.

    Args:
        studies: by task, at least one.
    """
    arms = [arm for arm in next(iter(studies.values())).arms if all(arm in one.arms for one in studies.values())]
    scores_BA = _blocks(studies, arms)
    ranks_BA = rankdata(-scores_BA, axis=1) if len(scores_BA) else np.empty((0, len(arms)))
    standings = []
    for number, arm in enumerate(arms):
        shown = [verdict(one) for study in studies.values() for one in study.gains if one.run == arm]
        rank = float(ranks_BA[:, number].mean()) if len(ranks_BA) else math.nan
        standings.append(ArmStanding(arm, rank, len(ranks_BA), shown.count("higher"), shown.count("lower")))
    p = math.nan
    if min(scores_BA.shape) >= 3:
        p = float(friedmanchisquare(*scores_BA.T).pvalue)
    return Overview(dict(studies), tuple(standings), p)


def _blocks(
    studies: Mapping[str, LabelEfficiency], arms: Sequence[str]
) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Return the mean score of each arm for each task and number of cases where all arms have one."""
    blocks = []
    for study in studies.values():
        for size in study.sizes:
            of_arm = {one.arm: one.mean for one in study.scores if one.labelled == size}
            block = [of_arm.get(arm, math.nan) for arm in arms]
            if not any(map(math.isnan, block)):
                blocks.append(block)
    return np.array(blocks, dtype=np.float64).reshape(-1, len(arms))
