"""Batch scripts: what they ask for, what each task runs, and how they end, with stand-ins for what a cluster has."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from voco_cli.cluster.script import Job, command_text, local_commands, plan_job, script_text
from voco_cli.config.cluster_schema import ClusterSettings

FOUR = ClusterSettings(gpus_per_node=4, nodes=2, cpus_per_task=6, memory="64G", partition="gpu", account="lab")
CPU = ClusterSettings(gpus_per_node=0)
PYTHON = shlex.quote(sys.executable)
NASTY = 'it\'s; $(touch hacked) `touch hacked` "x"\n#SBATCH --qos=x'


def asked(script: str) -> set[str]:
    return {line.removeprefix("#SBATCH --") for line in script.splitlines() if line.startswith("#SBATCH ")}


def test_a_training_is_one_job_of_a_process_for_each_gpu() -> None:
    job = plan_job(["pretrain", "data.json"], FOUR)
    assert job == Job(("pretrain", "data.json"), 2, 4, 4)
    assert asked(script_text(job, FOUR, Path("/shared/jobs"), Path("/shared"))) == {
        "account=lab",
        "chdir=/shared",
        "cpus-per-task=6",
        "gpus-per-node=4",
        "job-name=voco-pretrain",
        "mem=64G",
        "nodes=2",
        "ntasks-per-node=4",
        "open-mode=append",
        "output=/shared/jobs/%j_0_log.out",
        "partition=gpu",
        "requeue",
        "signal=USR2@300",
        "time=24:00:00",
    }


def test_other_commands_have_one_process_and_at_most_one_gpu() -> None:
    assert plan_job(["study", "--task", "t"], FOUR) == Job(("study", "--task", "t"), gpus_per_node=1)
    assert plan_job(["index", "scans"], FOUR, 8) == Job(("index", "scans"), shards=8)
    assert plan_job(["predict", "run", "scans"], CPU) == Job(("predict", "run", "scans"))


def test_parts_of_an_array_and_what_waits_for_them() -> None:
    job = Job(("predict", "run", "new scans", "-o", "out"), gpus_per_node=1, shards=3)
    script = script_text(job, FOUR, Path("/my jobs"), Path("/"))
    assert asked(script) >= {"array=1-3", "gpus-per-node=1", "output='/my jobs/%A_%a_0_log.out'"}
    (line,) = (one for one in script.splitlines() if one.startswith("srun "))
    assert line.endswith(f"{PYTHON} -m voco_cli predict run 'new scans' -o out --shard \"$SLURM_ARRAY_TASK_ID/3\"")
    assert shlex.split(line)[2:4] == ["--output", "/my jobs/%j_%t_log.out"]
    assert shlex.split(line)[4:6] == ["--cpus-per-task=6", "--output=/my jobs/%A_%a_%t_log.out"]
    after = asked(script_text(Job(("merge", "out")), FOUR, Path("/jobs"), Path("/"), "17"))
    assert after >= {"dependency=afterok:17", "kill-on-invalid-dep=yes"}
    assert not {one for one in after if one.startswith("gpus")}


def test_settings_that_are_not_given_are_left_to_the_site() -> None:
    names = {one.partition("=")[0] for one in asked(script_text(Job(("doctor",)), CPU, Path("/jobs"), Path("/")))}
    assert names & {"partition", "account", "mem", "gpus-per-node", "wckey", "dependency", "array"} == set()


def test_further_options_and_lines_of_setup() -> None:
    cluster = ClusterSettings(options={"qos": "high prio", "exclusive": ""}, setup=("module load cuda", "export A='b'"))
    script = script_text(Job(("doctor",)), cluster, Path("/jobs"), Path("/"))
    assert asked(script) >= {"qos='high prio'", "exclusive"}
    lines = script.splitlines()
    assert lines.index("module load cuda") < lines.index("export A='b'") < lines.index("export SUBMITIT_EXECUTOR=slurm")


def test_a_container_is_written_before_the_command() -> None:
    cluster = ClusterSettings(container="apptainer exec --bind '/a b' $HOME/x.sif", gpus_per_node=0)
    text = command_text(Job(("doctor",)), cluster)
    assert text == "apptainer exec --bind '/a b' '$HOME/x.sif' voco doctor"


def test_what_runs_here() -> None:
    plain = [sys.executable, "-m", "voco_cli"]
    assert local_commands(plan_job(["doctor"], CPU), CPU) == [[*plain, "doctor"]]
    assert local_commands(Job(("predict", "x"), shards=2), CPU) == [
        [*plain, "predict", "x", "--shard", "1/2"],
        [*plain, "predict", "x", "--shard", "2/2"],
    ]
    (several,) = local_commands(plan_job(["pretrain", "d"], FOUR), FOUR)
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node=4", "-m", "voco_cli"]
    assert several == [sys.executable, "-m", *launcher, "pretrain", "d"]


# As srun does: one process a task, all at once, and the largest exit code.
SRUN = """#!/bin/bash
while [[ "$1" == --* ]]; do if [ "$1" = --output ]; then shift; fi; shift; done
pids=()
for task in $(seq 0 $((SLURM_NTASKS - 1))); do
  SLURM_PROCID=$task SLURM_LOCALID=$task "$@" & pids+=($!)
