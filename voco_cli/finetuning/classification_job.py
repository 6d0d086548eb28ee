"""Classification of whole scans as a job of the engine."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from voco_cli.downstream.augment import augment_patches
from voco_cli.downstream.classification_batches import (
    VolumeBatch,
    VolumeDataset,
    category_index,
    category_weights,
    collate_volumes,
    read_volume,
)
from voco_cli.downstream.stored_case import StoredCase
from voco_cli.engine.job import ParameterGroup, Place, Values
from voco_cli.engine.loading import load_batches
from voco_cli.evaluation.classification import ScoredCases, measure
from voco_cli.finetuning.case_batches import case_batches, cases_digest, refuse_other_cases
from voco_cli.finetuning.parameter_groups import parameter_groups
from voco_cli.finetuning.segmentation_job import about_model
from voco_cli.method.augment import to_unit
from voco_cli.networks.classifier import Classifier, build_classifier
from voco_cli.networks.encoders import plan_grouping
from voco_cli.networks.weights import patch_merging_of, set_patch_merging, write_model
from voco_cli.settings import Settings


class ClassificationJob:
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

    score_name = "error"

    def __init__(
        self,
        settings: Settings,
        training: Sequence[StoredCase],
        validation: Sequence[StoredCase],
        device: torch.device,
    ) -> None:
        self.settings = settings
        self.training, self.validation = training, validation
        self.dataset = VolumeDataset(training, settings)
        self.truth_N = np.array([category_index(settings.task, case.entry) for case in validation], np.intp)
        self.weights_K = torch.from_numpy(category_weights(self.dataset.categories, settings.task.num_outputs))
        self.model: nn.Module = build_network(settings, device)
        self.groups = parameter_groups(self.model, settings)
        self.score_words = "AUC" if len(set(self.truth_N.tolist())) > 1 else "accuracy"
        self.history: dict[str, dict[str, float]] = {}
        self.place: Place | None = None

    def parameter_groups(self) -> list[ParameterGroup]:
        """By level of the encoder, see :mod:`voco_cli.finetuning.parameter_groups`."""
        return self.groups

    def start(self, place: Place) -> None:
        """Remember where we run."""
        self.place = place
        self.weights_K = self.weights_K.to(place.device)

    def batches(self, first: int, last: int) -> Generator[Any, None, None]:
        """Batches of this process, from a loader whose processes end when the generator is closed."""
        assert self.place is not None
        plan = case_batches(self.settings, len(self.training), self.place)
        yield from load_batches(self.dataset, plan, (first, last), collate_volumes, self.settings.data, self.place)

    def cases(self, batch: VolumeBatch) -> Sequence[str]:
        """Names of the cases of a batch."""
        return batch.names

    def loss(self, model: nn.Module, batch: VolumeBatch, *, first_of_step: bool) -> Mapping[str, Tensor]:
        """Copy stored volumes to the device, augment them there, and compute the loss."""
        assert self.place is not None
        device = self.place.device
        volumes, _ = augment_patches(batch.volumes_NCXYZ.to(device, non_blocking=True), None, batch.draws)
        categories_N = batch.categories_N.to(device, non_blocking=True)
        logits_NK = model(volumes).float()
        right = (logits_NK.detach().argmax(dim=1) == categories_N).float().mean()
        return {"loss": weighted_cross_entropy(logits_NK, categories_N, self.weights_K), "accuracy": right}

    def validate(self, step: int) -> Values:
        """Figures on the validation cases; nothing at step 0, where the head is noise.

        ``error`` is 1 - AUC, or 1 - accuracy where the cases are all of one category.
        """
        assert self.place is not None
        if not self.validation or step == 0:
            return {}
        place = self.place
        training = self.model.training
        self.model.eval()
        mine = [self.logits(case).tolist() for case in self.validation[place.process :: place.num_processes]]
        self.model.train(training)
        rows = gather_object(mine) if place.num_processes > 1 else mine
        # The processes' rows lie one process after the other; back to the order of the cases.
        order = [i for p in range(place.num_processes) for i in range(p, len(self.validation), place.num_processes)]
        logits_NK = np.empty((len(rows), self.settings.task.num_outputs))
        logits_NK[order] = rows
        figures = self.figures(logits_NK)
        self.history[str(step)] = figures
        return figures

    def logits(self, case: StoredCase) -> Tensor:
        """Logits_K of a case as it is, float32 on the CPU."""
        assert self.place is not None
        volume = torch.from_numpy(read_volume(case))[None].to(self.place.device)
        with torch.no_grad(), self.place.autocast():
            logits_1K: Tensor = self.model(to_unit(volume))
        return logits_1K[0].float().cpu()

    def figures(self, logits_NK: NDArray[np.float64]) -> dict[str, float]:
        """Figures of the validation cases from their logits; what is not defined is not there."""
        logits = torch.from_numpy(logits_NK)
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

    def state(self) -> dict[str, Any]:
        """Validations so far, the slices of the network's patch merging, and a fingerprint of the cases."""
        return {
            "history": self.history,
            "patch_merging": patch_merging_of(self.model),
            "num_cases": len(self.training),
            "cases": cases_digest(self.training),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """The inverse of :meth:`state`.

        Raises:
            UsageError: other cases can be used now, so that the batches would be others.
        """
        refuse_other_cases(state, self.training)
        if state["patch_merging"] is not None:
            set_patch_merging(self.model, state["patch_merging"])
        self.history = state["history"]

    def export(self, folder: Path, step: int, **more: Any) -> None:
        """Write the network as it is now; ``more`` is said of it too."""
        write_model(folder, self.model, {**about_model(self.settings, self.model, step, self.history), **more})


def build_network(settings: Settings, device: torch.device) -> Classifier:
    """The network of the settings, with weights from their seed.

    Args:
        device: where it will run; decides how volumes go through the encoder.
    """
    task, size = settings.task, settings.preprocess.resize_vox
    assert size is not None  # the settings see to it
    grouping = plan_grouping(settings.model, settings.train.batch_size, size, device)
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
