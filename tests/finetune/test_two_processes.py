from __future__ import annotations

from pathlib import Path

import pytest

from tests.finetune.tiny_task import make_data, tiny_finetune
from tests.training.made_job import numbers, state
from tests.training.processes import run_together

STEPS = ("train.steps=3", "train.validate_every=3", "train.checkpoint_every=3", "train.warmup_start=0.5")


def test_two_processes_share_steps_and_validation_and_measure_once(tmp_path: Path) -> None:
    data, pair = make_data(tmp_path / "data"), tmp_path / "pair"
    alone = tiny_finetune(data, tmp_path / "alone", "train.batch_size=2", *STEPS)

    def one_of_two(process: int) -> None:
        result = tiny_finetune(data, pair, "train.batch_size=1", *STEPS)
        assert result.is_main_process == (process == 0)
        assert result.how_chosen == alone.how_chosen

    run_together(one_of_two)
    assert state(pair)["status"] == "done"
    assert [path.name for path in (pair / "checkpoints").iterdir()] == ["step-000003"]
    for ours, theirs in zip(numbers(pair), numbers(tmp_path / "alone"), strict=True):
        assert (ours["step"], ours["split"]) == (theirs["step"], theirs["split"])
        for name in set(ours) & {"loss", "grad_norm", "dice"}:
            assert ours[name] == pytest.approx(theirs[name], rel=2e-3, abs=1e-4)
    assert sorted(path.name for path in (pair / "predictions" / "validation").glob("*.nii.gz")) == [
        "img0035.nii.gz",
        "img0036.nii.gz",
    ]
