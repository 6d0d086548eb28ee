"""What is due, against a loop that counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from voco_cli.config.schema import Train
from voco_cli.resources.plan import Due, due, resumed_step


@pytest.mark.parametrize("resumed", [0, 3, 4, 5, 12, 13])
@pytest.mark.parametrize(("validate", "checkpoint"), [(4, 4), (4, 6), (5, 3), (100, 100)])
def test_due_counts_as_the_loop_does(validate: int, checkpoint: int, resumed: int) -> None:
    train = Train(steps=13, validate_every=validate, checkpoint_every=checkpoint)
    steps = range(resumed + 1, 14)
    validated = {step for step in steps if step == 13 or step % validate == 0}
    written = {step for step in steps if step == 13 or step % checkpoint == 0}
    assert due(train, resumed) == Due(len(steps), len(validated), len(written), len(written | validated))


def test_the_last_checkpoint_of_a_run_folder(tmp_path: Path) -> None:
    assert resumed_step(tmp_path / "none") == 0
    for name in ("step-000100", "step-000020", ".unfinished-step-000300", "step-odd"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    assert resumed_step(tmp_path) == 100
