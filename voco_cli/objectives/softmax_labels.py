"""Softmax over all classes with Dice and cross entropy, as the authors train, for maps that may know some classes only.

N crops, K classes, L = K + 1 with background, X Y Z voxels of a crop; M pairs of a crop and a class, P voxels.

Source: the loss of the released code, MONAI's ``DiceCELoss(include_background=False, to_onehot_y=True, softmax=True)``;
its label maps know every class. A class that a map does not know is added to background there (marginal loss, Shi et
al., Medical Image Analysis 2021, arXiv 2007.03868); where all are known that changes nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from voco_cli.models.class_union import Inside, exclusive_logits
from voco_cli.objectives.partial_labels import PartialLoss

SMOOTH = 1e-5
"""Added to both sides of the Dice, as MONAI does."""


def softmax_loss(
    logits_NKXYZ: Tensor, targets_NKXYZ: Tensor, known_NK: Tensor, counted_NKXYZ: Tensor, inside: Inside
) -> PartialLoss:
    """Return 1 - Dice plus cross entropy of a softmax over background, whose logit is 0, and the classes.

    The Dice is a mean over crops and the classes that each is labelled for, background left out; the cross entropy one
    over the voxels of all crops that are labelled for any class.

    Args:
        targets_NKXYZ: 0 or 1; of a class and those that it lies inside, the innermost is told.
        known_NK: whether a crop is labelled for a class, on the CPU.
        counted_NKXYZ: whether a voxel counts for a class; it counts where it does for all. Axis K may have length 1.
        inside: of the classes.
    """
    labelled_N = known_NK.any(1)
    if not bool(labelled_N.any()):
        nothing = logits_NKXYZ.sum() * 0
        return PartialLoss(nothing, nothing.detach(), nothing.detach())
    device = logits_NKXYZ.device
    targets_NKXYZ = targets_NKXYZ & known_NK.to(device, non_blocking=True)[:, :, None, None, None]
    index_NXYZ = exclusive_logits(targets_NKXYZ.float() * 2 - 1, inside).argmax(1)
    counted_NXYZ = counted_NKXYZ.all(1) & labelled_N.to(device, non_blocking=True)[:, None, None, None]
    log_NLXYZ = exclusive_logits(logits_NKXYZ.float(), inside).log_softmax(1)
    told_NLXYZ = log_NLXYZ.exp()
    if bool(known_NK.all()):
        entropy_NXYZ = F.nll_loss(log_NLXYZ, index_NXYZ, reduction="none")
    else:
        told_as_NL = told_as(known_NK, inside).to(device, non_blocking=True)
        of_target = told_as_NL[:, :, None, None, None] == index_NXYZ[:, None]
        entropy_NXYZ = -log_NLXYZ.masked_fill(~of_target, -torch.inf).logsumexp(1)
        summed = F.one_hot(told_as_NL, told_NLXYZ.shape[1]).to(told_NLXYZ.dtype)
        told_NLXYZ = torch.einsum("nlxyz,nlm->nmxyz", told_NLXYZ, summed)
    cross_entropy = (entropy_NXYZ * counted_NXYZ).sum() / counted_NXYZ.sum().clamp(min=1)
    crops, classes = (part.to(device, non_blocking=True) for part in known_NK.nonzero(as_tuple=True))
    counted_MP = counted_NXYZ[crops].flatten(1)
    told_MP = told_NLXYZ[crops, classes + 1].flatten(1) * counted_MP
    true_MP = (index_NXYZ[crops].flatten(1) == classes[:, None] + 1) & counted_MP
    dice_M = (2 * (told_MP * true_MP).sum(1) + SMOOTH) / (told_MP.sum(1) + true_MP.sum(1) + SMOOTH)
    dice = dice_M.mean()
    return PartialLoss(1 - dice + cross_entropy, dice.detach(), cross_entropy.detach())


def told_as(known_NK: Tensor, inside: Inside) -> Tensor:
    """Return told_as_NL: as which index each counts, where a label map does not know all classes.

    A class that it knows, and background, count as themselves; another as the smallest class around it that the map
    knows, or as background.
    """
    table = torch.arange(known_NK.shape[1] + 1).repeat(len(known_NK), 1)
    by_size = sorted(inside, key=lambda one: len(one[1]))
    for crop, known_K in enumerate(known_NK.tolist()):
        for k, is_known in enumerate(known_K):
            if not is_known:
                around = (whole + 1 for whole, parts in by_size if k in parts and known_K[whole])
                table[crop, k + 1] = next(around, 0)
    return table
