"""A fine-tuning that is killed at any moment goes on by the same command."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.finetune.tiny_task import make_data, tiny_finetune
from tests.killed import left_by_kills
from tests.training.made_job import state

ONE_STEP = ("train.steps=1", "train.validate_every=1", "train.checkpoint_every=1")


def test_a_kill_at_any_write_never_blocks_the_folder(tmp_path: Path) -> None:
    data, run = make_data(tmp_path / "data"), tmp_path / "run"
    left = left_by_kills(run, tmp_path / "left", lambda: tiny_finetune(data, run, *ONE_STEP))
    first = next(one for one in left if any(not path.name.startswith(".") for path in one.iterdir()))
    assert {path.name for path in first.iterdir()} - {".lock"} == {"state.json"}
    expected = (run / "evaluation" / "validation" / "cases.csv").read_bytes()
    weights = (run / "weights" / "model.safetensors").read_bytes()
    for one in left:
        again = shutil.copytree(one, tmp_path / "again")
        tiny_finetune(data, again, *ONE_STEP)
        assert (again / "weights" / "model.safetensors").read_bytes() == weights, one.name
        assert (again / "evaluation" / "validation" / "cases.csv").read_bytes() == expected
        assert state(again)["status"] == "done"
        shutil.rmtree(again)
