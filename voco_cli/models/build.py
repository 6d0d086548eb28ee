"""Encoders behind one protocol: crops in, one embedding a crop out."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from voco_cli.config.schema import Model
from voco_cli.models.tensor_shapes import level_widths
from voco_cli.models.weights.architecture import set_patch_merging


class Encoder(Protocol):
    """What pre-training asks of a network."""

    out_features: int

    def __call__(self, crops_N1XYZ: Tensor) -> Tensor:
        """Embeddings_NE of crops, with E = ``out_features``."""


def build_encoder(model: Model, in_channels: int = 1) -> nn.Module:
    """The encoder that the settings ask for, with fresh weights from torch's global generator."""
    # Late: whoever only names an encoder need not wait until MONAI has loaded all of itself.
    if model.backbone == "swinunetr":
        from voco_cli.models.swin import SwinEncoder

        return SwinEncoder(in_channels, model.feature_size, model.patch_merging)
    from voco_cli.models.unet import UNetEncoder

    return UNetEncoder(in_channels, model.feature_size, model.levels)


def encode_groups(
    encoder: nn.Module, crops_N1XYZ: Tensor, group_size: int | None, *, recompute: bool, training: bool
) -> Tensor:
    """Return features_NE of crops, group by group: an encoder never mixes crops, and small groups need little memory.

    Args:
        group_size: crops that go through at a time; None is all of them.
        recompute: keep no activations, and compute them again in the backward pass.
        training: the groups are those of a training step, which a compiled encoder was made for.
    """
    groups = crops_N1XYZ.split(group_size or len(crops_N1XYZ))
    run = encoder if training else encoder.forward
    if recompute and torch.is_grad_enabled():
        return torch.cat([checkpoint(run, group, use_reentrant=False) for group in groups])
    return torch.cat([run(group) for group in groups])


def compile_encoder(encoder: nn.Module) -> None:
    """Let torch.compile make one graph of the encoder's forward pass, for batches of one size.

    Calls of the module take it; its ``forward`` stays as it was, for batches of other sizes.
    """
    encoder.compile(fullgraph=True, dynamic=False)


def build_segmenter(
    model: Model, in_channels: int, out_channels: int, *, deep_supervision: int = 0, recompute: bool = False
) -> nn.Module:
    """A network from volumes_NCXYZ to logits_NKXYZ of the same size, with fresh weights from torch's generator.

    Args:
        in_channels, out_channels: C and K, background among the latter.
        deep_supervision: coarser outputs of the unet; in training it then returns logits_NDKXYZ, the finest first.
        recompute: SwinUNETR's transformer forgets its activations and computes them again in the backward pass.
    """
    # Late: whoever only names a network need not wait until MONAI has loaded all of itself.
    if model.backbone == "swinunetr":
        from voco_cli.models.swin import SwinSegmenter

        swin = SwinSegmenter(
            in_channels=in_channels, out_channels=out_channels, feature_size=model.feature_size, recompute=recompute
        )
        set_patch_merging(swin, model.patch_merging)
        return swin
    from monai.networks.nets import DynUNet

    supervised = {"deep_supervision": True, "deep_supr_num": deep_supervision} if deep_supervision else {}
    unet: nn.Module = DynUNet(
        spatial_dims=3,
        in_channels=in_channels,
        out_channels=out_channels,
        kernel_size=[3] * model.levels,
        strides=[1] + [2] * (model.levels - 1),
        upsample_kernel_size=[2] * (model.levels - 1),
        filters=level_widths(model.feature_size, model.levels),
        norm_name=("INSTANCE", {"affine": True}),
        **supervised,
    )
    return unet


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
