"""400 scans by one command, a Dask cluster, four shards and a SLURM array: the same bytes, and what they cost.

The costs are printed: `pytest -s -m slow tests/cluster/test_four_ways.py`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from tests.cluster.local_slurm import local_slurm, missing
from tests.data.cache.made_scans import body_hu, write_nifti
from tests.data.dask_cluster import dask_cluster
from tests.tasks.made_run import make_run
from tests.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(missing()), reason=missing())]

SCANS, SHARDS = 400, 4
COMMANDS = {
    "data.json": ("index", "scans", "--modality", "CT", "-o", "data.json"),
    "store": ("cache", "build", "data.json", "--recipe", "debug", "--dir", "store"),
    "predictions": ("predict", "run", "data.json", "-o", "predictions", "--device", "cpu"),
}
"""What each command leaves, and its words; the second and third read what the first has left."""
COUNTED = """
import resource, subprocess, sys, time
began = time.time()
code = subprocess.call([sys.executable, "-m", "voco_cli", *sys.argv[3:]])  # argv[2] is "voco"
used = resource.getrusage(resource.RUSAGE_CHILDREN)
with open(sys.argv[1], "a") as file:
    file.write(f"{began} {time.time()} {used.ru_utime + used.ru_stime}\\n")
sys.exit(code)
"""
"""Runs a command, and writes down when it began and ended, and the CPU seconds that it and its processes took."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ways")
    (folder / "scans").mkdir()
    for number in range(SCANS):
        path = folder / "scans" / f"patient{number:03d}.nii.gz"
        write_nifti(path, body_hu((24, 20, 16), seed=number), np.diag([2.0, 2.0, 3.0, 1.0]))
    make_run(folder / "run")
    (folder / "counted.py").write_text(COUNTED)
    return folder


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with local_slurm(tmp_path_factory.mktemp("slurm")) as environment:
        yield environment


def start(folder: Path, environment: dict[str, str], *words: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "counted.py", "took", "voco", *words]
    with (folder / "said.log").open("ab") as log:
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)


def run(folder: Path, environment: dict[str, str], *words: str) -> None:
    assert start(folder, environment, *words).wait() == 0, (folder / "said.log").read_text()


def in_shards(folder: Path, environment: dict[str, str], output: str, words: Sequence[str]) -> None:
    parts = [start(folder, environment, *words, "--shard", f"{n}/{SHARDS}") for n in range(1, SHARDS + 1)]
    assert [part.wait() for part in parts] == [0] * SHARDS, (folder / "said.log").read_text()
    run(folder, environment, "merge", output)


def as_an_array(folder: Path, environment: dict[str, str], words: Sequence[str]) -> None:
    container = f"{sys.executable} {folder / 'counted.py'} {folder / 'took'}"
    asked = {"gpus_per_node": "0", "cpus_per_task": "1", "time": "30", "container": container}
    given = [word for key, value in asked.items() for word in ("--set", f"{key}={value}")]
    run(folder, environment, "submit", *given, "--shards", str(SHARDS), *words)
    merging = json.loads((folder / "jobs" / "submitted.jsonl").read_text().splitlines()[-1])["job"]
    state = folder / "jobs" / f"{merging}.state"
    wait_until(lambda: state.exists() and state.read_text().strip() != "running")
    said = "".join(path.read_text() for path in sorted((folder / "jobs").glob("*.out")))
    assert state.read_text().strip() == "0", said


def digests(path: Path) -> dict[str, str]:
    """The hash of each file."""
    files = [path] if path.is_file() else [one for one in sorted(path.rglob("*")) if one.is_file()]
    return {str(one.relative_to(path)): hashlib.sha256(one.read_bytes()).hexdigest() for one in files}


def test_the_same_bytes_whatever_does_the_work(
    folder: Path, slurm: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    psutil = pytest.importorskip("psutil", reason="NO DASK HERE: pip install 'voco-cli[cluster]'")
    pytest.importorskip("distributed", reason="NO DASK HERE: pip install 'voco-cli[cluster]'")
    costs: list[str] = []
    with ExitStack() as stack:
        before = psutil.Process().children(recursive=True)
        address = stack.enter_context(dask_cluster(tmp_path))

        def of_dask() -> float:
            """CPU seconds of the scheduler, its workers and their keepers so far."""
            mine = [one for one in psutil.Process().children(recursive=True) if one not in before]
            return float(sum(sum(one.cpu_times()[:2]) for one in mine))

        for output, words in COMMANDS.items():
            ways: dict[str, Callable[[], None]] = {
                "one command": lambda words=words: run(folder, slurm, *words),  # type: ignore[misc]
                "Dask": lambda words=words: run(folder, slurm, *words, "--scheduler", address),  # type: ignore[misc]
                "shards": lambda output=output, words=words: in_shards(folder, slurm, output, words),  # type: ignore[misc]
                "SLURM": lambda words=words: as_an_array(folder, slurm, words),  # type: ignore[misc]
            }
            found: dict[str, dict[str, str]] = {}
            for way, work in ways.items():
                (folder / "took").write_text("")
                dask_s = of_dask()
                work()
                lines = [list(map(float, line.split())) for line in (folder / "took").read_text().splitlines()]
                began, ended, cpu_s = zip(*lines, strict=True)
                wall_s, all_s = max(ended) - min(began), sum(cpu_s) + of_dask() - dask_s
                costs.append(f"{' '.join(words[:2])} | {way} | {wall_s:.1f} s | {all_s:.1f} CPU s")
                found[way] = digests(folder / output)
                if way != "SLURM":
                    path = folder / output
                    path.unlink() if path.is_file() else shutil.rmtree(path)
            assert all(one == found["one command"] for one in found.values()), output
            assert len(found["one command"]) >= (1 if output == "data.json" else SCANS)
    with capsys.disabled():
        print("\n" + "\n".join(costs), f"\n{os.cpu_count()} cores")
