"""Shared memory by which loader processes hand over their batches, used again instead of mapped anew for each tensor.

A fresh page of memory costs more than what is written to it: a batch of 32 MB has 8,000, once in the loader process and
once in the main one. Here each loader process has a few slots; it packs a batch into a free one, and the main process
frees the slot when nothing refers to the batch any more. Who keeps batches makes the loader fall back to torch's way.
"""

from __future__ import annotations

import io
import itertools
import pickle
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import get_worker_info
from torch.utils.data._utils.pin_memory import pin_memory

LEAST_BYTES = 1 << 16
"""Batches with less go torch's way: nothing is gained there."""
ALIGNMENT = 64
"""Bytes; a line of the processor's cache."""
Place = tuple[int, int]
"""Loader process and slot."""


@dataclass(frozen=True)
class PackedBatch:
    """A batch in a slot, as it travels.

    Attributes:
        ring: number of the ring.
        place: where its arrays lie.
        pickled: all but the arrays.
        ends: first and last byte of each array in the slot.
        memory: the slot, where the main process does not know it yet.
    """

    ring: int
    place: Place
    pickled: bytes
    ends: list[tuple[int, int]]
    memory: Tensor | None

    def pin_memory(self) -> Any:
        """Return the batch in pinned memory, as torch's thread for that asks; its slot is free then."""
        return pin_memory(_RINGS[self.ring].unpack(self))


class BatchRing:
    """Slots of all loader processes of a loader.

    Args:
        collate: makes a batch of items.
        workers: loader processes.
        slots: the most that each may have.
    """

    def __init__(self, collate: Callable[[Any], Any], workers: int, slots: int) -> None:
        self.collate = collate
        self.number = next(_NUMBERS)
        self.taken = torch.zeros(workers, slots, dtype=torch.uint8).share_memory_()
        """1 from when a loader process packs a batch until the main process has no more use for it."""
        self.memory: dict[Place, Tensor] = {}
        """Slots; of a loader process its own, of the main process those that it was told of."""
        _RINGS[self.number] = self

    def __call__(self, items: Any) -> Any:
        """Return the batch of items, in a loader process, packed where that is worth it and a slot is free."""
        batch = self.collate(items)
        worker = get_worker_info()
        assert worker is not None
        buffers: list[memoryview] = []
        file = io.BytesIO()
        pickler = pickle.Pickler(file, 5, buffer_callback=lambda buffer: buffers.append(buffer.raw()))
        pickler.dispatch_table = {Tensor: _reduce_tensor}
        pickler.dump(batch)
        ends, first = [], 0
        for buffer in buffers:
            ends.append((first, first + buffer.nbytes))
            first += -(-buffer.nbytes // ALIGNMENT) * ALIGNMENT
        free = (self.taken[worker.id] == 0).nonzero()
        if first < LEAST_BYTES or not len(free):
            return batch
        place = (worker.id, int(free[0]))
        known = self.memory.get(place)
        is_new = known is None or known.numel() < first
        if is_new:
            self.memory[place] = torch.empty(first, dtype=torch.uint8).share_memory_()
        memory = self.memory[place]
        self.taken[place] = 1
        bytes_ = memory.numpy()
        for (start, end), buffer in zip(ends, buffers, strict=True):
            bytes_[start:end] = np.frombuffer(buffer, np.uint8)
        return PackedBatch(self.number, place, file.getvalue(), ends, memory if is_new else None)

    def unpack(self, packed: Any) -> Any:
        """Return a batch, in the main process, whose tensors lie in their slot; others as they are."""
        if not isinstance(packed, PackedBatch):
            return packed
        if packed.memory is not None:
            self.memory[packed.place] = packed.memory
        view = self.memory[packed.place].numpy()
        weakref.finalize(view, self._free, packed.place).atexit = False  # all arrays of the batch hold it
        bytes_ = view.data
        return pickle.loads(packed.pickled, buffers=[bytes_[start:end] for start, end in packed.ends])

    def _free(self, place: Place) -> None:
        self.taken[place] = 0


_NUMBERS = itertools.count()
_RINGS: weakref.WeakValueDictionary[int, BatchRing] = weakref.WeakValueDictionary()
"""Of this process, for torch's thread that pins memory: it gets no more than what travelled."""


def _reduce_tensor(tensor: Tensor) -> tuple[Callable[[NDArray[np.generic]], Tensor], tuple[NDArray[np.generic]]]:
    return torch.from_numpy, (tensor.numpy(),)
