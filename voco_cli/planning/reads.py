"""How long a loader process takes to read what a step needs of a case."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

from voco_cli.downstream.batches.patches import PatchDataset, collate_patches
from voco_cli.downstream.batches.stored_case import StoredCase
from voco_cli.downstream.batches.volumes import VolumeDataset, collate_volumes
from voco_cli.errors import VocoError
from voco_cli.operating_system import drop_cached_pages
from voco_cli.planning.tried import Reads
from voco_cli.pretraining.crops import Case, CropDataset, collate
from voco_cli.settings import Settings


def time_reads(cases: Sequence[StoredCase], settings: Settings) -> Reads:
    """Read each case once from the disk and once more, before anything else opens the stored volumes.

    Raises:
        DataError: a stored volume is damaged.
    """
    for volume in (volume for case in cases for volume in case.volumes):
        for path in filter(None, (volume.path, volume.label_path)):
            drop_cached_pages(path)
    dataset, join = _dataset(cases, settings)
    cold, warm = ([_read_s(dataset, index) for index in range(len(cases))] for _ in range(2))
    items = [_item(dataset, i % len(cases)) for i in range(settings.train.batch_size)]
    return Reads(fmean(cold), fmean(warm), _nbytes(join(items)))


def _dataset(cases: Sequence[StoredCase], settings: Settings) -> tuple[Dataset[Any], Callable[[Any], Any]]:
    if settings.task.preset is None:
        return CropDataset([Case(case.name, case.volumes[0]) for case in cases], settings, 1), collate
    if settings.task.kind == "classification":
        return VolumeDataset(cases, settings), collate_volumes
    return PatchDataset(cases, {case.name: {} for case in cases}, settings), collate_patches


def _read_s(dataset: Dataset[Any], index: int) -> float:
    start_s = time.perf_counter()
    _item(dataset, index)
    return time.perf_counter() - start_s


def _item(dataset: Dataset[Any], index: int) -> Any:
    item = dataset[(0, index)]
    if isinstance(item, VocoError):
        raise item
    return item


def _nbytes(value: Any) -> int:
    """Bytes of all tensors in a batch."""
    if isinstance(value, Tensor):
        return int(value.nbytes)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return sum(map(_nbytes, value))
    return 0
