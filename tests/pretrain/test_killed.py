"""A pre-training that is killed at any moment up to its first checkpoint goes on by the same command."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.killed import left_by_kills
from tests.pretrain.tiny_run import tiny_run, write_data
from tests.training.made_job import numbers, state, weights

ONE_STEP = ("train.steps=1", "train.batch_size=1")


def test_a_kill_before_the_first_checkpoint_never_blocks_the_folder(tmp_path: Path) -> None:
    data, run = write_data(tmp_path / "data", 2, 1), tmp_path / "run"
    left = left_by_kills(run, tmp_path / "left", lambda: tiny_run(data, run, *ONE_STEP))
    names = [{path.name for path in one.iterdir()} for one in left]
    first = next(found for found in names if {name for name in found if not name.startswith(".")})
    assert first - {".lock"} == {"state.json"}
    early = [one for one, found in zip(left, names, strict=True) if "metrics.jsonl" in found]
    assert state(early[0])["status"] == "preparing"
    for one in left:
        again = shutil.copytree(one, tmp_path / "again")
        tiny_run(data, again, *ONE_STEP)
        assert weights(again, 1) == weights(run, 1), one.name
        assert numbers(again) == numbers(run)
        assert state(again)["status"] == "done"
        assert not list(again.rglob(".unfinished-*"))
        shutil.rmtree(again)
    other = shutil.copytree(left[len(left) // 2], tmp_path / "other")
    assert state(other)["status"] == "preparing"
    tiny_run(data, other, *ONE_STEP, "seed=1")  # nothing was trained, so nothing is lost with other settings
