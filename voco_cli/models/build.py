"""Networks as the settings ask for them: encoders, which give an embedding a crop, segmenters and classifiers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from voco_cli.config import Settings
from voco_cli.config.schema import Model
from voco_cli.models.backbone import backbone_of
from voco_cli.models.light_decoder import LightDecoder


def build_encoder(model: Model, in_channels: int = 1) -> nn.Module:
    """Return the `Encoder` that the settings ask for, with fresh weights from torch's global generator."""
    return backbone_of(model.backbone).build_encoder(model, in_channels)


def encode_groups(
    encoder: nn.Module, crops_N1XYZ: Tensor, group_size: int | None, *, recompute: bool, training: bool
) -> Tensor:
    """Return features_NE of crops, group by group: an encoder never mixes crops, and small groups need little memory.

    Args:
        group_size: crops that go through at a time; None is all of them.
        recompute: keep no activations, and compute them again in the backward pass.
        training: the groups are those of a training step, which a compiled encoder was made for.
    """
    return by_groups(encoder if training else encoder.forward, (crops_N1XYZ,), group_size, recompute=recompute)


def decode_groups(
    encoder: nn.Module,
    decoder: nn.Module,
    crops_N1XYZ: Tensor,
    group_size: int | None,
    *,
    recompute: bool,
    training: bool,
) -> Tensor:
    """Return values_NKXYZ of crops: encoder and decoder go through each group, so that its maps are not kept.

    Args:
        decoder: of :func:`build_decoder`.
        group_size, recompute, training: as for :func:`encode_groups`.
    """
    maps_of = getattr(encoder, COMPILED_MAPS, encoder.feature_maps) if training else encoder.feature_maps
    assert callable(maps_of)
    return by_groups(lambda group: decoder(maps_of(group)), (crops_N1XYZ,), group_size, recompute=recompute)


def by_groups(
    run: Callable[..., Tensor], tensors: Sequence[Tensor], group_size: int | None, *, recompute: bool
) -> Tensor:
    """Return what ``run`` makes of tensors with a row for each crop, group by group.

    Args:
        group_size: rows of a group; None is all of them.
        recompute: keep nothing of a group but what ``run`` returns, and compute it again in the backward pass.
    """
    groups = zip(*(tensor.split(group_size or len(tensor)) for tensor in tensors), strict=True)
    if recompute and torch.is_grad_enabled():
        return torch.cat([checkpoint(run, *group, use_reentrant=False) for group in groups])
    return torch.cat([run(*group) for group in groups])


COMPILED_MAPS = "compiled_maps"
"""Attribute of an encoder that `compile_encoder` was given: its ``feature_maps`` as one graph."""


def compile_encoder(encoder: nn.Module) -> None:
    """Let torch.compile make one graph of the encoder's forward pass, and one of its maps, for batches of one size.

    Calls of the module take it, and :func:`decode_groups`; its ``forward`` and ``feature_maps`` stay as they were, for
    batches of other sizes.
    """
    encoder.compile(fullgraph=True, dynamic=False)
    assert callable(encoder.feature_maps)
    setattr(encoder, COMPILED_MAPS, torch.compile(encoder.feature_maps, fullgraph=True, dynamic=False))


def build_decoder(
    model: Model,
    encoder: nn.Module,
    out_channels: int,
    kind: Literal["light", "segmentation"],
    *,
    deep_supervision: int = 0,
) -> nn.Module:
    """Return a decoder from the maps of an encoder to values_NKXYZ, with fresh weights from torch's global generator.

    Args:
        encoder: of :func:`build_encoder`.
        kind: ``light`` is a `LightDecoder`; ``segmentation`` the backbone's own, whose tensors fill a segmenter
            together with the encoder's, and which needs crops whose edges halve evenly at every level.
        deep_supervision: coarser outputs of the segmenter's decoder, as for :func:`build_segmenter`.
    """
    if kind == "segmentation":
        build = backbone_of(model.backbone).build_decoder
        return build(model, out_channels, deep_supervision=deep_supervision)
    widths = encoder.map_widths
    assert isinstance(widths, tuple)
    return LightDecoder(widths, out_channels)


def build_segmenter(
    model: Model, in_channels: int, out_channels: int, *, deep_supervision: int = 0, recompute: bool = False
) -> nn.Module:
    """Return a network from volumes_NCXYZ to logits_NKXYZ of the same size, with fresh weights.

    Args:
        in_channels, out_channels: C and K, background among the latter.
        deep_supervision: coarser outputs of the unet; in training it then returns logits_NDKXYZ, the finest first.
        recompute: SwinUNETR's transformer forgets its activations and computes them again in the backward pass.
    """
    build = backbone_of(model.backbone).build_segmenter
    return build(model, in_channels, out_channels, deep_supervision=deep_supervision, recompute=recompute)


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
        """Return logits_NK of volumes with values in [0, 1], of a size that the encoder takes."""
        features_NE = self.embed(volumes_NCXYZ)
        logits_NK: Tensor = self.head(F.layer_norm(features_NE, features_NE.shape[1:]))
        return logits_NK

    def embed(self, volumes_NCXYZ: Tensor) -> Tensor:
        """Return features_NE, as :func:`encode_groups` does."""
        return encode_groups(self.encoder, volumes_NCXYZ, self.group_size, recompute=self.recompute, training=True)


def build_classifier(
    model: Model, in_channels: int, categories: int, *, group_size: int | None = None, recompute: bool = False
) -> Classifier:
    """Return a classifier with fresh weights from torch's global generator; see `Classifier` for the arguments."""
    return Classifier(build_encoder(model, in_channels), categories, group_size, recompute)


def _segmenter_of(settings: Settings, group_size: int | None, recompute: bool) -> nn.Module:
    task = settings.task
    channels, depth = len(task.channels), task.deep_supervision
    return build_segmenter(settings.model, channels, task.num_outputs, deep_supervision=depth, recompute=recompute)


def _classifier_of(settings: Settings, group_size: int | None, recompute: bool) -> nn.Module:
    channels, outputs = len(settings.task.channels), settings.task.num_outputs
    return build_classifier(settings.model, channels, outputs, group_size=group_size, recompute=recompute)


TASK_NETWORKS: dict[str, Callable[[Settings, int | None, bool], nn.Module]] = {
    "segmentation": _segmenter_of,
    "classification": _classifier_of,
}
"""Networks by ``task.kind``."""


def build_task_network(settings: Settings, *, group_size: int | None = None, recompute: bool = False) -> nn.Module:
    """Build the network of a labelled task, with fresh weights from torch's global generator.

    Args:
        group_size: of a classification, see `Classifier`.
        recompute: forget activations and compute them again in the backward pass.
    """
    return TASK_NETWORKS[settings.task.kind](settings, group_size, recompute)
