"""Classification as a training task: whole volumes in, weighted cross entropy, AUC on validation cases."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from voco_cli.config import Settings
from voco_cli.config.task_schema import Task
from voco_cli.data.index.datalist import Entry
from voco_cli.errors import DataError, UsageError
from voco_cli.evaluate.classification.metrics import ScoredCases, measure
from voco_cli.evaluate.segmentation.evaluate import Progress, no_progress
from voco_cli.finetune.augment import augment_patches
from voco_cli.finetune.dataset import CaseDataset, LabelledBatch
from voco_cli.finetune.labelled_task import LabelledTask
from voco_cli.models.build import build_task_network
from voco_cli.models.memory import plan_grouping
from voco_cli.objectives.augment import to_unit
from voco_cli.tasks.cases import StoredCase
from voco_cli.training.distributed import in_half
from voco_cli.training.task import DeviceContext


def category_index(task: Task, entry: Entry) -> int:
    """Return the position of a case's category among the classes of the task.

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
    """Return the weight of a case of each category in the loss: inverse to how often it occurs, 1 on average.

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


class VolumeDataset(CaseDataset):
    """Whole volumes of cases with a category, one sample a case.

    Raises:
        DataError: a case without a category of the task.
    """

    def __init__(self, cases: Sequence[StoredCase], settings: Settings) -> None:
        super().__init__(cases, settings)
        self.categories = [category_index(settings.task, case.entry) for case in cases]

    def read(self, place: int, number: int, name: str) -> tuple[NDArray[Any], NDArray[Any]]:
        """Read the volume of a case and its category_N."""
        return self.cases[place].read_channels()[None], np.array([self.categories[place]])


class ClassificationTask(LabelledTask):
    """Network, batches of whole volumes, cross entropy, and validation.

    A case weighs in the loss inversely to how often its category occurs in training, 1 on average, so that a rare
    category is not learned away; the probabilities are those of a world in which all categories are equally common.

    Args:
        settings: the resolved settings.
        training, validation: cases with a category.
        device: where it will run.
    Raises:
        UsageError: fewer than two categories to learn from.
        DataError: a case without a category of the task.
    """

    def __init__(
        self,
        settings: Settings,
        training: Sequence[StoredCase],
        validation: Sequence[StoredCase],
        device: torch.device,
        progress: Progress = no_progress,
    ) -> None:
        super().__init__(settings, training, validation, build_network(settings, device))
        self.dataset = VolumeDataset(training, settings)
        self.truth_N = np.array([category_index(settings.task, case.entry) for case in validation], np.intp)
        self.weights_K = torch.from_numpy(category_weights(self.dataset.categories, settings.task.num_outputs))
        self.score_words = "AUC" if len(set(self.truth_N.tolist())) > 1 else "accuracy"

    def start(self, place: DeviceContext) -> None:
        """Remember the device, and weigh categories there."""
        super().start(place)
        self.weights_K = self.weights_K.to(place.device)

    def train_step(self, model: nn.Module, batch: LabelledBatch, *, first_of_step: bool) -> Mapping[str, Tensor]:
        """Copy stored volumes to the device, augment them there, and compute the loss."""
        device = self.here.device
        volumes, _ = augment_patches(batch.images_NCXYZ.to(device, non_blocking=True), None, batch.draws)
        categories_N = batch.targets.to(device, non_blocking=True)
        logits_NK = model(volumes).float()
        right = (logits_NK.detach().argmax(dim=1) == categories_N).float().mean()
        return {"loss": weighted_cross_entropy(logits_NK, categories_N, self.weights_K), "accuracy": right}

    def measure_case(self, case: StoredCase) -> list[float]:
        """Return the logits of the case as it is."""
        logits: list[float] = self.logits(case).tolist()
        return logits

    def logits(self, case: StoredCase) -> Tensor:
        """Return logits_K of a case as it is, float32 on the CPU."""
        volume = torch.from_numpy(case.read_channels())[None].to(self.here.device)
        with torch.no_grad(), self.here.autocast():
            logits_1K: Tensor = self.model(to_unit(volume))
        return logits_1K[0].float().cpu()

    def figures(self, rows: NDArray[np.float64]) -> dict[str, float]:
        """Return figures of the validation cases from their logits; what is not defined is not there.

        ``error`` is 1 - AUC, or 1 - accuracy where the cases are all of one category.
        """
        logits = torch.from_numpy(rows)
        scored = ScoredCases(
            cases=tuple(case.name for case in self.validation),
            patients=tuple(case.entry.patient for case in self.validation),
            categories=tuple(one.name for one in self.settings.task.classes),
            truth_N=self.truth_N,
            probabilities_NK=logits.softmax(dim=1).numpy(),
        )
        overall, _ = measure(scored, np.ones((1, len(self.validation))))
        values = {name: float(values_1[0]) for name, values_1 in overall.items()}
        values = {name: value for name, value in values.items() if not math.isnan(value)}
        loss = weighted_cross_entropy(logits, torch.from_numpy(self.truth_N), self.weights_K.cpu().double())
        return {**values, "loss": float(loss), "error": 1.0 - values.get("auc", values["accuracy"])}


def build_network(settings: Settings, device: torch.device) -> nn.Module:
    """Build the network of the settings, with weights from their seed.

    Args:
        device: where it will run; decides how volumes go through the encoder.
    """
    batch, size, half = settings.train.batch_size, settings.input_size_vox, in_half(settings.run, device)
    grouping = plan_grouping(settings.model, batch, size, device, half=half)
    torch.manual_seed(settings.seed)
    return build_task_network(settings, group_size=grouping.size, recompute=grouping.recompute)


def weighted_cross_entropy(logits_NK: Tensor, categories_N: Tensor, weights_K: Tensor) -> Tensor:
    """Return the mean over the cases of weight times cross entropy.

    torch's own ``weight`` divides by the sum of the weights in the batch: in a batch of one case, or of one category,
    they would then not count at all.
    """
    losses_N = F.cross_entropy(logits_NK, categories_N, reduction="none")
    return (losses_N * weights_K[categories_N]).mean()
