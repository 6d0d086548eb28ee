"""Labelled cases as batches: what the loader processes of every kind of task do.

N samples of C channels: the patches of a segmentation, or a whole volume.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from voco_cli.config import Settings
from voco_cli.errors import VocoError
from voco_cli.finetune.augment import PatchDraws, draw_patches, join_draws
from voco_cli.tasks.cases import StoredCase


class CaseSamples(NamedTuple):
    """All samples of one case in one step, as stored, with what will happen to them.

    Attributes:
        targets: what the network should say of them: class indices labels_NXYZ, uint8, or category_N.
    """

    name: str
    images_NCXYZ: NDArray[Any]
    targets: NDArray[Any]
    draws: PatchDraws


class LabelledBatch(NamedTuple):
    """Samples of a step, case by case; see `CaseSamples`."""

    names: list[str]
    images_NCXYZ: Tensor
    targets: Tensor
    draws: PatchDraws


class CaseDataset(Dataset[CaseSamples | VocoError]):
    """Samples of (batch number, case index); everything random depends on seed, batch number and case alone.

    Args:
        cases: to draw from; an index is taken modulo their number.
        settings: seed, task, augmentation.
    """

    def __init__(self, cases: Sequence[StoredCase], settings: Settings) -> None:
        self.cases = list(cases)
        self.settings = settings

    @abstractmethod
    def read(self, place: int, number: int, name: str) -> tuple[NDArray[Any], NDArray[Any]]:
        """Read images_NCXYZ and targets of a case.

        Args:
            place: of the case in the list.
            number: of the batch.
            name: that random draws go by.
        Raises:
            VocoError: a cached volume is damaged.
        """

    def __getitem__(self, key: tuple[int, int]) -> CaseSamples | VocoError:
        """Return samples of a case, or the error that kept them away, to be raised where the user sees it."""
        number, index = key
        times, place = divmod(index, len(self.cases))
        case, settings = self.cases[place], self.settings
        # A case that stands twice in a batch of few cases must not give the same samples twice.
        name = f"{case.name}\0{times}"
        try:
            images, targets = self.read(place, number, name)
            spacing_mm = case.volumes[0].metadata.record.spacing_mm
        except VocoError as error:
            return error
        draws = draw_patches(settings.seed, number, name, len(images), spacing_mm, settings.augment)
        return CaseSamples(case.name, images, targets, draws)


def collate(items: Sequence[CaseSamples | VocoError]) -> LabelledBatch | VocoError:
    """Put cases together; an error among them becomes the batch."""
    for item in items:
        if isinstance(item, VocoError):
            return item
    cases = [item for item in items if not isinstance(item, VocoError)]
    return LabelledBatch(
        names=[case.name for case in cases],
        images_NCXYZ=torch.from_numpy(np.concatenate([case.images_NCXYZ for case in cases])),
        targets=torch.from_numpy(np.concatenate([case.targets for case in cases])),
        draws=join_draws([case.draws for case in cases]),
    )
