"""From cached scans to batches of whole volumes with their category: what the loader processes of a classification do.

N volumes of C channels, all of one size; K categories.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from voco_cli.cache.volume import IntXYZ
from voco_cli.dataset.datalist import Entry
from voco_cli.downstream.augment import PatchDraws, draw_patches, join_draws
from voco_cli.downstream.stored_case import StoredCase
from voco_cli.errors import DataError, UsageError, VocoError
from voco_cli.settings import Settings
from voco_cli.settings.sections import Model
from voco_cli.settings.task import Task

MOST_NAMED = 5


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
    """Position of a case's category among the classes of the task, by its name or else by its value.

    Raises:
        DataError: the case has no category, or one that the task does not have.
    """
    names = [one.name for one in task.classes]
    if entry.category in names:
        return names.index(entry.category)
    for position, one in enumerate(task.classes):
        if entry.category in {str(value) for value in one.values}:
            return position
    if entry.category is None:
        raise DataError(f"The case {entry.name} has no category.", "give it one in task.table or in data.json")
    raise DataError(
        f"The case {entry.name} has the category {entry.category!r}, and the task {task.name} has "
        f"{', '.join(repr(name) for name in names)}.",
        "correct the table, or add the category to task.classes",
    )


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


def require_one_size(cases: Sequence[StoredCase], settings: Settings) -> IntXYZ:
    """The size that all volumes have, voxels.

    Raises:
        UsageError: they differ, are too small for the network, or cannot be turned by quarters as asked for.
    """
    sizes = Counter(case.shape_xyz for case in cases)
    if len(sizes) > 1:
        listed = ", ".join(_extent(size) for size, _ in sizes.most_common(MOST_NAMED))
        raise UsageError(
            f"The volumes of a classification must have one size, and there are {len(sizes)}: {listed}.",
            "set preprocess.resize_vox",
        )
    size = next(iter(sizes))
    if math.prod(deepest_size(settings.model, size)) < 2:
        raise UsageError(
            f"Volumes of {_extent(size)} voxels shrink to a single one in the deepest level of the network.",
            "choose a larger preprocess.resize_vox or a smaller model.levels",
        )
    if settings.augment.rotate_prob > 0 and size[0] != size[1]:
        raise UsageError(
            f"Volumes of {_extent(size)} voxels cannot be turned by a quarter, as augment.rotate_prob asks for.",
            "set augment.rotate_prob=0, or a preprocess.resize_vox that is square in the plane",
        )
    return size


def deepest_size(model: Model, size_xyz: IntXYZ) -> IntXYZ:
    """Voxels along x, y, z that the last level of the encoder sees."""
    halvings = 5 if model.backbone == "swinunetr" else model.levels - 1
    x, y, z = (math.ceil(edge / 2**halvings) for edge in size_xyz)
    return (x, y, z)


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


def _extent(size: Sequence[int]) -> str:
    return "x".join(map(str, size))
