"""Batches that come through reused memory are those that one process makes, also where they are kept."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset

from voco_cli.config.schema import Data
from voco_cli.training import batch_ring
from voco_cli.training.batch_ring import BatchRing, PackedBatch
from voco_cli.training.dataloader import BatchPlan, load_batches
from voco_cli.training.task import DeviceContext

HERE = DeviceContext(torch.device("cpu"), 0, 1, contextlib.nullcontext)
PREFETCH = 2
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")


class MadeBatch(NamedTuple):
    names: list[str]
    parts: dict[str, Tensor]


class MadeScans(Dataset[int]):
    """Their batches hold 128 KB, of every kind of number that objectives hand over; at one the process kills itself."""

    def __init__(self, killed_at: int = -1) -> None:
        self.killed_at = killed_at

    def __getitem__(self, key: tuple[int, int]) -> int:
        if key[0] == self.killed_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return 10 * key[0] + key[1]


def collate(items: Sequence[int], edge: int = 40) -> MadeBatch:
    generator = np.random.default_rng(list(items))
    crops = torch.from_numpy(generator.integers(0, 256, (len(items), edge, edge, edge), np.uint8))
    parts = {
        "crops": crops,
        "turned": torch.from_numpy(generator.integers(0, 256, (8, 9, 10), np.uint8)).permute(2, 1, 0),
        "strided": torch.arange(20.0)[::2],
        "labels": torch.from_numpy(generator.random((len(items), 3), np.float32)),
        "half": torch.from_numpy(generator.random(5).astype(np.float16)),
        "hidden": torch.from_numpy(generator.random(7) < 0.5),
        "turns": torch.from_numpy(generator.integers(0, 4, 3)),
        "none": torch.zeros(0, 3),
    }
    return MadeBatch([str(item) for item in items], parts)


def batches(workers: int, dataset: Dataset[int] | None = None, last: int = 12) -> Generator[MadeBatch, None, None]:
    data = Data(workers=workers, prefetch=PREFETCH)
    return load_batches(dataset or MadeScans(), BatchPlan(6, 2, 0), (0, last), collate, data, HERE)


def require_equal(one: MadeBatch, other: MadeBatch) -> None:
    assert one.names == other.names
    assert one.parts.keys() == other.parts.keys()
    for name, tensor in one.parts.items():
        assert (tensor.dtype, tensor.shape) == (other.parts[name].dtype, other.parts[name].shape)
        assert torch.equal(tensor, other.parts[name])


@pytest.mark.parametrize("workers", [1, 2])
def test_batches_are_those_of_one_process(workers: int) -> None:
    with closing(batches(workers)) as loaded:
        for ours, theirs in zip(loaded, batches(0), strict=True):
            require_equal(ours, theirs)


def test_batches_that_are_kept_stay_what_they_are() -> None:
    """There are more of them than slots: later ones go another way."""
    kept = [batch.parts["crops"][1, 2:5] for batch in batches(1)]
    assert len(kept) > PREFETCH + 2
    for ours, theirs in zip(kept, batches(0), strict=True):
        assert torch.equal(ours, theirs.parts["crops"][1, 2:5])


def test_memory_is_used_again() -> None:
    with closing(batches(1, last=30)) as loaded:
        places = [batch.parts["crops"].data_ptr() for batch in loaded]
    assert len(places) == 30
    assert len(set(places)) <= PREFETCH + 2


@pytest.fixture
def ring(monkeypatch: pytest.MonkeyPatch) -> BatchRing:
    """Return what a loader process and the main one share, both played by this process."""
    monkeypatch.setattr(batch_ring, "get_worker_info", lambda: SimpleNamespace(id=1))
    return BatchRing(collate, workers=2, slots=2)


def test_a_slot_is_taken_as_long_as_a_part_of_its_batch_is_used(ring: BatchRing) -> None:
    batch = ring.unpack(ring([1, 2]))
    assert ring.taken.tolist() == [[0, 0], [1, 0]]
    part = batch.parts["crops"][1, 3, 2:]
    del batch
    other = ring.unpack(ring([3, 4]))
    assert ring.taken.tolist() == [[0, 0], [1, 1]]
    assert isinstance(ring([5, 6]), MadeBatch)  # torch hands it over
    assert torch.equal(part, collate([1, 2]).parts["crops"][1, 3, 2:])
    require_equal(other, collate([3, 4]))
    del part
    assert ring.taken.tolist() == [[0, 0], [0, 1]]


def test_a_slot_grows_with_its_batches(ring: BatchRing) -> None:
    small = ring([1, 2])
    assert isinstance(small, PackedBatch)
    assert small.memory is not None
    ring.unpack(small)
    again = ring([3, 4])
    assert again.memory is None
    ring.unpack(again)
    ring.collate = lambda items: collate(items, edge=50)
    large = ring([5, 6])
    assert large.memory.numel() > small.memory.numel()
    require_equal(ring.unpack(large), collate([5, 6], edge=50))
    assert int(ring.taken.sum()) == 0


def test_pinning_copies_and_frees(ring: BatchRing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tensor, "pin_memory", Tensor.clone)  # a copy elsewhere, which needs no GPU
    packed: Any = ring([1, 2])
    pinned = packed.pin_memory()
    assert int(ring.taken.sum()) == 0
    require_equal(ring.unpack(pinned), collate([1, 2]))


def test_small_batches_and_errors_go_the_way_of_torch(ring: BatchRing) -> None:
    ring.collate = lambda items: collate(items, edge=30)
    assert isinstance(ring([1, 2]), MadeBatch)
    ring.collate = lambda items: ValueError("damaged")
    assert isinstance(ring.unpack(ring([1, 2])), ValueError)
    assert int(ring.taken.sum()) == 0


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="this system keeps shared memory elsewhere")
def test_a_killed_process_leaves_no_shared_memory_behind() -> None:
    """It leaves nothing, whatever is raised: torch names that in several ways, by what the process was doing."""
    before = set(Path("/dev/shm").glob("torch*"))
    with pytest.raises((RuntimeError, OSError, EOFError)), closing(batches(2, MadeScans(killed_at=7))) as loaded:
        list(loaded)
    assert multiprocessing.active_children() == []
    assert set(Path("/dev/shm").glob("torch*")) <= before
