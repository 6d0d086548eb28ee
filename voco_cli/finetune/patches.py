"""Patches of a segmentation: where the classes of a case lie, and which parts of it the network sees.

N patches of C channels; a patch that reaches outside its volume is filled with zeros and background.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voco_cli.config import Settings
from voco_cli.config.task_schema import Task
from voco_cli.data.cache.grid import IntXYZ
from voco_cli.finetune.dataset import CaseDataset
from voco_cli.finetune.painted_patches import PatchPainter
from voco_cli.objectives.draws import counter_generator
from voco_cli.tasks.cases import StoredCase
from voco_cli.tasks.targets import IGNORED, index_table, refuse_unlisted, unlisted_values

MOST_POINTS = 1000

ANNOTATED = 0
"""In place of a class index: of any annotated voxels, background among them; only where others are ignored."""
Points = Mapping[int, NDArray[np.int16]]
"""Class index, or `ANNOTATED`, to places_P3 of some of its voxels."""


@dataclass(frozen=True)
class LabelSurvey:
    """Content of one label map.

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
    """Return points of all cases by name; label values outside the classes are refused where the task says so.

    Raises:
        DataError: label values that no class has, with the files that hold them.
    """
    points, unlisted = {}, {}
    for case in cases:
        survey = survey_label(case, task)
        points[case.name] = survey.points
        if survey.unlisted and case.entry.label is not None:
            unlisted[case.entry.label] = survey.unlisted
        on_done()
    if task.unlisted == "refuse":
        refuse_unlisted(
            unlisted,
            f"no class of the task {task.name} has",
            "add the classes to the task, or set task.unlisted=background to take them as background",
        )
    return points


def patch_starts(seed: int, number: int, case: str, shape_xyz: IntXYZ, points: Points, task: Task) -> NDArray[np.int64]:
    """Draw lower corners of the patches of a case in batch ``number``, voxels; negative where the volume is smaller.

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
    """Read a patch of every channel, stored numbers, and of the label map, in the label file's own values.

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


class PatchDataset(CaseDataset):
    """Patches of labelled cases.

    Args:
        cases: labelled cases to draw from.
        points: voxels of the classes of each case, from `survey_labels`.
        settings: seed, task, augmentation.
    """

    def __init__(self, cases: Sequence[StoredCase], points: Mapping[str, Points], settings: Settings) -> None:
        super().__init__(cases, settings)
        self.points = points
        self.table = index_table(settings.task.classes, settings.task.ignore_value)
        held = {case.name: points[case.name] for case in cases}
        self.painter = PatchPainter(settings, held) if settings.task.tumours.share > 0 else None

    def read(self, place: int, number: int, name: str) -> tuple[NDArray[Any], NDArray[Any]]:
        """Read the patches of a case and their class indices labels_NXYZ; into some tumours are painted."""
        case, task = self.cases[place], self.settings.task
        starts = patch_starts(self.settings.seed, number, name, case.shape_xyz, self.points[case.name], task)
        read = [self._patch(case, n, start, number, name) for n, start in enumerate(starts.tolist())]
        return np.stack([image for image, _ in read]), np.stack([label for _, label in read])

    def _patch(
        self, case: StoredCase, patch: int, start: list[int], number: int, name: str
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        size = self.settings.task.patch_size
        plan = self.painter.plan(case, number, name, patch) if self.painter else None
        if self.painter is None or plan is None:
            image, label = read_patch(case, start, size)
            return image, self.table[label]
        x, y, z = (edge + 2 * more for edge, more in zip(size, plan.margin_vox, strict=True))
        around = [one - more for one, more in zip(start, plan.margin_vox, strict=True)]
        image, label = read_patch(case, around, (x, y, z))
        return self.painter.paint(image, self.table[label], plan)
