"""How often a run validates and writes checkpoints, as the loop does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from voco_cli.settings.sections import Train


@dataclass(frozen=True)
class Due:
    """What is still to come of a run.

    Attributes:
        steps: optimizer steps.
        validations: looks at held-out cases, that at the beginning not among them.
        checkpoints: that are written whatever the validations say.
        most_checkpoints: if every validation is the best so far.
    """

    steps: int
    validations: int
    checkpoints: int
    most_checkpoints: int


def due(train: Train, resumed_step: int = 0) -> Due:
    """Count what comes after a step."""
    last = train.steps
    if resumed_step >= last:
        return Due(0, 0, 0, 0)

    def multiples(every: int) -> int:
        return last // every - resumed_step // every + (last % every > 0)

    validations, checkpoints = multiples(train.validate_every), multiples(train.checkpoint_every)
    first = (resumed_step // train.validate_every + 1) * train.validate_every
    only_best = sum(1 for step in range(first, last, train.validate_every) if step % train.checkpoint_every)
    return Due(last - resumed_step, validations, checkpoints, checkpoints + only_best)


def resumed_step(run: Path) -> int:
    """The step of the last checkpoint in a run folder; 0 where there is none."""
    steps = [path.name.removeprefix("step-") for path in run.glob("checkpoints/step-*")]
    return max((int(step) for step in steps if step.isdigit()), default=0)
