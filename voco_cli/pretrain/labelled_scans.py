"""What a network that tells the union of classes is worth on whole labelled scans, in their own space.

K classes, L = K + 1 indices of a prediction, R rows of `CaseLabels.members`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from voco_cli.config import Settings
from voco_cli.data.cache.preprocess import on_scan_grid
from voco_cli.data.case_labels import IGNORED, CaseLabels
from voco_cli.data.io.image import whole_labels
from voco_cli.data.io.reader import read_scan
from voco_cli.errors import DataError
from voco_cli.evaluate.segmentation.metrics import Counts, dice
from voco_cli.evaluate.segmentation.union_of_classes import told_members
from voco_cli.models.class_union import Inside
from voco_cli.objectives.objective import Case
from voco_cli.predict.segmentation import segment


class ScanMeasure:
    """The Dice of each class that a held-out scan is labelled for, as `voco predict` would tell it.

    Args:
        settings: crops, whose size the windows have; how windows overlap.
        label_maps: files of the label maps, by the case's name.
        inside: of the classes.
    """

    def __init__(self, settings: Settings, label_maps: Mapping[str, Path], inside: Inside) -> None:
        self.settings, self.label_maps, self.inside = settings, label_maps, inside

    def __call__(self, case: Case, network: Callable[[Tensor], Tensor], device: torch.device) -> Sequence[float]:
        """Return the Dice of each class; NaN where the label map is not complete for it, or both maps lack it.

        Raises:
            DataError: the label map cannot be read any more.
        """
        assert case.labels is not None
        path, record = self.label_maps[case.name], case.volume.metadata.record
        try:
            labels_zyx = whole_labels(on_scan_grid(read_scan(path), record).array_zyx)
        except ValueError as error:
            raise DataError(f"{path} {error}.") from error
        channels = case.volume.read((0, 0, 0), case.volume.shape_xyz)[None]
        size, predict = self.settings.crops.size, self.settings.predict
        told_zyx = segment(channels, record, network, patch_size=size, predict=predict, device=device)
        num_classes = len(self.settings.objective.supervised.classes)
        return partial_dice(told_zyx, labels_zyx, case.labels, num_classes, self.inside)


def partial_dice(
    told: NDArray[Any], labels: NDArray[Any], case: CaseLabels, num_classes: int, inside: Inside
) -> list[float]:
    """Return the Dice of each class of two maps of one shape.

    Args:
        told: index of the class of each voxel, from 1; 0 is background. A voxel of a class is also one of those that
            it lies inside.
        labels: values of the label map.
    """
    rows = case.rows(labels).ravel()
    counted = rows != IGNORED
    members_RK = case.members(num_classes)
    size = num_classes + 1
    joint = np.bincount(rows[counted].astype(np.int64) * size + told.ravel()[counted], minlength=len(members_RK) * size)
    joint_RL = joint.reshape(len(members_RK), size)
    told_LK = told_members(num_classes, inside)
    both_K = np.einsum("rl,rk,lk->k", joint_RL, members_RK, told_LK)
    true_K, told_K = joint_RL.sum(1) @ members_RK, joint_RL.sum(0) @ told_LK
    complete = case.is_complete(num_classes)
    return [
        dice(Counts(int(true), int(said), int(both))) if known else math.nan
        for true, said, both, known in zip(true_K, told_K, both_K, complete, strict=True)
    ]
