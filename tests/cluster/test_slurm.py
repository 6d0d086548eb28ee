"""Jobs under a real SLURM on this machine: stopped, put back, gone on; arrays; refusals.

`make test-cluster` installs what is needed, and runs them.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from tests.cluster.local_slurm import local_slurm, missing
from tests.pretrain.tiny_run import TINY, write_data
from tests.tasks.made_balls import PRESET, write_balls
from tests.waiting import wait_until
from voco_cli.cluster.script import Job, send
from voco_cli.config.cluster_schema import ClusterSettings

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(missing()), reason=missing())]

STEPS = 60
SETTINGS = (
    *TINY,
    f"train.steps={STEPS}",
    "train.log_every=5",
    "train.checkpoint_every=30",
    "train.validate_every=60",
)
ON_CPU = ["--set", "gpus_per_node=0", "--set", "cpus_per_task=1", "--set", "time=30"]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with local_slurm(tmp_path_factory.mktemp("slurm")) as environment:
        yield environment


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("work")
    write_data(folder)
    return folder


def voco(*words: str, cwd: Path, environment: dict[str, str], code: int = 0) -> str:
    command = [sys.executable, "-m", "voco_cli", *words]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code == 0 else done.stderr


def pretraining(run: str) -> list[str]:
    settings = [word for one in SETTINGS for word in ("--set", one)]
    return ["pretrain", "data.json", "--recipe", "debug", "-o", run, *settings]


def jobs(folder: Path, environment: dict[str, str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(voco("jobs", "--json", cwd=folder, environment=environment))
    return found


def newest(folder: Path, environment: dict[str, str]) -> dict[str, Any]:
    return jobs(folder, environment)[-1]


def stop_and_go_on(run: str, folder: Path, slurm: dict[str, str], signal: str, *given: str) -> None:
    """Submit a pre-training, send a signal once it trains, and wait for its end in its second start."""
    voco("submit", *ON_CPU, *given, *pretraining(run), cwd=folder, environment=slurm)
    number = newest(folder, slurm)["job"]
    state, log = folder / "jobs" / f"{number}.state", folder / "jobs" / f"{number}_0_log.out"
    metrics = folder / run / "metrics.jsonl"
    wait_until(lambda: metrics.exists() and '"step": 5,' in metrics.read_text())
    subprocess.run(["scancel", f"--signal={signal}", number], env=slurm, check=True)
    wait_until(lambda: "a checkpoint was written" in log.read_text())
    wait_until(
        lambda: state.read_text().strip() == "0" or "\nerror: " in log.read_text().partition("resumed at step")[2]
    )
    told = log.read_text()
    assert f"Stopped by SIG{signal} after step" in told
    assert "resumed at step" in told
    standing = newest(folder, slurm)
    assert (standing["state"], standing["step"], standing["steps"]) == ("done", STEPS, STEPS)
    assert json.loads((folder / run / "state.json").read_text())["status"] == "done"


@pytest.fixture(scope="module")
def unbroken(folder: Path, slurm: dict[str, str]) -> Path:
    voco("submit", *ON_CPU, "--local", *pretraining("unbroken"), cwd=folder, environment=slurm)
    return folder / "unbroken"


@pytest.mark.parametrize("signal", ["TERM", "USR2"])
def test_a_job_that_is_stopped_goes_on_by_itself_and_ends_with_the_same_weights(
    signal: str, unbroken: Path, folder: Path, slurm: dict[str, str]
) -> None:
    stop_and_go_on(signal.lower(), folder, slurm, signal)
    ours, theirs = (run / "weights" / "encoder.safetensors" for run in (folder / signal.lower(), unbroken))
    assert ours.read_bytes() == theirs.read_bytes()


def test_two_ranks_that_are_stopped_go_on_and_end_with_the_weights_of_unbroken_ones(
    folder: Path, slurm: dict[str, str]
) -> None:
    two = ("--set", "tasks_per_node=2")
    voco("submit", *ON_CPU, *two, "--local", *pretraining("two_unbroken"), cwd=folder, environment=slurm)
    stop_and_go_on("two", folder, slurm, "TERM", *two)
    ours, theirs = (load_file(folder / run / "weights" / "encoder.safetensors") for run in ("two", "two_unbroken"))
    assert ours.keys() == theirs.keys()
    assert max(float(abs(ours[name] - theirs[name]).max()) for name in ours) <= 1e-6


STAND_IN = """
echo "part $SLURM_ARRAY_TASK_ID of $SLURM_JOB_ID: $@"
if [ "$2" = fail ]; then exit 3; fi
if [ "$2" = again ] && [ -z "$SLURM_RESTART_COUNT" ]; then exit 75; fi
"""
"""Stands for a container, and for commands that take shards."""


def test_an_array_and_what_waits_for_all_of_it(tmp_path: Path, slurm: dict[str, str]) -> None:
    (tmp_path / "stand in.sh").write_text(STAND_IN)
    container = shlex.join(["bash", str(tmp_path / "stand in.sh")])
    cluster = ClusterSettings(gpus_per_node=0, cpus_per_task=1, time="30", container=container)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in slurm.items():
            patch.setenv(name, value)
        array = send(Job(("again", "it's"), shards=3), cluster, tmp_path, tmp_path)
        after = send(Job(("merge",)), cluster, tmp_path, tmp_path, array)
        failing = send(Job(("fail",), shards=2), cluster, tmp_path, tmp_path)
        never = send(Job(("merge",)), cluster, tmp_path, tmp_path, failing)
    queue = ["squeue", "-h"]
    wait_until(lambda: not subprocess.run(queue, env=slurm, capture_output=True, text=True, check=False).stdout.strip())
    ended = [*(f"{array}_{part}" for part in (1, 2, 3)), after, f"{failing}_1", f"{failing}_2"]
    states = [tmp_path / f"{one}.state" for one in ended]
    assert [path.read_text().strip() for path in states] == ["0", "0", "0", "0", "3", "3"]
    assert all(states[3].stat().st_mtime >= path.stat().st_mtime for path in states[:3])
    lines = (tmp_path / f"{array}_2_0_log.out").read_text().splitlines()
    said = [line.partition(": ")[2] for line in lines if line.startswith("part 2 of")]
    assert said == ["voco again it's --shard 2/3"] * 2
    assert not (tmp_path / f"{never}.state").exists()


def test_an_index_in_parts_is_that_of_one_call(folder: Path, slurm: dict[str, str]) -> None:
    words = ["index", "imagesTr", "--modality", "CT"]
    voco("submit", *ON_CPU, "--shards", "3", *words, "-o", "parts.json", cwd=folder, environment=slurm)
    array, merge = jobs(folder, slurm)[-2:]
    assert (array["shards"], merge["command"]) == (3, ["merge", "parts.json"])
    wait_until(lambda: newest(folder, slurm)["state"] not in ("waiting", "running"))
    assert [job["state"] for job in jobs(folder, slurm)[-2:]] == ["of 3 parts 3 done", "done"]
    voco(*words, "-o", "whole.json", cwd=folder, environment=slurm)
    assert (folder / "parts.json").read_bytes() == (folder / "whole.json").read_bytes()


def test_a_study_in_parts_is_that_of_one_process(tmp_path: Path, slurm: dict[str, str]) -> None:
    write_balls(tmp_path / "data", background=60, step=70, noise=10)
    (tmp_path / "balls.yaml").write_text(PRESET)
    (tmp_path / "pretrain.yaml").write_text("model: {projector_hidden: [8], projector_out: 8}\n")
    words = ["study", "--task", "balls.yaml", "--data", "data", "--cases", "2", "--seeds", "2", "--device", "cpu"]
    words += ["--objective", "voco", "--pretrain-steps", "2", "--pretrain-config", "pretrain.yaml", "-o"]
    voco("submit", *ON_CPU, "--shards", "2", *words, "parts", cwd=tmp_path, environment=slurm)
    sent = jobs(tmp_path, slurm)
    assert [(one["command"][0], one["command"][-1], one["shards"]) for one in sent] == [
        ("study", "--prepare", 0),
        ("study", "parts", 2),
        ("merge", "parts", 0),
    ]
    wait_until(lambda: newest(tmp_path, slurm)["state"] not in ("waiting", "running"))
    assert [one["state"] for one in jobs(tmp_path, slurm)] == ["done", "of 2 parts 2 done", "done"]
    voco(*words, "whole", cwd=tmp_path, environment=slurm)
    parts, whole = (json.loads((tmp_path / name / "study.json").read_text()) for name in ("parts", "whole"))
    assert [one["status"] for one in parts["runs"]] == ["done"] * 4
    for found in (parts, whole):  # what took how long is another matter
        found.pop("costs")
        for one in (*found["runs"], *found["pretrainings"]):
            one.pop("took_s", None)
            one.pop("train_s")
    assert parts == whole


def test_what_slurm_refuses_is_one_sentence(folder: Path, slurm: dict[str, str]) -> None:
    before = (folder / "jobs" / "submitted.jsonl").read_text() if (folder / "jobs").exists() else ""
    told = voco("submit", *ON_CPU, "--set", "partition=none", "doctor", cwd=folder, environment=slurm, code=1)
    assert told.startswith("error: SLURM refused the job: Batch job submission failed: Invalid partition name")
    after = folder / "jobs" / "submitted.jsonl"
    assert (after.read_text() if after.exists() else "") == before


def test_a_command_that_fails_is_told_with_its_code(folder: Path, slurm: dict[str, str]) -> None:
    (folder / "broken.json").write_text("{")
    words = ["pretrain", "broken.json", "--recipe", "debug", "-o", "failing"]
    voco("submit", *ON_CPU, *words, cwd=folder, environment=slurm)
    wait_until(lambda: newest(folder, slurm)["state"] not in ("waiting", "running"))
    assert newest(folder, slurm)["state"] == "failed (exit code 3)"
