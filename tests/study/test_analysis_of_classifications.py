"""Studies by AUC: figures by hand, and bootstrap and exchanges of arms written out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from scipy import stats

from tests.evaluate.made_scores import made_scores, random_scores
from voco_cli.evaluate.classification.metrics import METRICS, ScoredCases, placements
from voco_cli.evaluate.statistics import resample_patients
from voco_cli.study.analysis import LabelEfficiency, ScoredRun, label_efficiency, verdict


def of_second(*probabilities: float) -> ScoredCases:
    """Two cases of the first category, then two of the second, a patient each."""
    return made_scores([0, 0, 1, 1], [[1 - p, p] for p in probabilities])


def study(runs: Sequence[tuple[str, int, ScoredCases]], resamples: int = 200, seed: int = 0) -> LabelEfficiency:
    scored = [ScoredRun(arm, 5, s, table) for arm, s, table in runs]
    return label_efficiency(scored, METRICS["auc"], resamples=resamples, seed=seed)


def pairs_auc(scores: np.ndarray, positive: np.ndarray) -> float:
    won = [1.0 if a > b else 0.5 if a == b else 0.0 for a, b in product(scores[positive], scores[~positive])]
    return sum(won) / len(won) if won else math.nan


def test_scores_and_differences_by_hand() -> None:
    found = study(
        [
            ("none", 0, of_second(0.2, 0.6, 0.5, 0.9)),  # .5 > .2, .9 > .2 .6: 3 of 4
            ("none", 1, of_second(0.6, 0.6, 0.6, 0.4)),  # two ties and two lost: 1 of 4
            ("voco", 0, of_second(0.1, 0.3, 0.5, 0.9)),  # 4 of 4
            ("voco", 1, of_second(0.1, 0.6, 0.5, 0.6)),  # .5 > .1, .6 > .1, a tie: 2.5 of 4
        ]
    )
    none, voco = found.scores
    assert (none.seed_means, none.mean) == (pytest.approx((0.75, 0.25)), pytest.approx(0.5))
    assert (voco.seed_means, voco.mean) == (pytest.approx((1, 0.625)), pytest.approx(0.8125))
    (gain,) = found.gains
    assert gain.seed_differences == pytest.approx((0.25, 0.375))
    assert (gain.difference, gain.first, gain.value) == pytest.approx((0.3125, 0.5, 0.8125))
    assert (gain.cases, gain.patients, gain.seeds_better) == (4, 4, 2)
    # Placements of the four cases, none: 1 .5 .5 1 and .25 .25 .5 0; voco: 1 1 1 1 and 1 .25 .5 .75.
    # Differences over seeds: .375 .25 .25 .375
    assert (gain.better, gain.worse, gain.effect) == (4, 0, 1)
    (alone,) = found.by_structure
    assert (alone.part, alone.difference) == ("pneumonia", pytest.approx(gain.difference))
    assert (found.text.metric, found.text.score) == ("AUC", "AUC of pneumonia")


def test_placements_by_hand_and_their_means_are_the_auc() -> None:
    scored = of_second(0.2, 0.6, 0.5, 0.9)
    np.testing.assert_allclose(placements(scored.truth_N, scored.probabilities_NK)[:, 1], [1, 0.5, 0.5, 1])
    three = random_scores(1)
    values = placements(three.truth_N, three.probabilities_NK)
    for k in range(3):
        positive = three.truth_N == k
        area = pairs_auc(three.probabilities_NK[:, k], positive)
        assert values[positive, k].mean() == pytest.approx(area)
        assert values[~positive, k].mean() == pytest.approx(area)


def test_a_category_without_cases_is_no_part() -> None:
    truth = [0, 1, 0, 1]
    rows = [[0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.5, 0.4, 0.1], [0.3, 0.6, 0.1]]
    found = study([("none", 0, made_scores(truth, rows)), ("voco", 0, made_scores(truth, rows))])
    assert [one.part for one in found.by_structure] == ["normal", "pneumonia"]
    assert found.scores[0].mean == 1


def mean_auc(scored: ScoredCases, rows: Sequence[int]) -> float:
    truth, probabilities = scored.truth_N[rows], scored.probabilities_NK[rows]
    return float(np.mean([pairs_auc(probabilities[:, k], truth == k) for k in range(3)]))


def runs(seed: int, num_patients: int, num_cases: int = 15) -> dict[tuple[str, int], ScoredCases]:
    """Two arms of two seeds on the same cases of three categories."""
    like = random_scores(seed, num_cases=num_cases, num_patients=num_patients)
    rng = np.random.default_rng(seed)
    tables = {}
    for arm, gain in (("none", 0.1), ("voco", 0.6)):
        for s in (0, 1):
            rows = np.round(rng.random((num_cases, 3)) + gain * np.eye(3)[like.truth_N], 1) + 0.1
            tables[arm, s] = replace(like, probabilities_NK=rows / rows.sum(axis=1, keepdims=True))
    return tables


def test_intervals_resample_patients_and_seeds() -> None:
    tables = runs(3, num_patients=8)
    patients = tables["none", 0].patients
    names = sorted(set(patients))
    found = study([(arm, s, table) for (arm, s), table in tables.items()], resamples=300, seed=7)
    of_patients, of_seeds = (int(state) for state in np.random.SeedSequence(7).generate_state(2))
    draws_BG, draws_BS = resample_patients(len(names), 300, of_patients), resample_patients(2, 300, of_seeds)
    change_BS = np.empty((300, 2))
    for b, draw_G in enumerate(draws_BG.astype(int)):
        rows = [n for n, who in enumerate(patients) for _ in range(draw_G[names.index(who)])]
        change_BS[b] = [mean_auc(tables["voco", s], rows) - mean_auc(tables["none", s], rows) for s in (0, 1)]
    (gain,) = found.gains
    both = (change_BS * draws_BS).sum(axis=1) / 2
    assert np.isnan(both).any()  # resamples that lack a category are left out
    assert (gain.low, gain.high) == pytest.approx(tuple(np.nanquantile(both, (0.025, 0.975))))
    assert (gain.runs_low, gain.runs_high) == pytest.approx(
        tuple(np.nanquantile(change_BS.mean(axis=1), (0.025, 0.975)))
    )


def test_arms_exchange_whole_patients_in_all_seeds() -> None:
    tables = runs(4, num_patients=6)
    patients = tables["none", 0].patients
    names = sorted(set(patients))
    ranked = {
        key: replace(one, probabilities_NK=np.stack([stats.rankdata(column) for column in one.probabilities_NK.T], 1))
        for key, one in tables.items()
    }
    differences = []
    for way in product((False, True), repeat=len(names)):
        swapped = np.array([way[names.index(who)] for who in patients])[:, None]
        of_seeds = []
        for s in (0, 1):
            none, voco = (ranked[arm, s].probabilities_NK for arm in ("none", "voco"))
            left = replace(ranked["none", s], probabilities_NK=np.where(swapped, voco, none))
            right = replace(ranked["none", s], probabilities_NK=np.where(swapped, none, voco))
            every = range(len(patients))
            of_seeds.append(mean_auc(right, every) - mean_auc(left, every))
        differences.append(np.mean(of_seeds))
    p = np.mean([abs(one) >= abs(differences[0]) - 1e-9 for one in differences])
    (gain,) = study([(arm, s, table) for (arm, s), table in tables.items()], resamples=2 ** len(names)).gains
    assert gain.p == pytest.approx(p)


def test_an_auc_that_is_not_defined_is_left_out_of_everything() -> None:
    one = made_scores([1, 1], [[0.4, 0.6], [0.7, 0.3]])
    found = study([("none", 0, one), ("voco", 0, one)])
    (gain,) = found.gains
    assert math.isnan(found.scores[0].mean)
    assert math.isnan(gain.difference)
    assert math.isnan(gain.p)
    assert (gain.cases, verdict(gain)) == (0, "one seed only")
