"""A SLURM of this one machine for tests: munged, a controller and one node, each with its files in one folder."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.waiting import wait_until

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "scancel", "sinfo")
CORES = 2

# cred_expire: a job that is put back waits for that long, 120 s if nothing is said. config_overrides: the node has
# the cores that are written here, whatever the machine has.
CONFIGURATION = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SlurmdParameters=config_overrides
MpiDefault=none
JobRequeue=1
KillWait=5
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory=4000
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str:
    """Return what is missing for a SLURM here; empty where nothing is."""
    lacking = [name for name in PROGRAMS if shutil.which(name) is None]
    if lacking:
        return f"NO SLURM HERE ({', '.join(lacking)} missing): `make test-cluster` installs it"
    return "" if os.geteuid() == 0 else "A SLURM FOR TESTS NEEDS ROOT"


@contextmanager
def local_slurm(folder: Path) -> Iterator[dict[str, str]]:
    """Run a SLURM; yields the environment that its commands need."""
    for name in ("state", "spool"):
        (folder / name).mkdir()
    ports = dict(zip(("controller", "node"), _free_ports(2), strict=True))
    host = socket.gethostname().partition(".")[0]
    configuration = folder / "slurm.conf"
    configuration.write_text(CONFIGURATION.format(folder=folder, host=host, cores=CORES, **ports))
    key = folder / "munge.key"
    key.write_bytes(os.urandom(64))
    key.chmod(0o600)
    environment = {**os.environ, "SLURM_CONF": str(configuration), "OMP_NUM_THREADS": "1"}
    files = {"socket": "munge.socket", "key-file": "munge.key", "pid-file": "munge.pid", "log-file": "munge.log"}
    munged = [f"--{option}={folder / name}" for option, name in {**files, "seed-file": "munge.seed"}.items()]
    running: list[subprocess.Popen[bytes]] = []

    def start(*command: str) -> None:
        with (folder / f"{command[0]}.log").open("wb") as log:
            running.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))

    try:
        start("munged", "--foreground", "--force", *munged)
        wait_until((folder / "munge.socket").exists, running[-1])
        start("slurmctld", "-D")
        start("slurmd", "-D")
        wait_until(lambda: "idle" in _said(["sinfo", "-h", "-o", "%t"], environment), running[-1])
        yield environment
        _said(["scancel", "--user=root"], environment)
        wait_until(lambda: not _said(["squeue", "-h"], environment).strip())
    finally:
        for process in reversed(running):
            process.terminate()
            process.wait()


def _said(command: list[str], environment: dict[str, str]) -> str:
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False).stdout


def _free_ports(count: int) -> list[int]:
    asked = [socket.socket() for _ in range(count)]
    for one in asked:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in asked]
    for one in asked:
        one.close()
    return ports
