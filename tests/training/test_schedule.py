from __future__ import annotations

import math
from pathlib import Path

import pytest

from tests.training.made_job import train_settings
from voco_cli.config.schema import Train
from voco_cli.training.checkpoint import resumed_step
from voco_cli.training.trainer import RemainingWork, learning_rate, rate_multiplier, remaining_work


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


@pytest.mark.parametrize("resumed", [0, 3, 4, 5, 12, 13])
@pytest.mark.parametrize(("validate", "checkpoint"), [(4, 4), (4, 6), (5, 3), (100, 100)])
def test_what_remains_is_counted_as_the_trainer_does(validate: int, checkpoint: int, resumed: int) -> None:
    train = Train(steps=13, validate_every=validate, checkpoint_every=checkpoint)
    steps = range(resumed + 1, 14)
    validated = {step for step in steps if step == 13 or step % validate == 0}
    written = {step for step in steps if step == 13 or step % checkpoint == 0}
    expected = RemainingWork(len(steps), len(validated), len(written), len(written | validated))
    assert remaining_work(train, resumed) == expected


def test_the_last_checkpoint_of_a_run_folder(tmp_path: Path) -> None:
    assert resumed_step(tmp_path / "none") == 0
    for name in ("step-000100", "step-000020", ".unfinished-step-000300", "step-odd"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    assert resumed_step(tmp_path) == 100
