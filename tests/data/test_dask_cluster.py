"""Jobs on a real Dask cluster of processes: the same results in the same order."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from tests.data.dask_cluster import dask_cluster, quarter
from voco_cli.data.dask_cluster import DaskCluster
from voco_cli.data.parallel import Runner, WorkerKilledError, map_files
from voco_cli.errors import ResourceError, UsageError

pytest.importorskip("distributed", reason="distributed is not installed: pip install 'voco-cli[cluster]'")


@pytest.mark.slow
def test_killed_workers_lose_nothing_and_do_nothing_twice(tmp_path: Path) -> None:
    files = [tmp_path / str(number) for number in range(100)]
    outcomes: dict[int, list[float | Exception]] = {number: [] for number in range(100)}
    with dask_cluster(tmp_path) as address, DaskCluster(address, 60) as cluster:
        cluster.run(quarter, files, lambda file, outcome: outcomes[int(file.name)].append(outcome))
    assert [str(one) for one in outcomes.pop(7)] == [str(WorkerKilledError())]
    assert outcomes == {number: [number / 4] for number in outcomes}


@pytest.mark.slow
def test_results_are_in_the_order_of_the_files(tmp_path: Path) -> None:
    files = [tmp_path / str(number) for number in range(20, 3020)]
    done: list[int] = []
    with dask_cluster(tmp_path) as address, DaskCluster(address, 60) as cluster:
        assert map_files(quarter, files, None, done.append, runner=Runner(cluster)) == [n / 4 for n in range(20, 3020)]
    assert sum(done) == 3000


def test_nobody_answers() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, and not listening
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ResourceError, match=r"No Dask scheduler answers at .* within 0\.2 s\."):
            DaskCluster(address, 0.2)


@pytest.mark.parametrize("address", ["host:8786", "tcp://host", "", "http://host:8786"])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(UsageError, match="is not the address of a Dask scheduler"):
        DaskCluster(address)


def test_distributed_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UsageError, match="needs the package distributed"):
        DaskCluster("tcp://host:8786")
