from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy.stats import friedmanchisquare

from tests.evaluate.made_results import made_table
from voco_cli.study.analysis import METRICS, LabelEfficiency, ScoredRun, label_efficiency
from voco_cli.study.overview import overview

BESIDE = np.linspace(-0.07, 0.07, 12)[:, None] + np.array([[-0.05, 0.05]])


def study(scores: dict[str, Sequence[float]], seeds: int = 2) -> LabelEfficiency:
    """A study whose arms have these mean scores with 4, 8, ... labelled cases, the same for all seeds."""
    runs = [
        ScoredRun(arm, 4 * (place + 1), seed, made_table(score + BESIDE))
        for arm, of_sizes in scores.items()
        for place, score in enumerate(of_sizes)
        for seed in range(seeds)
    ]
    return label_efficiency(runs, METRICS["segmentation"], resamples=200)


def test_mean_ranks_by_hand() -> None:
    first = study({"none": [0.5, 0.6], "voco": [0.6, 0.6], "mae": [0.7, 0.5]})
    second = study({"none": [0.5], "voco": [0.4], "mae": [0.6], "more": [0.7]})
    found = overview({"a": first, "b": second})
    # ranks of none, voco, mae: (3, 2, 1), (1.5, 1.5, 3), (2, 3, 1)
    assert [(one.arm, one.blocks) for one in found.standings] == [("none", 3), ("voco", 3), ("mae", 3)]
    assert [one.rank for one in found.standings] == pytest.approx([6.5 / 3, 6.5 / 3, 5 / 3])
    blocks = np.array([[0.5, 0.6, 0.7], [0.6, 0.6, 0.5], [0.5, 0.4, 0.6]])
    assert found.p == pytest.approx(friedmanchisquare(*blocks.T).pvalue)


def test_differences_that_are_shown_are_counted() -> None:
    found = overview({"a": study({"none": [0.5, 0.5], "voco": [0.6, 0.4]}), "b": study({"none": [0.5], "voco": [0.5]})})
    assert [(one.arm, one.higher, one.lower) for one in found.standings] == [("none", 0, 0), ("voco", 1, 1)]
    assert math.isnan(found.p)  # two arms


def test_a_number_that_an_arm_lacks_is_no_block() -> None:
    found = overview({"a": study({"none": [0.5, 0.6], "voco": [0.6]})})
    assert [(one.rank, one.blocks) for one in found.standings] == [(2, 1), (1, 1)]
