"""How jobs stand, from the files that they write."""

from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from voco_cli.cluster.record import Standing, Submitted, next_local, read_submitted, remember, standing
from voco_cli.errors import DataError, ResourceError

SENT = "2026-03-04T05:06:07+00:00"


def submitted(job: str = "7", **given: Any) -> Submitted:
    plain = {"command": ("pretrain", "d.json"), "cwd": "/", "run": None, "processes": 1, "shards": 0, "sent": SENT}
    return Submitted(job, **{**plain, **given})


def write_state(path: Path, word: str, changed_s: float) -> None:
    path.write_text(f"{word}\n")
    os.utime(path, (changed_s, changed_s))


def write_run(run: Path, status: str, changed_s: float, records: list[dict[str, Any]], steps: int = 100) -> None:
    run.mkdir(parents=True)
    (run / "state.json").write_text(json.dumps({"status": status, "step": 20, "reason": None, "time": SENT}))
    train = {"steps": steps, "batch_size": 3, "accumulate": 2}
    (run / "settings.yaml").write_text(json.dumps({"settings": {"train": train}, "sources": {}, "versions": {}}))
    (run / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    for name in ("state.json", "metrics.jsonl"):
        os.utime(run / name, (changed_s, changed_s))


def test_what_was_submitted_is_read_as_it_was_written(tmp_path: Path) -> None:
    sent = [
        submitted("7", run="runs/a b", processes=4),
        submitted("8", command=("merge", "ö ut")),
        submitted("local-1"),
    ]
    for one in sent:
        remember(one, tmp_path)
    assert read_submitted(tmp_path) == sent


@pytest.mark.parametrize(
    "line", ["{", "[]", '{"job": "1"}', '{"job": "../x", "command": [], "cwd": "", "run": null, "processes": 1}']
)
def test_a_damaged_line_is_named(line: str, tmp_path: Path) -> None:
    remember(submitted(), tmp_path)
    with (tmp_path / "submitted.jsonl").open("a") as lines:
        lines.write(f"{line}\n")
    with pytest.raises(DataError) as refused:
        read_submitted(tmp_path)
    assert refused.value.message == f"{tmp_path}/submitted.jsonl:2 is no job that voco submit has written."


def test_where_nothing_was_submitted(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no submitted\.jsonl: nothing was submitted with it\."):
        read_submitted(tmp_path)
    with pytest.raises(ResourceError, match=r"Job 7 was sent, but cannot be remembered in .*: No such file"):
        remember(submitted(), tmp_path / "gone")


@pytest.mark.parametrize(
    ("word", "state"),
    [
        (None, "waiting"),
        ("running", "running"),
        ("0", "done"),
        ("75", "interrupted, in the queue again"),
        ("3", "failed (exit code 3)"),
    ],
)
def test_a_job_without_a_run_folder_stands_as_its_state_says(word: str | None, state: str, tmp_path: Path) -> None:
    if word is not None:
        write_state(tmp_path / "7.state", word, 1000)
    assert standing(submitted(), tmp_path) == Standing(state, seen_s=None if word is None else 1000)


def test_the_parts_of_an_array_are_counted(tmp_path: Path) -> None:
    for part, word in enumerate(("0", "running", "0", "3"), 1):
        write_state(tmp_path / f"7_{part}.state", word, 1000 + part)
    found = standing(submitted(shards=5), tmp_path)
    assert found == Standing("of 5 parts 2 done, 1 failed (exit code 3), 1 running, 1 waiting", seen_s=1004)


def test_step_loss_and_remaining_time_come_from_the_run_folder(tmp_path: Path) -> None:
    """80 steps of 3 x 2 scans in each of 4 processes, at 48 scans a second: 40 s."""
    records = [
        {"step": 0, "split": "validation", "rank": 1.0},
        {"step": 10, "split": "train", "loss": 0.5, "cases_per_s": 12.0},
        {"step": 20, "split": "train", "loss": 0.25, "cases_per_s": 48.0},
        {"step": 20, "split": "validation", "rank": 1.0},
    ]
    write_run(tmp_path / "runs" / "a", "running", 2000, records)
    write_state(tmp_path / "7.state", "running", 1000)
    one = submitted(cwd=str(tmp_path), run="runs/a", processes=4)
    assert standing(one, tmp_path) == Standing("running", 20, 100, 0.25, timedelta(seconds=40), 2000)
    write_state(tmp_path / "7.state", "0", 3000)
    assert standing(one, tmp_path) == Standing("done", 20, 100, 0.25, None, 3000)


def test_what_a_run_says_of_an_earlier_start_is_not_told_of_this_one(tmp_path: Path) -> None:
    """Killed by its limit in the first start, and waiting for its first state in the second."""
    write_run(tmp_path / "run", "interrupted", 2000, [])
    write_state(tmp_path / "7.state", "running", 3000)
    one = submitted(cwd=str(tmp_path), run="run")
    assert standing(one, tmp_path).state == "running"
    write_state(tmp_path / "7.state", "running", 1000)
    assert standing(one, tmp_path).state == "interrupted"


def test_a_run_in_stages_stands_where_its_latest_stage_does(tmp_path: Path) -> None:
    write_run(tmp_path / "run" / "stages" / "1-voco", "done", 2000, [], steps=5)
    (second,) = ([{"step": 7, "split": "train", "loss": 0.125, "cases_per_s": 6.0}],)
    write_run(tmp_path / "run" / "stages" / "2-mae", "running", 3000, second, steps=9)
    write_state(tmp_path / "7.state", "running", 1000)
    found = standing(submitted(cwd=str(tmp_path), run="run"), tmp_path)
    assert found == Standing("running", 7, 9, 0.125, timedelta(seconds=2), 3000)


@pytest.mark.parametrize("text", ["{", "settings: 1\n", "settings: {train: {steps: many}}\n"])
def test_damaged_settings_leave_what_is_known(text: str, tmp_path: Path) -> None:
    write_run(tmp_path / "run", "running", 2000, [{"step": 7, "split": "train", "loss": 0.5}])
    (tmp_path / "run" / "settings.yaml").write_text(text)
    write_state(tmp_path / "7.state", "running", 1000)
    found = standing(submitted(cwd=str(tmp_path), run="run"), tmp_path)
    assert (found.state, found.step, found.steps, found.left) == ("running", 7, None, None)


def test_what_runs_without_slurm_is_numbered(tmp_path: Path) -> None:
    assert next_local(tmp_path) == "local-1"
    for name in ("local-1_1", "local-1_2", "local-2"):
        write_state(tmp_path / f"{name}.state", "0", 1)
    assert next_local(tmp_path) == "local-3"
