"""Losses of classes of which a label map knows only some: what it is not complete for has no gradient at all.

N crops, K classes, X Y Z voxels of a crop; M pairs of a crop and a class that it is labelled for, P voxels.

Source: sigmoid outputs and losses over the labelled classes as in MultiTalent (Ulrich et al., MICCAI 2023, arXiv
2303.14444) and the CLIP-driven Universal Model (Liu et al., ICCV 2023, arXiv 2301.00785), whose Dice adds 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from voco_cli.data.case_labels import IGNORED

SMOOTH = 1.0
"""Voxels added to both sides of the Dice: a class that is nowhere, and of which nothing is told, has a Dice of 1."""


class PartialLoss(NamedTuple):
    """Scalars: what is minimised, and its parts, each a mean over the classes that something is known of."""

    loss: Tensor
    dice: Tensor
    cross_entropy: Tensor


def targets_of(rows_NXYZ: Tensor, members_NRK: Tensor) -> Tensor:
    """Return targets_NKXYZ, bool: whether a voxel belongs to a class.

    Args:
        rows_NXYZ: row of each voxel in ``members_NRK``; `IGNORED` is read as background.
    """
    rows = rows_NXYZ.long().masked_fill(rows_NXYZ == IGNORED, 0)
    crops = torch.arange(len(rows), device=rows.device).view(-1, 1, 1, 1)
    return members_NRK[crops, rows].movedim(-1, 1)


def partial_loss(logits_NKXYZ: Tensor, targets_NKXYZ: Tensor, known_NK: Tensor, counted_NKXYZ: Tensor) -> PartialLoss:
    """Return 1 - Dice plus cross entropy, the mean over the classes that something is known of.

    Sums of a class are over all its voxels of all crops together, so that a class which a crop lacks counts no less.

    Args:
        targets_NKXYZ: 0 or 1.
        known_NK: whether a crop is labelled for a class, on the CPU, so that nothing waits for the device; the logits
            of others are never read.
        counted_NKXYZ: whether a voxel counts for a class; axis K may have length 1.
    """
    crops, classes = (part.to(logits_NKXYZ.device, non_blocking=True) for part in known_NK.nonzero(as_tuple=True))
    if not len(crops):  # every process has a gradient, also of crops that nothing is known of
        nothing = logits_NKXYZ.sum() * 0
        return PartialLoss(nothing, nothing.detach(), nothing.detach())
    logits_MP = logits_NKXYZ[crops, classes].flatten(1)
    of_class = classes if counted_NKXYZ.shape[1] > 1 else torch.zeros_like(classes)
    counted_MP = counted_NKXYZ[crops, of_class].flatten(1).to(logits_MP.dtype)
    targets_MP = targets_NKXYZ[crops, classes].flatten(1) * counted_MP
    told_MP = logits_MP.sigmoid() * counted_MP
    entropy_MP = F.binary_cross_entropy_with_logits(logits_MP, targets_MP, reduction="none") * counted_MP
    both, told, true, entropy, voxels = (
        logits_MP.new_zeros(known_NK.shape[1]).index_add(0, classes, part.sum(1))
        for part in (told_MP * targets_MP, told_MP, targets_MP, entropy_MP, counted_MP)
    )
    share = (voxels > 0) / (voxels > 0).sum().clamp(min=1)
    dice = (share * (2 * both + SMOOTH) / (told + true + SMOOTH)).sum()
    cross_entropy = (share * entropy / voxels.clamp(min=1)).sum()
    return PartialLoss(share.sum() - dice + cross_entropy, dice.detach(), cross_entropy.detach())


def deep_loss(
    outputs_NDKXYZ: Tensor,
    targets_NKXYZ: Tensor,
    known_NK: Tensor,
    counted_NKXYZ: Tensor,
    loss: Callable[[Tensor, Tensor, Tensor, Tensor], PartialLoss] = partial_loss,
) -> PartialLoss:
    """Return the mean of the losses of all outputs, each with half the weight of the one before."""
    outputs = outputs_NDKXYZ.unbind(1) if outputs_NDKXYZ.ndim == 6 else (outputs_NDKXYZ,)
    each = [loss(output.float(), targets_NKXYZ, known_NK, counted_NKXYZ) for output in outputs]
    weights = [0.5**level for level in range(len(each))]
    summed = torch.stack([weight * one.loss for weight, one in zip(weights, each, strict=True)]).sum()
    return each[0]._replace(loss=summed / sum(weights))
