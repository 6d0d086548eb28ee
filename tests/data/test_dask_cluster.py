"""Jobs on a real Dask cluster of processes: the same results in the same order."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from voco_cli.data.dask_cluster import DaskCluster
from voco_cli.data.parallel import Runner, map_files
from voco_cli.errors import ResourceError, UsageError

distributed = pytest.importorskip("distributed", reason="distributed is not installed: pip install 'voco-cli[cluster]'")


@pytest.fixture(scope="module")
def cluster() -> Iterator[DaskCluster]:
    import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None, silence_logs=50
        ) as local,
        DaskCluster(local.scheduler_address, 60) as connected,
    ):
        yield connected


def quarter(path: Path) -> float:
    """Called in a worker."""
    return int(path.name) / 4


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_results_are_in_the_order_of_the_files(cluster: DaskCluster, tmp_path: Path) -> None:
    files = [tmp_path / str(number) for number in range(20, 3020)]
    done: list[int] = []
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
