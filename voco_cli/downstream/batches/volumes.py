"""From cached scans to batches of whole volumes with their category: what the loader processes of a classification do.

N volumes of C channels, all of one size; K categories.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from voco_cli.dataset.datalist import Entry
from voco_cli.downstream.batches.augment import PatchDraws, draw_patches, join_draws
from voco_cli.downstream.batches.stored_case import StoredCase
from voco_cli.errors import DataError, UsageError, VocoError
from voco_cli.settings import Settings
from voco_cli.settings.task import Task


class CaseVolume(NamedTuple):
    """One case in one step, as stored, with what will happen to it."""

    name: str
    volume_CXYZ: NDArray[Any]
    category: int
    draws: PatchDraws


class VolumeBatch(NamedTuple):
    """Cases of a step."""

    names: list[str]
    volumes_NCXYZ: Tensor
    categories_N: Tensor
    draws: PatchDraws


def category_index(task: Task, entry: Entry) -> int:
    """Position of a case's category among the classes of the task.

    Raises:
        DataError: the case has no category, or one that the task does not have.
    """
    names = [one.name for one in task.classes]
    if entry.category is None:
        raise DataError(f"The case {entry.name} has no category.", "give it one in task.table or in data.json")
    if entry.category not in names:
        raise DataError(
            f"The case {entry.name} has the category {entry.category!r}, and the task has {', '.join(names)}.",
            "correct the table, or add the category to task.classes",
        )
    return names.index(entry.category)


def category_weights(categories: Sequence[int], num_categories: int) -> NDArray[np.float32]:
    """Weight of a case of each category in the loss: inverse to how often it occurs, 1 on average over the cases.

    So every category has the same say, however rare; a category without cases has the weight 0.

    Raises:
        UsageError: fewer than two categories have cases, so that there is nothing to tell apart.
    """
    counts = Counter(categories)
    if len(counts) < 2:
        raise UsageError(
            f"The {len(categories)} training cases are of {len(counts)} category, and two are needed to learn from.",
            "train on more cases, or draw another split with seed",
        )
    balanced = [
        len(categories) / (len(counts) * counts[index]) if counts[index] else 0.0 for index in range(num_categories)
    ]
    return np.array(balanced, np.float32)


def read_volume(case: StoredCase) -> NDArray[Any]:
    """All channels of a case, volume_CXYZ in the stored number format.

    Raises:
        DataError: a cached volume is damaged.
    """
    return np.stack([volume.read((0, 0, 0), case.shape_xyz) for volume in case.volumes])


class VolumeDataset(Dataset[CaseVolume | VocoError]):
    """Volumes of (batch number, case index); everything random depends on seed, batch number and case alone.

    Args:
        cases: to draw from; an index is taken modulo their number.
        settings: seed, task, augmentation.
    """

    def __init__(self, cases: Sequence[StoredCase], settings: Settings) -> None:
        self.cases = list(cases)
        self.categories = [category_index(settings.task, case.entry) for case in cases]
        self.settings = settings

    def __getitem__(self, key: tuple[int, int]) -> CaseVolume | VocoError:
        """A volume and its category, or the error that kept it away, to be raised where the user sees it."""
        number, index = key
        times, place = divmod(index, len(self.cases))
        case, settings = self.cases[place], self.settings
        try:
            volume = read_volume(case)
            spacing_mm = case.volumes[0].metadata.record.spacing_mm
        except VocoError as error:
            return error
        # A case that stands twice in a batch of few cases must not be changed twice alike.
        draws = draw_patches(settings.seed, number, f"{case.name}\0{times}", 1, spacing_mm, settings.augment)
        return CaseVolume(case.name, volume, self.categories[place], draws)


def collate_volumes(items: Sequence[CaseVolume | VocoError]) -> VolumeBatch | VocoError:
    """Put cases together."""
    for item in items:
        if isinstance(item, VocoError):
            return item
    cases = [item for item in items if not isinstance(item, VocoError)]
    return VolumeBatch(
        names=[case.name for case in cases],
        volumes_NCXYZ=torch.from_numpy(np.stack([case.volume_CXYZ for case in cases])),
        categories_N=torch.tensor([case.category for case in cases]),
        draws=join_draws([case.draws for case in cases]),
    )