done
code=0
for pid in "${pids[@]}"; do wait "$pid"; one=$?; if [ "$one" -gt "$code" ]; then code=$one; fi; done
exit "$code"
"""
SCONTROL = """#!/bin/bash
if [ "$1" = show ]; then echo node1; echo node2; else echo "$@" >> "$LOG/asked"; fi
"""
CONTAINER = """#!/bin/bash
echo "$RANK of $WORLD_SIZE, device $LOCAL_RANK of $LOCAL_WORLD_SIZE, to $MASTER_ADDR:$MASTER_PORT" > "$LOG/task-$RANK"
printf '%s\\n' "$@" > "$LOG/words-$RANK"
cat "$JOBS/77.state" > "$LOG/state-while-it-runs"
exit "$CODE"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL), ("container", CONTAINER)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "my jobs").mkdir()
    return tmp_path


def run(script: str, folder: Path, tasks: int, code: int) -> int:
    """Run a script as a batch job; returns its exit code."""
    (folder / "job.sh").write_text(script)
    environment = {
        "PATH": f"{folder}:{os.environ['PATH']}",
        "LOG": str(folder),
        "JOBS": str(folder / "my jobs"),
        "CODE": str(code),
        "SLURM_NTASKS": str(tasks),
        "SLURM_NTASKS_PER_NODE": str(tasks),
        "SLURM_JOB_NODELIST": "node[1-2]",
        "SLURM_JOB_ID": "77",
    }
    done = subprocess.run(
        ["bash", str(folder / "job.sh")], env=environment, cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    return done.returncode


@pytest.mark.parametrize("code", [0, 75, 3])
def test_each_process_has_its_rank_and_only_an_interrupted_job_is_put_back(folder: Path, code: int) -> None:
    cluster = ClusterSettings(gpus_per_node=4, container=str(folder / "container"))
    job = plan_job(["pretrain", "data.json", NASTY], cluster)
    assert run(script_text(job, cluster, folder / "my jobs", folder), folder, 4, code) == code
    for rank in range(4):
        told = (folder / f"task-{rank}").read_text().strip()
        assert told == f"{rank} of 4, device {rank} of 4, to node1:15077"
        assert (folder / f"words-{rank}").read_text() == f"voco\npretrain\ndata.json\n{NASTY}\n"
    asked_of = folder / "asked"
    assert (asked_of.read_text() if asked_of.exists() else "") == ("requeue 77\n" if code == 75 else "")
    assert (folder / "state-while-it-runs").read_text() == "running\n"
    assert (folder / "my jobs" / "77.state").read_text() == f"{code}\n"
    assert not (folder / "hacked").exists()


def test_one_process_needs_no_ranks(folder: Path) -> None:
    cluster = ClusterSettings(gpus_per_node=1, container=str(folder / "container"))
    script = script_text(plan_job(["finetune", NASTY], cluster), cluster, folder / "my jobs", folder)
    assert "MASTER_ADDR" not in script
    assert run(script, folder, 1, 0) == 0
    assert (folder / "words-").read_text() == f"voco\nfinetune\n{NASTY}\n"
