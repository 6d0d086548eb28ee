"""What a backbone gives to the rest of the package, and where each is found.

A backbone is a module with a `Backbone` by the name ``BACKBONE``, and its entry in `voco_cli.config.backbones`.
``unet.py`` is an example. Such modules load MONAI, which takes seconds, only where they make a network.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib import import_module
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from voco_cli.config.backbones import BACKBONES
from voco_cli.config.schema import Model
from voco_cli.models.weights.nnunet import NnunetNetwork

Shape = tuple[int, ...]
Named = Iterator[tuple[str, Shape]]

INDEX = "relative_position_index"
"""Ends the names of the only tensors that hold whole numbers, and no parameters."""
CUBE, PAIR, POINT = (3, 3, 3), (2, 2, 2), (1, 1, 1)
"""Edges of kernels."""
PLACEHOLDER_CLASSES = 14
"""Classes of a network that is made for weights without an output layer; BTCV's, as MONAI's examples have it."""


class NetworkPart(StrEnum):
    """Parts of a network, in the order of reports."""

    TRANSFORMER = "transformer"
    ENCODER = "encoder blocks"
    DECODER = "decoder"
    HEAD = "head"
    OBJECTIVE = "objective"
    OTHER = "other"


ENCODER_PARTS = (NetworkPart.TRANSFORMER, NetworkPart.ENCODER)
"""What pre-training gives."""


class Encoder(Protocol):
    """What pre-training asks of a network.

    Attributes:
        out_features: width of an embedding.
        map_widths: channels of each feature map, the finest first.
    """

    out_features: int
    map_widths: tuple[int, ...]

    def __call__(self, crops_N1XYZ: Tensor) -> Tensor:
        """Return embeddings_NE of crops, with E = ``out_features``."""

    def feature_maps(self, crops_N1XYZ: Tensor) -> list[Tensor]:
        """Return the levels that a decoder reads, the finest first: maps_NWXYZ with W of ``map_widths``."""


class BuildSegmenter(Protocol):
    """The making of a network from volumes_NCXYZ to logits_NKXYZ."""

    def __call__(
        self, model: Model, in_channels: int, out_channels: int, *, deep_supervision: int, recompute: bool
    ) -> nn.Module:
        """Return the network with fresh weights; arguments as for `voco_cli.models.build.build_segmenter`."""


class BuildDecoder(Protocol):
    """The making of the other half of a segmenter: from the maps of `Encoder.feature_maps` to values_NKXYZ."""

    def __call__(self, model: Model, out_channels: int, *, deep_supervision: int = 0) -> nn.Module:
        """Return it with fresh weights.

        Args:
            deep_supervision: coarser outputs, as for `BuildSegmenter`; in training it then returns values_NDKXYZ.

        Its tensors, beside those of the encoder, are all tensors of the segmenter, under the same names; and it
        computes the same.
        """


@dataclass(frozen=True)
class Memory:
    """Measured bytes of activations, of each voxel that goes in and each channel of the first level, in float32.

    Attributes:
        cpu: what a training step keeps for its backward pass on a CPU.
        gpu: the same on a GPU, by MONAI's modules.
        half: share of that in bf16.
        kernels: the same on a GPU with kernels; none where there are none.
        widest_by_kernels: ``model.feature_size`` up to which the kernels run.
        forward: of a forward pass alone: bytes of a voxel whatever the channels, and for each channel.
        forward_kept: the same where freed memory is kept (run.keep_memory), whose blocks do not always fit what is
            asked for next.
    """

    cpu: float
    gpu: float
    half: float
    forward: tuple[float, float]
    forward_kept: tuple[float, float]
    kernels: float | None = None
    widest_by_kernels: int = 0


@dataclass(frozen=True)
class TensorPatterns:
    """What the names of a network's tensors tell, as regular expressions.

    Attributes:
        parts: beginnings of names, by part of the network.
        first_layers: whole names of tensors whose second axis is the input's channels.
        last_layers: whole names of tensors whose first axis is the classes.
        levels: beginnings of names of the encoder, each with its level: level 0 sees the voxels. A number is added to
            the one that the first group of the expression reads, if it has a group. Others are at the deepest level.
    """

    parts: Mapping[NetworkPart, str]
    first_layers: str
    last_layers: str
    levels: Sequence[tuple[str, int]]


@dataclass(frozen=True)
class Architecture(ABC):
    """A network as far as its weights tell.

    Attributes:
        filters: channels of the levels that the tensors show; the first is the feature size.
        in_channels: input channels.
        out_channels: classes; None without an output layer.
    """

    filters: tuple[int, ...]
    in_channels: int
    out_channels: int | None

    backbone: ClassVar[str]
    """As in ``model.backbone``."""

    @property
    def feature_size(self) -> int:
        """Channels of the first level."""
        return self.filters[0]

    @property
    def classes(self) -> int:
        """Classes of a network that takes the weights."""
        return self.out_channels or PLACEHOLDER_CLASSES

    @property
    @abstractmethod
    def encoder_words(self) -> str:
        """Features of the network that must be the same for an encoder to fit."""

    @property
    @abstractmethod
    def is_ours(self) -> bool:
        """True where pre-training here makes such an encoder."""

    @abstractmethod
    def arguments(self) -> dict[str, Any]:
        """Return the arguments of ``Backbone.loads_into`` that make the network."""

    @abstractmethod
    def shapes(self) -> Named:
        """Yield names and shapes of the network's tensors in the order of its state dict, without its memory."""

    def settings(self) -> dict[str, Any]:
        """Return the settings of ``model`` that choose this network."""
        return {"backbone": self.backbone, "feature_size": self.feature_size}

    def settings_words(self) -> str:
        """Return the options that choose this network here; empty where none do."""
        return " ".join(f"--set model.{name}={value}" for name, value in self.settings().items() if self.is_ours)

    def for_nnunet(self, tensors: Mapping[str, Tensor], axes: str) -> NnunetNetwork | None:
        """Return the network with some tensors as nnU-Net has it; None where it has no such network.

        Args:
            axes: order of the axes of nnU-Net's arrays, for which the kernels are turned.
        """
        return None

    def python_call(self) -> str:
        """Return the line of Python that makes the network."""
        words = {
            name: f"{value.__module__}.{value.__qualname__}" if isinstance(value, type) else repr(value)
            for name, value in self.arguments().items()
        }
        arguments = ", ".join(f"{name}={value}" for name, value in words.items())
        return f"{backbone_of(self.backbone).loads_into}({arguments})"

    def build(self) -> nn.Module:
        """Return the network as ``Backbone.loads_into`` makes it, with fresh weights."""
        place, _, name = backbone_of(self.backbone).loads_into.rpartition(".")
        network: nn.Module = getattr(import_module(place), name)(**self.arguments())
        return network

    def meta_tensors(self) -> dict[str, Tensor]:
        """Return the network's tensors by name, without numbers: what weights can be held against."""
        return {
            name: torch.empty(shape, dtype=torch.int64 if name.endswith(INDEX) else torch.float32, device="meta")
            for name, shape in self.shapes()
        }


