"""The terms that VoCo minimises, as pure functions, batched over leading dimensions.

S random crops, K base crops, C channels of the embedding; y position labels, l logits, eps = 1e-6.
Cosines and logarithms are taken in float32 at least, whatever the autocast: a bfloat16 cosine exceeds 1.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

EPS = 1e-6
MIN_NORM = 1e-8

Loss = Callable[[Tensor, Tensor], Tensor]


def at_least_float32(x: Tensor) -> Tensor:
    """Half precisions widened, everything else as it is."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def cosine(a_SC: Tensor, b_KC: Tensor) -> Tensor:
    """Cosine similarities of all pairs; each norm is taken as at least 1e-8.

    Returns:
        cosine_SK, in [-1, 1] but for rounding.
    """
    with torch.autocast(a_SC.device.type, enabled=False):
        cosine_SK: Tensor = _unit(at_least_float32(a_SC)) @ _unit(at_least_float32(b_KC)).transpose(-1, -2)
        return cosine_SK


def _unit(rows: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
    # The floor changes the value alone, as in torch.cosine_similarity: the gradient is that of the true norm.
    return rows / (norm + (MIN_NORM - norm).clamp(min=0.0).detach())


def position_logits(feats_SC: Tensor, bases_KC: Tensor) -> Tensor:
    """How much each random crop is predicted to overlap each base crop: ``relu(cos)`` (VoCo, Eq. 1)."""
    return cosine(feats_SC, bases_KC).relu()


def _log_distance(distance: Tensor) -> Tensor:
    """``-log(1 - distance + eps)``, finite also where rounding takes the distance beyond 1."""
    return -torch.log((1.0 - distance).clamp(min=0.0) + EPS)


def positive_loss(labels_SK: Tensor, logits_SK: Tensor) -> Tensor:
    """``sum y (-log(1 - |y - l| + eps)) / (sum y + eps)`` over all entries of a volume."""
    total = (labels_SK * _log_distance((labels_SK - logits_SK).abs())).sum((-2, -1))
    return total / (labels_SK.sum((-2, -1)) + EPS)


def _mean_over_negatives(labels_SK: Tensor, penalties_SK: Tensor) -> Tensor:
    negative = labels_SK == 0
    # The released code counts in float32 also for wider features; kept, as it shows in the ninth digit.
    count = negative.sum((-2, -1)).float() + EPS
    return torch.where(negative, penalties_SK, 0.0).sum((-2, -1)) / count


def cvpr_prediction_loss(labels_SK: Tensor, logits_SK: Tensor) -> Tensor:
    """Positive term, and the mean square of logits where the label is 0 (released code of the CVPR paper)."""
    return positive_loss(labels_SK, logits_SK) + _mean_over_negatives(labels_SK, logits_SK.square())


def tpami_prediction_loss(labels_SK: Tensor, logits_SK: Tensor) -> Tensor:
    """Positive term, and the mean of ``-log(1 - l + eps)`` where the label is 0 (released code of TPAMI)."""
    return positive_loss(labels_SK, logits_SK) + _mean_over_negatives(labels_SK, _log_distance(logits_SK))


def paper_prediction_loss(labels_SK: Tensor, logits_SK: Tensor) -> Tensor:
    """``-mean log(1 - |y - l| + eps)`` over all base crops (VoCo, arXiv 2402.17300, Eq. 3)."""
    return _log_distance((labels_SK - logits_SK).abs()).mean((-2, -1))


PREDICTION_LOSSES: dict[str, Loss] = {
    "cvpr": cvpr_prediction_loss,
    "tpami": tpami_prediction_loss,
    "paper": paper_prediction_loss,
}
"""Formulae of the prediction loss, by setting ``objective.voco.prediction``; each gives one number a volume."""


def base_regularisation(bases_KC: Tensor) -> Tensor:
    """Mean over pairs i < j of ``relu(cos(q_i, stopgrad q_j))**2``: pushes the base crops of a volume apart.

    Source: VoCo, Eq. 5; the later crop of a pair is held fixed as in the released code.
    """
    num_bases = bases_KC.shape[-2]
    similarity = cosine(bases_KC, bases_KC.detach()).relu().square()
    pairs = similarity.triu(diagonal=1).sum((-2, -1))
    return pairs * (2.0 / (num_bases * (num_bases - 1)))


def inter_volume_loss(
    student_BSC: Tensor, student_bases_BKC: Tensor, teacher_BSC: Tensor, teacher_bases_BKC: Tensor
) -> Tensor:
    """What the teacher predicts on the next volume's base crops is the target of the student's prediction there.

    Args:
        student_BSC, student_bases_BKC: the student's embeddings of random and base crops of B volumes.
        teacher_BSC, teacher_bases_BKC: the teacher's; no gradient flows into them.
    Returns:
        loss_B, of volume i against the base crops of volume i + 1 (the last against the first).
    Source: released code of the TPAMI paper.
    """
    targets = position_logits(teacher_BSC, teacher_bases_BKC.roll(-1, dims=0)).detach()
    return tpami_prediction_loss(targets, position_logits(student_BSC, student_bases_BKC.roll(-1, dims=0)))
