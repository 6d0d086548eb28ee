"""A network whose outputs are classes of which one may lie inside another, as one that names each voxel.

N crops, K classes, L = K + 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor, nn

from voco_cli.config.schema import Model
from voco_cli.models.build import build_segmenter

Inside = Sequence[tuple[int, tuple[int, ...]]]
"""Each class that contains others, with all that lie inside it, by their places among the classes."""


def exclusive_logits(logits_NKXYZ: Tensor, inside: Inside) -> Tensor:
    """Return logits of each class without those inside it, behind a background of 0: the largest names a voxel.

    A voxel is decided from outside in: it is of the likeliest class that lies in no other, and within that of the
    likeliest part whose own logit is above 0, else of the whole alone. A part that is told where its whole is not
    stands for itself. Where nothing is above 0, background is.

    A whole of logit w keeps ``w - max(0, parts)``, and hands down what of this is above 0: it is added to each part, so
    that the likeliest part has ``max(w, part)`` and the whole less. Of several wholes the one that hands down most
    counts. For a whole and a part that is one to one: any shares of a softmax can be learned, too.

    Returns:
        logits_NLXYZ.
    """
    own, parts_of = logits_NKXYZ.unbind(1), dict(inside)

    @cache
    def alone(k: int) -> Tensor:
        around = [whole for whole, parts in inside if k in parts]
        nearest = [one for one in around if not any(other in parts_of[one] for other in around)]
        logit = own[k]
        if nearest:
            logit = logit + torch.stack([alone(whole).clamp(min=0) for whole in nearest]).amax(0)
        if parts := parts_of.get(k):
            logit = logit - torch.stack([own[part] for part in parts]).amax(0).clamp(min=0)
        return logit

    return torch.stack([torch.zeros_like(own[0]), *map(alone, range(len(own)))], dim=1)


class ClassUnion(nn.Module):
    """A segmenter with a sigmoid for each class, whose largest logit names a voxel.

    Args:
        segmenter: of K outputs.
        inside: of the classes.
    """

    def __init__(self, segmenter: nn.Module, inside: Inside) -> None:
        super().__init__()
        self.segmenter, self.inside = segmenter, inside

    def forward(self, windows_NCXYZ: Tensor) -> Tensor:
        """Return logits_NLXYZ, as `exclusive_logits` gives them."""
        return exclusive_logits(self.segmenter(windows_NCXYZ), self.inside)


def build_class_union(model: Model, num_classes: int, inside: Inside, deep_supervision: int) -> ClassUnion:
    """Return the network with fresh weights; its ``segmenter`` has the tensors that a pre-training exports."""
    return ClassUnion(build_segmenter(model, 1, num_classes, deep_supervision=deep_supervision), inside)
