"""The batch script of the guide, with stand-ins for what a cluster has."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, blocks

TASKS = 4

# As srun does: one process a task, all at once, and the largest exit code.
SRUN = """#!/bin/bash
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
VOCO = """#!/bin/bash
echo "$RANK of $WORLD_SIZE, device $LOCAL_RANK, to $MASTER_ADDR:$MASTER_PORT: $@" > "$LOG/task-$RANK"
exit "$CODE"
"""


def submit(folder: Path, code: int) -> tuple[int, list[str], str]:
    """Run the script; returns its exit code, what the tasks said, and what scontrol was asked for."""
    (script,) = (block.text for block in blocks(ROOT / "docs" / "guides" / "clusters.md") if "#SBATCH" in block.text)
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL), ("voco", VOCO), ("job.sh", script)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    environment = {
        "PATH": f"{folder}:{os.environ['PATH']}",
        "LOG": str(folder),
        "CODE": str(code),
        "SLURM_NTASKS": str(TASKS),
        "SLURM_JOB_NODELIST": "node[1-2]",
        "SLURM_JOB_ID": "77",
    }
    done = subprocess.run(["bash", str(folder / "job.sh")], env=environment, capture_output=True, text=True)
    assert done.stderr == ""
    asked = folder / "asked"
    tasks = sorted(path.read_text().strip() for path in folder.glob("task-*"))
    return done.returncode, tasks, asked.read_text() if asked.exists() else ""


@pytest.mark.parametrize("code", [0, 75, 3])
def test_each_process_has_its_rank_and_only_an_interrupted_job_is_put_back(tmp_path: Path, code: int) -> None:
    returned, tasks, asked = submit(tmp_path, code)
    assert returned == code
    assert len(tasks) == TASKS
    for rank, task in enumerate(tasks):
        assert task.startswith(f"{rank} of {TASKS}, device {rank}, to node1:29500: pretrain ")
    assert asked.strip() == ("requeue 77" if code == 75 else "")
