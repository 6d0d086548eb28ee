"""What each arm of a study cost: steps and seconds of its pre-trainings and of its fine-tuning runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from voco_cli.study.arms import LONGER
from voco_cli.study.record import StudyRecord, StudyRun


@dataclass(frozen=True)
class ArmCost:
    """Means over the finished runs of an arm.

    Attributes:
        transferred: what fine-tuning took over: nothing, the encoder, or encoder and decoder.
        pretraining_steps, pretraining_s: of one pre-training, all stages together; None where the study ran none.
        finetuning_steps, finetuning_s: of one run.
        verdicts: of its pre-trainings, by seed.
    """

    arm: str
    transferred: str
    pretraining_steps: float | None
    pretraining_s: float | None
    finetuning_steps: float | None
    finetuning_s: float | None
    verdicts: tuple[str, ...] = ()

    @property
    def total_s(self) -> float | None:
        """Return the seconds of training of one run with its pre-training; None where they are not known."""
        if self.finetuning_s is None:
            return None
        return self.finetuning_s + (self.pretraining_s or 0.0)


def arm_costs(record: StudyRecord) -> list[ArmCost]:
    """Return the cost of each arm with a finished run, in the order of the arms."""
    shared = int(record.settings["train.steps"])
    done = {arm: [run for run in record.in_order() if run.arm == arm and run.status == "done"] for arm in record.arms}
    return [_cost(record, arm, runs, shared) for arm, runs in done.items() if runs]


def _cost(record: StudyRecord, arm: str, runs: Sequence[StudyRun], shared: int) -> ArmCost:
    seeds = {run.seed for run in runs}
    own = [one for one in record.pretrainings.values() if one.arm == arm and one.seed in seeds]
    return ArmCost(
        arm=arm,
        transferred=", ".join(dict.fromkeys(run.transferred or "nothing" for run in runs)),
        pretraining_steps=_mean([sum(one.steps) for one in own]),
        pretraining_s=_mean([one.train_s for one in own]),
        finetuning_steps=_mean([run.steps if run.steps is not None else shared for run in runs]),
        finetuning_s=_mean([run.train_s for run in runs]),
        verdicts=tuple(one.verdict or "none held out" for one in sorted(own, key=lambda one: one.seed)),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


COST_HEADINGS = [
    "weights",
    "taken over",
    "pre-training: steps",
    "min",
    "learned",
    "fine-tuning: steps",
    "min",
    "min in all",
]


def cost_rows(costs: Sequence[ArmCost]) -> list[list[str]]:
    """Return a row for each arm, under `COST_HEADINGS`."""
    return [
        [
            one.arm,
            one.transferred,
            _number(one.pretraining_steps),
            _minutes(one.pretraining_s),
            _learned(one.verdicts),
            _number(one.finetuning_steps),
            _minutes(one.finetuning_s),
            _minutes(one.total_s),
        ]
        for one in costs
    ]


def cost_note(costs: Sequence[ArmCost]) -> str:
    """Return how the table of costs is to be read, one sentence."""
    note = (
        "Minutes are of computing in training steps, without validation, checkpoints and the cache (on a processor CPU "
        "time over threads); means over seeds."
    )
    if any(one.arm == LONGER for one in costs):
        note += (
            f" {LONGER} starts from scratch and takes as many more steps as the longest pre-training of its seed took."
        )
    return note


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}"


def _minutes(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds / 60:.1f}"


def _learned(verdicts: Sequence[str]) -> str:
    """Return in how many pre-trainings the figures say that something was learned."""
    return f"{sum(one == 'learned' for one in verdicts)} of {len(verdicts)}" if verdicts else ""
