"""Dice and cross entropy of a segmentation, and the same where some voxels were annotated by nobody.

N patches, K outputs of the network, X x Y x Z voxels.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from voco_cli.downstream.batches.label_values import IGNORED
from voco_cli.settings.task import Task


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
