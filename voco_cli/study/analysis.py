"""Do pre-trained weights help where labels are few: scores by number of labels, and differences from the baseline.

Everything is paired: a run with weights and a run without them share the labelled cases, the seed and the cases that
they are measured on. What a score is, a `Metric` says.

Legend: S seeds, B bootstrap resamples. NaN is a value that is left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Literal

import numpy as np

from voco_cli.evaluate.classification import metrics as of_classifications
from voco_cli.evaluate.comparison import (
    Difference,
    Resampling,
    corrected,
    difference_from_json,
    difference_object,
    json_keys,
    paired_differences,
)
from voco_cli.evaluate.metric import DisplayText, Metric, Table
from voco_cli.evaluate.segmentation import metrics as of_segmentations
from voco_cli.evaluate.statistics import RESAMPLES, nan_mean

METRICS: dict[str, Metric[Any]] = {
    "segmentation": of_segmentations.METRICS["dice"],
    "classification": of_classifications.METRICS["auc"],
}
"""What studies are measured by, by the kind of the task."""
SIGNIFICANT = 0.05
Verdict = Literal["higher", "lower", "no difference shown", "one seed only"]
KEYS = json_keys(
    "arm=run labelled structure=part seeds seed_differences cases patients baseline_mean=first mean=value "
    "difference low high runs_low runs_high better worse p p_holm effect"
)
"""Keys of a difference in study.json."""


@dataclass(frozen=True)
class ScoredRun(Generic[Table]):
    """One fine-tuned network, measured.

    Attributes:
        arm: what it started from.
        labelled: cases that it was trained on.
        seed: of its subset of cases and of all else that is drawn.
        table: results; all runs have the same cases in the same order.
    """

    arm: str
    labelled: int
    seed: int
    table: Table


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
class LabelEfficiency:
    """What a study found.

    Attributes:
        baseline: the arm that the others are compared with.
        text: how tables speak of its metric.
        cases, patients: that every run was measured on.
        scores: by number of labelled cases, then arm.
        gains: differences of the scores, in the same order.
        by_structure: of each class or category with the most labelled cases that the arm and the baseline share.
    """

    baseline: str
    text: DisplayText
    cases: int
    patients: int
    scores: tuple[ArmScore, ...]
    gains: tuple[Difference, ...]
    by_structure: tuple[Difference, ...]

    @property
    def arms(self) -> list[str]:
        """Return the names of the arms, the baseline first."""
        return sorted(dict.fromkeys(one.arm for one in self.scores), key=lambda arm: arm != self.baseline)

    @property
    def sizes(self) -> list[int]:
        """Return the numbers of labelled cases, ascending."""
        return sorted({one.labelled for one in self.scores})


def verdict(one: Difference) -> Verdict:
    """Return what follows: a difference is shown where the interval leaves out 0 and the corrected test rejects it."""
    if len(one.seeds) < 2:
        return "one seed only"
    outside = one.low > 0 or one.high < 0  # false for NaN
    if not outside or not one.p_holm < SIGNIFICANT:
        return "no difference shown"
    return "higher" if one.low > 0 else "lower"


def gain_object(one: Difference) -> dict[str, Any]:
    """Return a difference as study.json holds it."""
    return {**difference_object(one, KEYS), "seeds_better": one.seeds_better, "shown": verdict(one)}


def gain_from_object(held: Mapping[str, Any]) -> Difference:
    """Return a difference of study.json.

    Raises:
        KeyError, TypeError, ValueError: it makes no sense.
    """
    return difference_from_json(held, KEYS, metric="")


def label_efficiency(
    runs: Sequence[ScoredRun[Table]],
    metric: Metric[Table],
    *,
    baseline: str = "none",
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> LabelEfficiency:
    """Score and compare all runs; arms and sizes need not have the same seeds, nor all be there.

    Args:
        runs: in the order in which arms are to be named.
        metric: what runs are scored and compared by.
    """
    first = runs[0].table
    of_patients, of_seeds, of_swaps = (int(state) for state in np.random.SeedSequence(seed).generate_state(3))
    resampling = Resampling(first.patients, resamples, of_patients, of_swaps, of_seeds)
    groups = _grouped(runs)
    of_baseline = {labelled: of_seed for arm, labelled, of_seed in groups if arm == baseline}
    compared: dict[tuple[str, int], list[Difference]] = {}
    for arm, labelled, of_seed in groups:
        before = of_baseline.get(labelled, {})
        shared = sorted(before.keys() & of_seed.keys())
        if arm != baseline and shared:
            pairs = {one: (before[one], of_seed[one]) for one in shared}
            compared[arm, labelled] = [
                replace(one, labelled=labelled) for one in paired_differences(arm, metric, pairs, resampling)
            ]
    largest = {arm: found for (arm, _), found in sorted(compared.items(), key=lambda item: item[0][1])}
    return LabelEfficiency(
        baseline=baseline,
        text=metric.text(first),
        cases=len(first.cases),
        patients=resampling.num_patients,
        scores=tuple(_score(arm, labelled, of_seed, metric, resampling) for arm, labelled, of_seed in groups),
        gains=tuple(corrected([one for found in compared.values() for one in found if one.part is None])),
        by_structure=tuple(corrected([one for found in largest.values() for one in found if one.part is not None])),
    )


def _grouped(runs: Sequence[ScoredRun[Table]]) -> list[tuple[str, int, dict[int, Table]]]:
    """Return arm, number of labelled cases and the table of each seed; by number, then in the order of the arms."""
    groups: dict[tuple[int, str], dict[int, Table]] = {}
    arms = list(dict.fromkeys(run.arm for run in runs))
    for run in runs:
        groups.setdefault((run.labelled, run.arm), {})[run.seed] = run.table
    ordered = sorted(groups, key=lambda key: (key[0], arms.index(key[1])))
    return [(arm, labelled, dict(sorted(groups[labelled, arm].items()))) for labelled, arm in ordered]


def _score(
    arm: str, labelled: int, of_seed: dict[int, Table], metric: Metric[Table], resampling: Resampling
) -> ArmScore:
    tables = list(of_seed.values())
    whole = metric.parts(tables[0]).index(None)
    means_S = np.array([metric.score(table) for table in tables])
    means_BS = np.stack([metric.scores(table, resampling.weights_BN)[:, whole] for table in tables], axis=1)
    values_SN = np.stack([metric.case_values(table, table)[0][:, whole] for table in tables])
    there = means_S[~np.isnan(means_S)]
    low, high = resampling.intervals(means_BS, values_SN)[0]
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
