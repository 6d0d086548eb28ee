"""From a command to the batch scripts that run it. submitit writes them; what is ours is the command and its end.

submitit's usual way is a pickled function, which it checkpoints and puts back into the queue itself. Here the script
holds the command in plain words: one can read it, and send it by hand; no pickle is loaded; SIGTERM and SIGUSR2 reach
the command, which writes its own checkpoint; and the exit code 75, not the signal, puts the job back.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voco_cli.config.cluster_schema import ClusterSettings
from voco_cli.errors import Interrupted, UsageError, VocoError

if TYPE_CHECKING:
    from submitit import SlurmExecutor

RANKS = (("pretrain",), ("finetune",))
"""Commands that several processes run as one."""
NO_GPU = ("index", "cache", "evaluate", "compare", "report", "merge", "tasks", "config", "weights", "preview-labels")
"""First words of commands that compute on processors alone; other commands, but for RANKS, take one GPU at most."""
RENDEZVOUS = (
    'export MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)',
    "export MASTER_PORT=$((15000 + SLURM_JOB_ID % 15000))",  # jobs that share a node have ports of their own
)
OF_RANK = (
    "RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID WORLD_SIZE=$SLURM_NTASKS LOCAL_WORLD_SIZE=$SLURM_NTASKS_PER_NODE"
)
"""What torchrun would tell each process. It is not used here: it ends with 1 where its processes end with 75."""


@dataclass(frozen=True)
class Job:
    """What is sent to the queue as one job.

    Attributes:
        words: the command without ``voco``.
        nodes, tasks_per_node, gpus_per_node: what it runs on.
        shards: parts of an array; 0 where it is none.
    """

    words: tuple[str, ...]
    nodes: int = 1
    tasks_per_node: int = 1
    gpus_per_node: int = 0
    shards: int = 0

    @property
    def processes(self) -> int:
        """Return how many processes work as one."""
        return self.nodes * self.tasks_per_node


def plan_job(words: Sequence[str], cluster: ClusterSettings, shards: int = 0) -> Job:
    """Return what one command takes.

    Args:
        words: the command without ``voco``.
        shards: parts that it is done in, for a command that takes ``--shard``.
    """
    if tuple(words[:1]) in RANKS:
        return Job(tuple(words), cluster.nodes, cluster.tasks, cluster.gpus_per_node)
    gpus = 0 if words[0] in NO_GPU else min(1, cluster.gpus_per_node)
    return Job(tuple(words), gpus_per_node=gpus, shards=shards)


def program(cluster: ClusterSettings, module: str = "voco_cli") -> list[str]:
    """Return the words that a command begins with: this very Python, or what a container has."""
    if cluster.container is None:
        return [sys.executable, "-m", module]
    return [*shlex.split(cluster.container), *(["voco"] if module == "voco_cli" else ["python", "-m", module])]


def command_text(job: Job, cluster: ClusterSettings) -> str:
    """Return what each task of a job runs, for the shell of the script."""
    plain = shlex.join([*program(cluster), *job.words])
    if job.shards:
        return f'{plain} --shard "$SLURM_ARRAY_TASK_ID/{job.shards}"'
    if job.processes == 1:
        return plain
    return shlex.join(["bash", "-c", f"{OF_RANK} exec {plain}"])


def state_file(job: Job, folder: Path) -> str:
    """Return the file that says how a job stands, for the shell of the script."""
    name = "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID" if job.shards else "$SLURM_JOB_ID"
    return f"{shlex.quote(f'{folder}/')}{name}.state"


def sbatch_parameters(
    job: Job, cluster: ClusterSettings, folder: Path, cwd: Path, after: str | None = None
) -> dict[str, Any]:
    """Return what submitit is to write at the head of a script.

    Args:
        folder: of scripts, logs and states.
        cwd: where the command runs.
        after: job that must have ended well before.
    """
    state = state_file(job, folder)
    further: dict[str, Any] = {"requeue": True, "chdir": str(cwd)}
    further |= {name: True if value in ("", "true") else value for name, value in cluster.options.items()}
    # srun has not taken the cores of a task from sbatch since SLURM 22.05.
    of_srun = [f"--cpus-per-task={cluster.cpus_per_task}"]
    if cluster.memory is not None:
        further["mem"] = cluster.memory
    if job.shards:
        further |= {"array": f"1-{job.shards}", "output": str(folder / "%A_%a_0_log.out")}
        of_srun.append(f"--output={folder / '%A_%a_%t_log.out'}")
    if after is not None:
        further |= {"dependency": f"afterok:{after}", "kill-on-invalid-dep": "yes"}
    parameters = {
        "job_name": f"voco-{job.words[0]}",
        "partition": cluster.partition,
        "account": cluster.account,
        "time": cluster.time,
        "nodes": job.nodes,
        "ntasks_per_node": job.tasks_per_node,
        "cpus_per_task": cluster.cpus_per_task,
        "gpus_per_node": job.gpus_per_node or None,
        "signal_delay_s": cluster.signal_s,
        "wckey": None,
        "stderr_to_stdout": True,
        "srun_args": of_srun,
        "setup": [f"echo running > {state}", *cluster.setup, *(RENDEZVOUS if job.processes > 1 else ())],
        "teardown": [
            "code=$?",
            f'echo "$code" > {state}',
            f'if [ "$code" -eq {Interrupted.exit_code} ]; then scontrol requeue "$SLURM_JOB_ID"; fi',
            'exit "$code"',
        ],
        "additional_parameters": further,
    }
    return {name: value for name, value in parameters.items() if value is not None or name == "wckey"}


def local_commands(job: Job, cluster: ClusterSettings) -> list[list[str]]:
    """Return what runs a job here: one command, or one for each part."""
    if job.shards:
        return [[*program(cluster), *job.words, "--shard", f"{i}/{job.shards}"] for i in range(1, job.shards + 1)]
    if job.tasks_per_node == 1:
        return [[*program(cluster), *job.words]]
    launcher = ["--standalone", f"--nproc-per-node={job.tasks_per_node}", "-m", "voco_cli"]
    return [[*program(cluster, "torch.distributed.run"), *launcher, *job.words]]


def require_submitit() -> None:
    """Refuse to go on without the package that writes and sends scripts.

    Raises:
        UsageError: it is not installed.
    """
    if find_spec("submitit") is None:
        raise UsageError(
            "voco submit needs the package submitit, which is not installed.", 'pip install "voco-cli[cluster]"'
        )


def executor(folder: Path, parameters: Mapping[str, Any]) -> SlurmExecutor:
    """Return submitit's executor with what a script is to ask for.

    Raises:
        UsageError: submitit is not installed.
    """
    require_submitit()
    from submitit import SlurmExecutor

    class ScriptExecutor(SlurmExecutor):
        @classmethod
        def affinity(cls) -> int:
            return 1  # a script can be written where there is no SLURM

    made = ScriptExecutor(folder)
    made.update_parameters(**parameters)
    return made


def script_text(job: Job, cluster: ClusterSettings, folder: Path, cwd: Path, after: str | None = None) -> str:
    """Return the batch script of a job.

    Args:
        folder, cwd, after: as of `sbatch_parameters`.
    """
    parameters = sbatch_parameters(job, cluster, folder, cwd, after)
    return executor(folder, parameters)._make_submission_file_text(command_text(job, cluster), "")


def send(job: Job, cluster: ClusterSettings, folder: Path, cwd: Path, after: str | None = None) -> str:
    """Hand a job to SLURM; the script is kept in the folder, as ID_submission.sh.

    Args:
        folder, cwd, after: as of `sbatch_parameters`.
    Returns:
        the number of the job.
    Raises:
        VocoError: SLURM refuses it.
    """
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    made = executor(folder, sbatch_parameters(job, cluster, folder, cwd, after))
    try:
        with redirect_stderr(StringIO()):  # submitit prints what sbatch says, beside raising it
            return made._submit_command(command_text(job, cluster)).job_id
    except (FailedJobError, FailedSubmissionError) as error:
        said = [line for line in str(error).splitlines() if "error: " in line] or [str(error)]
        why = said[-1].rpartition("error: ")[2].strip()
        raise VocoError(f"SLURM refused the job: {why}.", "`voco submit --dry-run` shows the script") from error