def block_shapes(name: str, before: int, after: int, *, shortcut: bool, norms: bool) -> Named:
    """Yield the tensors of a block of two convolutions.

    Args:
        before, after: channels.
        shortcut: a third convolution leads past them.
        norms: norms have parameters.
    """
    kernels = [("1", before, CUBE), ("2", after, CUBE)]
    yield from ((f"{name}.conv{number}.conv.weight", (after, width, *edge)) for number, width, edge in kernels)
    if norms:
        yield from layer_shapes(f"{name}.norm1", (after,))
        yield from layer_shapes(f"{name}.norm2", (after,))
    if shortcut:
        yield f"{name}.conv3.conv.weight", (after, before, *POINT)
        if norms:
            yield from layer_shapes(f"{name}.norm3", (after,))


def layer_shapes(name: str, weight: Shape) -> Named:
    """Yield the weight of a layer or of a norm, and its bias."""
    yield f"{name}.weight", weight
    yield f"{name}.bias", (weight[0],)


def no_architecture(_tensors: Mapping[str, Tensor]) -> Architecture | None:
    """Return None: weights of this backbone are read from our own files alone."""
    return None


@dataclass(frozen=True)
class Backbone:
    """A network that pre-training and fine-tuning can have.

    Attributes:
        loads_into: full name of the class whose tensors have the names that our files hold.
        build_encoder: makes an encoder of the settings for a number of input channels, an `Encoder`.
        build_segmenter: makes the network with a decoder.
        build_decoder: makes that decoder alone, for encoders of `build_encoder`.
        memory: measured bytes.
        patterns: names of its tensors, which no other backbone may have.
        infer_architecture: tells the network that tensors by name belong to; None where they tell too little.
    """

    loads_into: str
    build_encoder: Callable[[Model, int], nn.Module]
    build_segmenter: BuildSegmenter
    build_decoder: BuildDecoder
    memory: Memory
    patterns: TensorPatterns
    infer_architecture: Callable[[Mapping[str, Tensor]], Architecture | None] = no_architecture


@cache
def backbone_of(name: str) -> Backbone:
    """Return the backbone that ``model.backbone`` names."""
    backbone: Backbone = import_module(BACKBONES[name].module).BACKBONE
    return backbone


def all_backbones() -> Iterator[Backbone]:
    """Yield every registered backbone, in the order of the registry."""
    return map(backbone_of, BACKBONES)
