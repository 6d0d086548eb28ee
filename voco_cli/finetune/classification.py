"""Classification of whole scans as a job of the engine."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from voco_cli.config import Settings
from voco_cli.evaluate.classification.metrics import ScoredCases, measure
from voco_cli.finetune.augment import augment_patches
from voco_cli.finetune.dataset import (
    VolumeBatch,
    VolumeDataset,
    category_index,
    category_weights,
    collate_volumes,
    read_volume,
)
from voco_cli.finetune.labelled_task import LabelledTask, case_batches
from voco_cli.models.build import Classifier, build_classifier
from voco_cli.models.memory import plan_grouping
from voco_cli.objectives.voco.augment import to_unit
from voco_cli.tasks.cases import StoredCase
from voco_cli.training.dataloader import load_batches
from voco_cli.training.distributed import in_half
from voco_cli.training.task import DeviceContext


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
    ) -> None:
        super().__init__(settings, training, validation, build_network(settings, device))
        self.dataset = VolumeDataset(training, settings)
        self.truth_N = np.array([category_index(settings.task, case.entry) for case in validation], np.intp)
        self.weights_K = torch.from_numpy(category_weights(self.dataset.categories, settings.task.num_outputs))
        self.score_words = "AUC" if len(set(self.truth_N.tolist())) > 1 else "accuracy"

    def start(self, place: DeviceContext) -> None:
        """Remember where we run, and weigh categories there."""
        super().start(place)
        self.weights_K = self.weights_K.to(place.device)

    def batches(self, first: int, last: int) -> Generator[Any, None, None]:
        """Batches of this process, from a loader whose processes end when the generator is closed."""
        plan = case_batches(self.settings, len(self.training), self.here)
        yield from load_batches(self.dataset, plan, (first, last), collate_volumes, self.settings.data, self.here)

    def train_step(self, model: nn.Module, batch: VolumeBatch, *, first_of_step: bool) -> Mapping[str, Tensor]:
        """Copy stored volumes to the device, augment them there, and compute the loss."""
        device = self.here.device
        volumes, _ = augment_patches(batch.volumes_NCXYZ.to(device, non_blocking=True), None, batch.draws)
        categories_N = batch.categories_N.to(device, non_blocking=True)
        logits_NK = model(volumes).float()
        right = (logits_NK.detach().argmax(dim=1) == categories_N).float().mean()
        return {"loss": weighted_cross_entropy(logits_NK, categories_N, self.weights_K), "accuracy": right}

    def measure_case(self, case: StoredCase) -> list[float]:
        """Logits of the case as it is."""
        logits: list[float] = self.logits(case).tolist()
        return logits

    def logits(self, case: StoredCase) -> Tensor:
        """Logits_K of a case as it is, float32 on the CPU."""
        volume = torch.from_numpy(read_volume(case))[None].to(self.here.device)
        with torch.no_grad(), self.here.autocast():
            logits_1K: Tensor = self.model(to_unit(volume))
        return logits_1K[0].float().cpu()

    def figures(self, rows: NDArray[np.float64]) -> dict[str, float]:
        """Figures of the validation cases from their logits; what is not defined is not there.

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


def build_network(settings: Settings, device: torch.device) -> Classifier:
    """The network of the settings, with weights from their seed.

    Args:
        device: where it will run; decides how volumes go through the encoder.
    """
    task, size = settings.task, settings.preprocess.resize_vox
    assert size is not None  # the settings see to it
    grouping = plan_grouping(
        settings.model, settings.train.batch_size, size, device, half=in_half(settings.run, device)
    )
    torch.manual_seed(settings.seed)
    return build_classifier(
        settings.model,
        len(task.channels),
        task.num_outputs,
        group_size=grouping.size,
        recompute=grouping.recompute,
    )


def weighted_cross_entropy(logits_NK: Tensor, categories_N: Tensor, weights_K: Tensor) -> Tensor:
    """Mean over the cases of weight times cross entropy.

    torch's own ``weight`` divides by the sum of the weights in the batch: in a batch of one case, or of one category,
    they would then not count at all.
    """
    losses_N = F.cross_entropy(logits_NK, categories_N, reduction="none")
    return (losses_N * weights_K[categories_N]).mean()
