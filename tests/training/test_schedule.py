from __future__ import annotations

import math

import pytest

from tests.training.made_job import train_settings
from voco_cli.training.trainer import learning_rate, rate_multiplier


def test_values_worked_out_by_hand() -> None:
    # 4 steps of warm-up from 0.2: 0.2, 0.4, 0.6, 0.8; then cos over 8 steps: half-way 1/2, quarter (1 + sqrt(1/2)) / 2.
    rising = [rate_multiplier(step, 12, 4, 0.2) for step in range(4)]
    assert rising == pytest.approx([0.2, 0.4, 0.6, 0.8], abs=1e-15)
    falling = [rate_multiplier(step, 12, 4, 0.2) for step in (4, 6, 8, 12)]
    assert falling == pytest.approx([1.0, (1 + math.sqrt(0.5)) / 2, 0.5, 0.0], abs=1e-15)


def test_without_warmup_the_first_step_has_the_highest_rate() -> None:
    assert rate_multiplier(0, 10, 0) == 1.0
    assert rate_multiplier(10, 10, 10) == 1.0  # all warm-up: no cosine to divide by zero in


def test_settings_scale_and_round() -> None:
    # 5 % of 50 steps are 2.5, rounded to the even 2.
    train = train_settings(steps=50, warmup_share=0.05, lr=0.3)
    assert [learning_rate(step, train) for step in (0, 1, 2)] == pytest.approx([0.0, 0.15, 0.3], abs=1e-15)
