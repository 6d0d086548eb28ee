"""From cached volumes to batches of patches: what the loader processes of a segmentation do.

N patches of C channels; a patch that reaches outside its volume is filled with zeros and background.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from voco_cli.cache.volume import IntXYZ
from voco_cli.downstream.batches.augment import PatchDraws, draw_patches, join_draws
from voco_cli.downstream.batches.label_values import index_table
from voco_cli.downstream.batches.stored_case import StoredCase
from voco_cli.downstream.batches.survey import ANNOTATED, Points
from voco_cli.errors import VocoError
from voco_cli.method.draws import counter_generator
from voco_cli.settings import Settings
from voco_cli.settings.task import Task


class CasePatches(NamedTuple):
    """All patches of one case in one step, as stored, with what will happen to them."""

    name: str
    images_NCXYZ: NDArray[Any]
    labels_NXYZ: NDArray[np.uint8]
    draws: PatchDraws


class PatchBatch(NamedTuple):
    """Patches of a step, case by case."""

    names: list[str]
    images_NCXYZ: Tensor
    labels_NXYZ: Tensor
    draws: PatchDraws


def patch_starts(seed: int, number: int, case: str, shape_xyz: IntXYZ, points: Points, task: Task) -> NDArray[np.int64]:
    """Lower corners of the patches of a case in batch ``number``, voxels; negative where the volume is smaller.

    A share ``task.foreground_share`` is centred on a voxel of a class, each class of the case as often as another, and
    moved inside where it would reach over the edge; the others lie anywhere with equal chance, and so do all of a case
    without foreground. Where voxels are ignored, these others are centred on any annotated voxel. An axis shorter than
    the patch is centred in it.

    Returns:
        starts_N3 with N = ``task.patches_per_volume``.
    """
    generator = counter_generator(seed, number, case, "patches")
    size, shape = np.array(task.patch_size), np.array(shape_xyz)
    room = shape - size
    starts = []
    classes = sorted(set(points) - {ANNOTATED})
    for _ in range(task.patches_per_volume):
        start = generator.integers(0, np.maximum(room, 0) + 1)
        wanted = ANNOTATED
        if classes and generator.random() < task.foreground_share:
            wanted = classes[generator.integers(len(classes))]
        if wanted in points:
            places = points[wanted]
            start = np.clip(places[generator.integers(len(places))] - size // 2, 0, np.maximum(room, 0))
        starts.append(np.where(room < 0, -(-room // 2), start))
    return np.stack(starts).astype(np.int64)


def read_patch(case: StoredCase, start: Sequence[int], size: IntXYZ) -> tuple[NDArray[Any], NDArray[Any]]:
    """A patch of every channel, stored numbers, and of the label map, in the label file's own values.

    Returns:
        image_CXYZ, label_XYZ.
    Raises:
        DataError: a cached volume is damaged, or there is no label map.
    """
    lower = [max(0, one) for one in start]
    upper = [min(edge, one + n) for one, n, edge in zip(start, size, case.shape_xyz, strict=True)]
    corner = (lower[0], lower[1], lower[2])
    inside = (upper[0] - lower[0], upper[1] - lower[1], upper[2] - lower[2])
    around = [(low - one, one + n - up) for low, up, one, n in zip(lower, upper, start, size, strict=True)]
    image = np.stack([volume.read(corner, inside) for volume in case.volumes])
    label = case.volumes[0].read_label(corner, inside)
    return np.pad(image, [(0, 0), *around]), np.pad(label, around)


class PatchDataset(Dataset[CasePatches | VocoError]):
    """Patches of (batch number, case index); everything random depends on seed, batch number and case alone.

    Args:
        cases: labelled cases to draw from.
        points: voxels of the classes of each case, see `survey.survey_labels`.
        settings: seed, task, augmentation.
    """

    def __init__(self, cases: Sequence[StoredCase], points: Mapping[str, Points], settings: Settings) -> None:
        self.cases = list(cases)
        self.points = points
        self.settings = settings
        self.table = index_table(settings.task.classes, settings.task.ignore_value)

    def __getitem__(self, key: tuple[int, int]) -> CasePatches | VocoError:
        """Patches of a case, or the error that kept them away, to be raised where the user sees it."""
        number, index = key
        case, settings = self.cases[index % len(self.cases)], self.settings
        task = settings.task
        # A case that stands twice in a batch of few cases must not give the same patches twice.
        name = f"{case.name}\0{index // len(self.cases)}"
        try:
            starts = patch_starts(settings.seed, number, name, case.shape_xyz, self.points[case.name], task)
            read = [read_patch(case, start.tolist(), task.patch_size) for start in starts]
        except VocoError as error:
            return error
        labels = np.stack([self.table[label] for _, label in read])
        spacing_mm = case.volumes[0].metadata.record.spacing_mm
        draws = draw_patches(settings.seed, number, name, len(starts), spacing_mm, settings.augment)
        return CasePatches(case.name, np.stack([image for image, _ in read]), labels, draws)


def collate_patches(items: Sequence[CasePatches | VocoError]) -> PatchBatch | VocoError:
    """Put cases together."""
    for item in items:
        if isinstance(item, VocoError):
            return item
    cases = [item for item in items if not isinstance(item, VocoError)]
    return PatchBatch(
        names=[case.name for case in cases],
        images_NCXYZ=torch.from_numpy(np.concatenate([case.images_NCXYZ for case in cases])),
        labels_NXYZ=torch.from_numpy(np.concatenate([case.labels_NXYZ for case in cases])),
        draws=join_draws([case.draws for case in cases]),
    )
