"""Segmentation as a training task: patches in, Dice and cross entropy, validation on whole scans."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from voco_cli.config import Settings
from voco_cli.config.task_schema import Task
from voco_cli.data.cache.preprocess import on_scan_grid
from voco_cli.data.io.image import whole_labels
from voco_cli.data.io.reader import read_scan
from voco_cli.errors import DataError
from voco_cli.evaluate.segmentation.evaluate import Progress, no_progress
from voco_cli.evaluate.segmentation.metrics import Counts, dice
from voco_cli.evaluate.statistics import nan_mean
from voco_cli.finetune.augment import augment_patches
from voco_cli.finetune.dataset import LabelledBatch
from voco_cli.finetune.labelled_task import LabelledTask
from voco_cli.finetune.patches import PatchDataset, Points, survey_labels
from voco_cli.models.build import build_task_network
from voco_cli.models.memory import kept_bytes, room_bytes
from voco_cli.predict.segmentation import segment
from voco_cli.tasks.cases import StoredCase
from voco_cli.tasks.targets import IGNORED, index_table
from voco_cli.training.callbacks import Values
from voco_cli.training.distributed import in_half


def segmentation_loss(task: Task) -> nn.Module:
    """Build the loss of a task: from logits_NKXYZ and labels_N1XYZ to a scalar."""
    if task.ignore_value is not None:
        return AnnotatedDiceCE(include_background=task.dice_background)
    from monai.losses import DiceCELoss  # late: MONAI loads all of itself, and is here with the network

    usual: nn.Module = DiceCELoss(include_background=task.dice_background, to_onehot_y=True, softmax=True)
    return usual


class AnnotatedDiceCE(nn.Module):
    """Soft Dice plus cross entropy of the annotated voxels alone; what is `IGNORED` has a gradient of exactly 0.

    Masked after the softmax: masked logits would count as a probability of 1 / K in every class. Without ignored voxels
    it is MONAI's ``DiceCELoss``; where all of a patch is ignored, it is 0.

    Args:
        include_background: whether background counts in the Dice part.
    """

    def __init__(self, include_background: bool) -> None:
        super().__init__()
        from monai.losses import DiceLoss  # late, as above

        self.dice = DiceLoss(include_background=include_background)

    def forward(self, logits_NKXYZ: Tensor, labels_N1XYZ: Tensor) -> Tensor:
        """Return the loss, a scalar."""
        annotated_N1XYZ = labels_N1XYZ != IGNORED
        targets_NXYZ = labels_N1XYZ[:, 0].long()
        background_NXYZ = targets_NXYZ.masked_fill(~annotated_N1XYZ[:, 0], 0)
        one_hot_NKXYZ = F.one_hot(background_NXYZ, logits_NKXYZ.shape[1]).movedim(-1, 1)
        dice: Tensor = self.dice(logits_NKXYZ.softmax(1) * annotated_N1XYZ, one_hot_NKXYZ * annotated_N1XYZ)
        summed = F.cross_entropy(logits_NKXYZ, targets_NXYZ, ignore_index=IGNORED, reduction="sum")
        return dice + summed / annotated_N1XYZ.sum().clamp(min=1)


TOGETHER_VOX = 64**3
"""Voxels of patches that go through the network at once on a CPU. More cost memory and save no time; small patches one
by one take up to twice as long, as torch computes convolutions of few voxels by a plain loop."""


class SegmentationTask(LabelledTask):
    """Batches of patches, Dice and cross entropy, and validation on whole scans.

    Args:
        settings: the resolved settings.
        training, validation: labelled cases.
        device: where it will run.
        progress: shows how far the survey of the label maps is.
        points: voxels of the classes of each training case; none is to look for them.
    Raises:
        DataError: label values that no class of the task has.
    """

    score_words = "mean Dice"

    def __init__(
        self,
        settings: Settings,
        training: Sequence[StoredCase],
        validation: Sequence[StoredCase],
        device: torch.device,
        progress: Progress = no_progress,
        points: Mapping[str, Points] | None = None,
    ) -> None:
        if points is None:
            labelled = [*training, *validation]
            with progress("labels", len(labelled)) as advance:
                points = survey_labels(labelled, settings.task, advance)
        recompute = needs_recomputing(settings, device)
        by_patch = device.type == "cpu"
        super().__init__(settings, training, validation, build_network(settings, recompute and not by_patch))
        self.dataset = PatchDataset(training, points, settings)
        self.by_patch, self.recompute_patches = by_patch, recompute and by_patch
        self.criterion = segmentation_loss(settings.task)

    def train_step(self, model: nn.Module, batch: LabelledBatch, *, first_of_step: bool) -> Mapping[str, Tensor]:
        """Copy stored patches to the device, augment them there, and compute the loss."""
        device = self.here.device
        images = batch.images_NCXYZ.to(device, non_blocking=True)
        labels = batch.targets.to(device, non_blocking=True)
        images, moved = augment_patches(images, labels, batch.draws)
        assert moved is not None
        logits = self._logits(model, images)
        outputs = logits.float().unbind(1) if self.settings.task.deep_supervision else (logits.float(),)
        return {"loss": supervised_loss(self.criterion, outputs, moved[:, None])}

    def _logits(self, model: nn.Module, images: Tensor) -> Tensor:
        """Return the network's outputs for all patches; on a CPU a few at a time, which bounds the memory.

        Processes that share gradients count their forward passes, so that each makes one there.
        """
        if not self.by_patch or self.here.num_processes > 1:
            whole: Tensor = model(images)
            return whole
        parts = images.split(max(1, TOGETHER_VOX // images[0, 0].numel()))
        if self.recompute_patches:  # activations of one patch at a time, computed again in the backward pass
            return torch.cat([checkpoint(model, part, use_reentrant=False) for part in parts])
        return torch.cat([model(part) for part in parts])

    def measure_case(self, case: StoredCase) -> list[float]:
        """Return the Dice of each class against the label map as it lies on disk; NaN where neither map has the class.

        Ignored voxels are in neither map.

        Raises:
            DataError: the label map cannot be read any more.
        """
        assert case.entry.label is not None
        task = self.settings.task
        try:
            label = on_scan_grid(read_scan(case.entry.label), case.volumes[0].metadata.record)
            labels = whole_labels(label.array_zyx)
        except ValueError as error:
            raise DataError(f"{case.entry.label} {error}.") from error
        prediction, reference = self.predict_indices(case), index_table(task.classes, task.ignore_value)[labels]
        if task.ignore_value is not None:
            annotated = labels != task.ignore_value
            prediction, reference = prediction[annotated], reference[annotated]
        return class_dice(prediction, reference, len(task.classes))

    def figures(self, rows: NDArray[np.float64]) -> dict[str, float]:
        """Return the Dice of every class and their mean, on the scans' own grids."""
        return dice_figures(rows, [one.name for one in self.settings.task.classes])

    def is_defined(self, figures: Values) -> bool:
        """Return whether there was a Dice."""
        return "dice" in figures

    def predict_indices(self, case: StoredCase) -> NDArray[Any]:
        """Predict the class indices_zyx of a case on its scan's own grid."""
        settings, here = self.settings, self.here

        def network(windows: Tensor) -> Tensor:
            with here.autocast():
                logits: Tensor = self.model(windows)
            return logits.float()

        record = case.volumes[0].metadata.record
        size = settings.task.patch_size
        return segment(
            case.read_channels(), record, network, patch_size=size, predict=settings.predict, device=here.device
        )


