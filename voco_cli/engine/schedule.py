"""The learning rate as a function of the step."""

from __future__ import annotations

import math

from voco_cli.settings.sections import Train


def rate_multiplier(step: int, total: int, warmup: int, start: float = 0.0) -> float:
    """Linear warm-up from ``start`` to 1, then a cosine to 0 at ``total``; both ends as the released schedule has them.

    Args:
        step: optimizer step that the rate is used for, from 0.
        total: steps of the whole run.
        warmup: steps of the warm-up; the rate is highest at this step.
        start: share of the highest rate at step 0.
    """
    if step < warmup:
        return start + (1.0 - start) * step / warmup
    return max(0.0, 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / max(1, total - warmup))))


def learning_rate(step: int, train: Train) -> float:
    """Learning rate of an optimizer step under the settings."""
    warmup = round(train.warmup_share * train.steps)
    return train.lr * rate_multiplier(step, train.steps, warmup, train.warmup_start)
