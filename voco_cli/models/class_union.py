"""A network whose outputs are classes of which one may lie inside another, as one that names each voxel.

N crops, K classes, L = K + 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from voco_cli.config.schema import Model
from voco_cli.models.build import build_segmenter

Inside = Sequence[tuple[int, tuple[int, ...]]]
"""Each class that contains others, with all that lie inside it, by their places among the classes."""


def exclusive_logits(logits_NKXYZ: Tensor, inside: Inside) -> Tensor:
    """Return logits of each class without those inside it, behind a background of 0: the largest names a voxel.

    A voxel is of a whole alone where the whole is told and none of its parts is: ``min(l, -max of the parts)``, which
    is above 0 exactly there. Where nothing is above 0, background is.

    Returns:
        logits_NLXYZ.
    """
    alone = list(logits_NKXYZ.unbind(1))
    for whole, parts in inside:
        most = torch.stack([logits_NKXYZ[:, part] for part in parts]).amax(0)
        alone[whole] = torch.minimum(logits_NKXYZ[:, whole], -most)
    return torch.stack([torch.zeros_like(alone[0]), *alone], dim=1)


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
