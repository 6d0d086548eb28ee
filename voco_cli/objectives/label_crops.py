"""Crops of labelled cases with their label maps: what loader processes draw for objectives that learn from labels.

S crops of a case, N of a step, K classes, R rows of `CaseLabels.members`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from voco_cli.config.schema import Augment
from voco_cli.data.case_labels import IGNORED
from voco_cli.objectives.augment import orient
from voco_cli.objectives.draws import AugmentDraws, counter_generator, draw_augmentation
from voco_cli.objectives.objective import Case, Sampler

MOST_POINTS = 200
"""Voxels of a class of a case that crops are centred on."""
REMEMBERED = 1024
"""Cases whose points a loader process keeps, about a kilobyte a class each."""


class LabelledCrops(NamedTuple):
    """Random crops of one labelled case, as stored, with the row of each voxel and what the case knows of classes."""

    crops_SXYZ: NDArray[np.generic]
    rows_SXYZ: NDArray[np.uint8]
    members_RK: NDArray[np.bool_]
    complete_K: NDArray[np.bool_]
    draws: AugmentDraws


class PartlyLabelledBatch(NamedTuple):
    """Crops of a step, case by case, with what `LabelledCrops` has of each; cases of fewer rows have empty ones."""

    crops_NXYZ: Tensor
    rows_NXYZ: Tensor
    members_NRK: Tensor
    complete_NK: Tensor
    flips_N3: Tensor
    turns_N: Tensor
    shifts_N: Tensor

    def moved_rows(self, device: torch.device) -> Tensor:
        """Return the rows on the device, flipped and turned as the crops are."""
        return orient(self.rows_NXYZ.to(device, non_blocking=True), self.flips_N3, self.turns_N)


@dataclass(frozen=True)
class LabelSampler(Sampler):
    """Crops of labelled cases; where a case of the step has no labels, one that has takes its place.

    Attributes:
        seed: of every draw.
        size_vox: of a crop.
        per_volume: crops of a case.
        num_classes: K.
        foreground_share: of the crops centred on a voxel of a class, each class of the case as often as another.
        augment: flips, quarter turns, shifts.
        cases: those with labels, for the places of those without.
        shares: cumulative probabilities of these; empty where all are as likely.
    """

    seed: int
    size_vox: tuple[int, int, int]
    per_volume: int
    num_classes: int
    foreground_share: float
    augment: Augment
    cases: tuple[Case, ...] = ()
    shares: tuple[float, ...] = ()

    def draw(self, case: Case, step: int) -> LabelledCrops:
        """Return crops of the case, or of one in its place."""
        labelled = case
        if case.labels is None:
            labelled = stand_in(self.cases, self.shares, counter_generator(self.seed, step, case.name, "labelled case"))
        labels, volume = labelled.labels, labelled.volume
        assert labels is not None
        # By the case of the step: two that stand in for it may be the same, and their crops are not.
        generator = counter_generator(self.seed, step, case.name, "label crops")
        starts = crop_starts(generator, labelled, self.size_vox, self.per_volume, self.foreground_share)
        places = [(x, y, z) for x, y, z in starts.tolist()]
        return LabelledCrops(
            np.stack([volume.read(place, self.size_vox) for place in places]),
            np.stack([labels.rows(volume.read_label(place, self.size_vox)) for place in places]),
            labels.members(self.num_classes),
            labels.is_complete(self.num_classes),
            draw_augmentation(self.seed, step, f"labels of {case.name}", self.per_volume, self.augment),
        )

    def collate(self, samples: Sequence[LabelledCrops]) -> PartlyLabelledBatch:
        """Put the crops of all cases together."""
        each = [len(one.crops_SXYZ) for one in samples]
        most = max(len(one.members_RK) for one in samples)
        members = [np.pad(one.members_RK, [(0, most - len(one.members_RK)), (0, 0)]) for one in samples]
        parts = (
            np.concatenate([one.crops_SXYZ for one in samples]),
            np.concatenate([one.rows_SXYZ for one in samples]),
            np.repeat(np.stack(members), each, axis=0),
            np.repeat(np.stack([one.complete_K for one in samples]), each, axis=0),
            np.concatenate([one.draws.flips_N3 for one in samples]),
            np.concatenate([one.draws.turns_N for one in samples]),
            np.concatenate([one.draws.shifts_N for one in samples]),
        )
        return PartlyLabelledBatch(*map(torch.from_numpy, parts))


def stand_in(cases: Sequence[Case], shares: Sequence[float], generator: np.random.Generator) -> Case:
    """Draw the case that takes the place of one without labels.

    Args:
        shares: cumulative probabilities; empty where all are as likely.
    """
    if not shares:
        return cases[int(generator.integers(len(cases)))]
    return cases[min(int(np.searchsorted(shares, generator.random(), side="right")), len(cases) - 1)]


def crop_starts(
    generator: np.random.Generator, case: Case, size_vox: Sequence[int], count: int, foreground_share: float
) -> NDArray[np.int64]:
    """Draw starts_S3, the lower corners of crops, voxels.

    A share is centred on a voxel of a class and moved inside where it would reach over the edge; the others lie
    anywhere, and so do all of a case without a voxel of any class.
    """
    points = class_points(case) if foreground_share > 0 else {}
    size, room = np.array(size_vox), np.subtract(case.volume.shape_xyz, size_vox)
    starts = []
    for _ in range(count):
        start = generator.integers(0, room, endpoint=True)
        if generator.random() < foreground_share and points:
            places = points[sorted(points)[generator.integers(len(points))]]
            start = np.clip(places[generator.integers(len(places))] - size // 2, 0, room)
        starts.append(start)
    return np.stack(starts).astype(np.int64)


@lru_cache(maxsize=REMEMBERED)
def class_points(case: Case) -> Mapping[int, NDArray[np.int16]]:
    """Return places_P3 of up to `MOST_POINTS` voxels of each class that a case has; the same case, the same points.

    Raises:
        DataError: the label map is damaged.
    """
    assert case.labels is not None
    rows = case.labels.rows(case.volume.read_label((0, 0, 0), case.volume.shape_xyz)).ravel()
    there = np.flatnonzero((rows > 0) & (rows != IGNORED))
    order = there[np.argsort(rows[there], kind="stable")]
    of_row = {
        int(rows[group[0]]): group for group in np.split(order, np.flatnonzero(np.diff(rows[order])) + 1) if group.size
    }
    generator = counter_generator(0, 0, case.name, "points")
    points = {}
    for index in sorted({one for _, classes in case.labels.values for one in classes}):
        groups = [of_row[r] for r, (_, classes) in enumerate(case.labels.values, 1) if index in classes and r in of_row]
        if groups:
            voxels = np.concatenate(groups)
            chosen = voxels if len(voxels) <= MOST_POINTS else generator.choice(voxels, MOST_POINTS, replace=False)
            points[index] = np.stack(np.unravel_index(chosen, case.volume.shape_xyz), axis=1).astype(np.int16)
    return points