def needs_recomputing(settings: Settings, device: torch.device) -> bool:
    """Decide whether activations are forgotten and computed again: as the settings have it, or as the memory asks."""
    task, model = settings.task, settings.model
    if model.checkpointing != "auto":
        return model.checkpointing == "on"
    voxels = settings.train.batch_size * task.patches_per_volume * math.prod(task.patch_size)
    # A decoder keeps about as much as an encoder.
    return 2 * kept_bytes(model, device, half=in_half(settings.run, device)) * voxels > room_bytes(device)


def build_network(settings: Settings, recompute: bool) -> nn.Module:
    """Build the network of the settings, with weights from their seed.

    Args:
        recompute: its transformer forgets its activations.
    """
    torch.manual_seed(settings.seed)
    return build_task_network(settings, recompute=recompute)


def supervised_loss(criterion: nn.Module, outputs: Sequence[Tensor], labels_N1XYZ: Tensor) -> Tensor:
    """Return the mean of the losses of all outputs, each with half the weight of the one before."""
    weights = [0.5**level for level in range(len(outputs))]
    losses = [weight * criterion(output, labels_N1XYZ) for weight, output in zip(weights, outputs, strict=True)]
    return torch.stack(losses).sum() / sum(weights)


def class_dice(prediction: NDArray[Any], reference: NDArray[Any], num_classes: int) -> list[float]:
    """Return the Dice of classes 1 to ``num_classes`` of two index maps: 2 |A and B| / (|A| + |B|), NaN for 0 / 0."""
    size = num_classes + 1
    both = np.bincount(reference.ravel().astype(np.int64) * size + prediction.ravel(), minlength=size * size)
    table = both.reshape(size, size)
    of_reference, of_prediction = table.sum(axis=1), table.sum(axis=0)
    return [dice(Counts(int(of_reference[c]), int(of_prediction[c]), int(table[c, c]))) for c in range(1, size)]


def dice_figures(dice_NC: NDArray[np.float64], names: Sequence[str]) -> dict[str, float]:
    """Return the mean Dice of each class over the cases that have it, their mean, and the error, one minus it.

    Where no case has a class and none is predicted there is no Dice, and no error: a false positive, whose Dice is 0,
    is worse.

    The same mean as `voco evaluate` prints in its last row under the rule ``count``.
    """
    by_class = nan_mean(dice_NC, axis=0)
    mean = float(nan_mean(by_class, axis=0))
    there = {f"dice/{name}": float(value) for name, value in zip(names, by_class, strict=True) if not math.isnan(value)}
    return {"error": 0.0} if math.isnan(mean) else {"dice": mean, "error": 1.0 - mean, **there}
