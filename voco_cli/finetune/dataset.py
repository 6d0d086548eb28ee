"""From cached volumes to batches of patches: what the loader processes of a segmentation do.

N patches of C channels; a patch that reaches outside its volume is filled with zeros and background.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from voco_cli.config import Settings
from voco_cli.config.task_schema import Task
from voco_cli.data.cache.grid import IntXYZ
from voco_cli.data.index.datalist import Entry
from voco_cli.errors import DataError, UsageError, VocoError
from voco_cli.finetune.augment import PatchDraws, draw_patches, join_draws
from voco_cli.objectives.voco.crops import counter_generator
from voco_cli.tasks.cases import IGNORED, StoredCase, index_table, unlisted_values


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


MOST_POINTS = 1000
MOST_NAMED = 5

ANNOTATED = 0
"""In place of a class index: of any annotated voxels, background among them; only where others are ignored."""
Points = Mapping[int, NDArray[np.int16]]
"""Class index, or `ANNOTATED`, to places_P3 of some of its voxels."""


@dataclass(frozen=True)
class LabelSurvey:
    """What one label map holds.

    Attributes:
        points: for each class that is there, and for what is annotated where not all is, up to `MOST_POINTS` of its
            voxels, drawn evenly.
        unlisted: label values that no class has.
    """

    points: Points
    unlisted: tuple[int, ...]


def survey_label(case: StoredCase, task: Task) -> LabelSurvey:
    """Decode the label map of a case and note where its classes lie; the same case gives the same points.

    Raises:
        DataError: the label map is missing or damaged.
    """
    labels = case.volumes[0].read_label((0, 0, 0), case.shape_xyz)
    found = np.flatnonzero(np.bincount(labels.ravel()))
    indices = index_table(task.classes, task.ignore_value)[labels].ravel()
    groups: dict[int, NDArray[np.intp]] = {}
    foreground = np.flatnonzero(indices)
    if task.ignore_value is not None and task.ignore_value in found:
        groups[ANNOTATED] = np.flatnonzero(indices != IGNORED)
        foreground = np.flatnonzero((indices != 0) & (indices != IGNORED))
    order = foreground[np.argsort(indices[foreground], kind="stable")]
    generator = counter_generator(0, 0, case.name, "points")
    points = {}
    by_class = np.split(order, np.flatnonzero(np.diff(indices[order])) + 1)
    for index, group in {**{int(indices[one[0]]): one for one in by_class if one.size}, **groups}.items():
        if group.size:
            chosen = group if group.size <= MOST_POINTS else generator.choice(group, MOST_POINTS, replace=False)
            places = np.stack(np.unravel_index(chosen, labels.shape), axis=1)
            points[index] = places.astype(np.int16)
    return LabelSurvey(points, tuple(unlisted_values(found.tolist(), task.classes, task.ignore_value)))


def survey_labels(
    cases: Sequence[StoredCase], task: Task, on_done: Callable[[], None] = lambda: None
) -> dict[str, Points]:
    """Points of all cases by name; label values outside the classes are refused where the task says so.

    Raises:
        DataError: label values that no class has, with the files that hold them.
    """
    points, faults = {}, []
    for case in cases:
        survey = survey_label(case, task)
        points[case.name] = survey.points
        if survey.unlisted:
            faults.append(f"{case.entry.label} holds {', '.join(map(str, survey.unlisted))}")
        on_done()
    if faults and task.unlisted == "refuse":
        more = f" and {len(faults) - MOST_NAMED} more files" if len(faults) > MOST_NAMED else ""
        raise DataError(
            f"Label values that no class of the task {task.name} has: {'; '.join(faults[:MOST_NAMED])}{more}.",
            "add the classes to the task, or set task.unlisted=background to take them as background",
        )
    return points


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
