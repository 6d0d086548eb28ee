"""Processes of a loader end with it, also where an error that came out of it lives on."""

from __future__ import annotations

import contextlib
import multiprocessing
import subprocess
import sys
from collections.abc import Generator
from contextlib import closing
from multiprocessing.queues import Queue

import pytest
import torch
from torch.utils.data import Dataset

from voco_cli.config.schema import Data
from voco_cli.training.dataloader import BatchPlan, load_batches, loader_workers
from voco_cli.training.task import DeviceContext

CODE = """
import multiprocessing, os, resource, sys
import torch
from types import SimpleNamespace
from voco_cli.training.dataloader import load_batches
from voco_cli.training.dataloader import BatchPlan
from voco_cli.config.schema import Data

class Numbers(torch.utils.data.Dataset):
    def __getitem__(self, key):
        return torch.zeros(4)

place = SimpleNamespace(device=torch.device("cpu"), cores=2)
torch.zeros(1).share_memory_()
opened = len(os.listdir("/proc/self/fd"))
resource.setrlimit(resource.RLIMIT_NOFILE, (opened + 12, opened + 12))
try:
    list(load_batches(Numbers(), BatchPlan(8, 2, 0), (0, 4), torch.stack, Data(workers=6), place))
except Exception as error:
    print(type(error).__name__, len(multiprocessing.active_children()))
"""


def test_a_loader_that_runs_out_of_files_leaves_no_process_behind() -> None:
    """Else Python would wait at its end for processes that are deaf to the signal by which it ends them."""
    ended = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert ended.stdout.split() == ["OSError", "0"]


HERE = DeviceContext(torch.device("cpu"), 0, 1, contextlib.nullcontext)
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")


class Numbers(Dataset[int]):
    """Its items are the numbers of their batches; one batch may not be read."""

    def __init__(self, refused: int = -1) -> None:
        self.refused = refused

    def __getitem__(self, key: tuple[int, int]) -> int:
        if key[0] == self.refused:
            raise ValueError("refused")
        return key[0]


def batches_of(dataset: Numbers, workers: int) -> Generator[list[int], None, None]:
    return load_batches(dataset, BatchPlan(4, 2, 0), (0, 8), list, Data(workers=workers, prefetch=1), HERE)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_come_in_order(workers: int) -> None:
    assert list(batches_of(Numbers(), workers)) == [[number, number] for number in range(8)]
    assert multiprocessing.active_children() == []


def test_no_process_outlives_an_error_that_somebody_holds() -> None:
    """They are deaf to the signal with which Python would end them at its exit, which then waited for ever."""
    with pytest.raises(ValueError, match="refused") as held, closing(batches_of(Numbers(refused=3), 2)) as batches:
        list(batches)
    assert held.value.__traceback__ is not None
    assert multiprocessing.active_children() == []


def test_no_process_outlives_an_interruption_that_somebody_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second Ctrl-C comes while the loader is waited for."""

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Queue, "get", interrupted)
    with pytest.raises(KeyboardInterrupt) as held, closing(batches_of(Numbers(), 2)) as batches:
        next(batches)
    assert held.value.__traceback__ is not None
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize(("cores", "workers"), [(1, 0), (2, 1), (8, 7), (48, 8)])
def test_loader_processes_are_of_the_cores_of_their_process(cores: int, workers: int) -> None:
    assert loader_workers(Data(), cores) == workers
    assert loader_workers(Data(workers=3), cores) == 3
