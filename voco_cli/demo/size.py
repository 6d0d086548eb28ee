"""How much a demo does: the largest of a few sizes that this machine finishes in the time that there is."""

from __future__ import annotations

import math
from dataclasses import dataclass

from voco_cli.errors import UsageError

SHARE = 0.75
"""Share of the minutes that is planned for; the rest is for a machine that has other things to do."""
ARMS = 2
"""Starting weights of the study: none, and the pre-trained encoder."""
STARTS = 7
"""Times that a command starts and loads the tensor library, the measurement of the speed among them."""
RUN_STARTS = 1.0
"""What a run of the study takes beside its steps (cache, prediction, distances, tables), in starts of a command."""
PRETRAINING_STARTS = 2.0
"""The same of pre-training: cache, checks on held-out scans, pictures."""
SCANS_S = 15.0
"""Generating and indexing the scans, the pictures, the report."""


@dataclass(frozen=True)
class Size:
    """One choice.

    Attributes:
        unlabelled: scans that are indexed and pre-trained on, those held out among them.
        pretraining_steps: optimizer steps of pre-training.
        study_steps: optimizer steps of each run of the study.
        seeds: seeds of the study; each is a run from scratch and one from the encoder.
    """

    unlabelled: int
    pretraining_steps: int
    study_steps: int
    seeds: int

    @property
    def words(self) -> str:
        """For people."""
        seeds = "1 seed" if self.seeds == 1 else f"{self.seeds} seeds"
        return (
            f"{self.unlabelled} unlabelled scans, {self.pretraining_steps} steps of pre-training, and a study of "
            f"{seeds} with {self.study_steps} steps a run"
        )


SIZES = (
    Size(unlabelled=40, pretraining_steps=100, study_steps=160, seeds=1),
    Size(unlabelled=40, pretraining_steps=120, study_steps=240, seeds=1),
    Size(unlabelled=48, pretraining_steps=120, study_steps=240, seeds=2),
    Size(unlabelled=48, pretraining_steps=160, study_steps=240, seeds=3),
    Size(unlabelled=48, pretraining_steps=200, study_steps=300, seeds=3),
    Size(unlabelled=48, pretraining_steps=240, study_steps=400, seeds=3),
    Size(unlabelled=64, pretraining_steps=320, study_steps=400, seeds=4),
    Size(unlabelled=64, pretraining_steps=320, study_steps=400, seeds=6),
)
"""From the least that still learns something to what a demo has no use for more of."""


@dataclass(frozen=True)
class Speed:
    """What was measured on this machine, seconds.

    Attributes:
        pretraining_step_s, study_step_s: one optimizer step of each.
        start_s: from the call of a command to its first work.
    """

    pretraining_step_s: float
    study_step_s: float
    start_s: float


def expected_s(size: Size, speed: Speed) -> float:
    """Seconds that a demo of this size takes."""
    runs = ARMS * size.seeds
    pretraining_s = size.pretraining_steps * speed.pretraining_step_s
    study_s = runs * size.study_steps * speed.study_step_s
    starts = STARTS + PRETRAINING_STARTS + runs * RUN_STARTS
    return SCANS_S + starts * speed.start_s + pretraining_s + study_s


def choose_size(minutes: float, speed: Speed) -> Size:
    """The largest size that fits into ``SHARE`` of the minutes; the same speed chooses the same size.

    Raises:
        UsageError: not even the smallest fits; the hint has the least number of minutes.
    """
    fitting = [size for size in SIZES if expected_s(size, speed) <= SHARE * 60 * minutes]
    if not fitting:
        least = math.ceil(expected_s(SIZES[0], speed) / (SHARE * 60))
        raise UsageError(
            f"--minutes {minutes:g} is too little for the smallest demo on this machine.", f"give --minutes {least}"
        )
    return fitting[-1]
