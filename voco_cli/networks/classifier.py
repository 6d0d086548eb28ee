"""A whole network for classification: an encoder that pre-training fills, and a linear layer on its pooled features.

The head sees the means over space of every level, as the projector of the pre-training does, brought to mean 0 and
variance 1 in each volume. Behind instance norms these means differ little from scan to scan (by a tenth of themselves
for CT), and a linear layer on the bare ones takes some four times the steps.

N volumes, C input channels, E features, K categories.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from voco_cli.networks.encoders import build_encoder
from voco_cli.settings.sections import Model

HEAD_SD = 0.01
"""Standard deviation of a fresh head's weights: small, so that training begins with equal categories."""


class Classifier(nn.Module):
    """Logits of categories; `load_into` finds the encoder under its prefix ``encoder.``.

    Args:
        encoder: with ``out_features``.
        categories: K.
        group_size: volumes that go through the encoder together; none is all of them.
        recompute: forget the activations of a group and compute them again in the backward pass.
    """

    def __init__(
        self, encoder: nn.Module, categories: int, group_size: int | None = None, recompute: bool = False
    ) -> None:
        super().__init__()
        self.group_size, self.recompute = group_size, recompute
        self.encoder = encoder
        features = encoder.out_features
        assert isinstance(features, int)
        self.head = nn.Linear(features, categories)
        nn.init.normal_(self.head.weight, std=HEAD_SD)
        nn.init.zeros_(self.head.bias)

    def forward(self, volumes_NCXYZ: Tensor) -> Tensor:
        """Logits_NK of volumes with values in [0, 1], of a size that the encoder takes."""
        features_NE = self.embed(volumes_NCXYZ)
        logits_NK: Tensor = self.head(F.layer_norm(features_NE, features_NE.shape[1:]))
        return logits_NK

    def embed(self, volumes_NCXYZ: Tensor) -> Tensor:
        """Features_NE, group by group: an encoder never mixes volumes, and small groups need little memory."""
        groups = volumes_NCXYZ.split(self.group_size or len(volumes_NCXYZ))
        if self.recompute and torch.is_grad_enabled():
            return torch.cat([checkpoint(self.encoder, group, use_reentrant=False) for group in groups])
        return torch.cat([self.encoder(group) for group in groups])


def build_classifier(
    model: Model, in_channels: int, categories: int, *, group_size: int | None = None, recompute: bool = False
) -> Classifier:
    """A classifier with fresh weights from torch's global generator; see `Classifier` for the arguments."""
    return Classifier(build_encoder(model, in_channels), categories, group_size, recompute)
