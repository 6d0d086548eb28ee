"""Which of MONAI's networks tensors belong to, read off their names and shapes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count, takewhile
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from voco_cli.models.tensor_shapes import INDEX, dyn_unet_shapes, level_widths, swin_unetr_shapes

PLACEHOLDER_CLASSES = 14
"""Classes of a network that is made for weights without an output layer; BTCV's, as MONAI's examples have it."""


@dataclass(frozen=True)
class Architecture:
    """A network as far as its weights tell.

    Attributes:
        backbone: swinunetr or unet.
        filters: channels of the levels that the tensors show; the first is the feature size.
        in_channels: input channels.
        out_channels: classes; None without an output layer.
        use_v2: SwinUNETR with the residual convolutions of its second version.
        residual: DynUNet with residual blocks.
        up_bias: DynUNet whose transposed convolutions have biases.
        supervised: DynUNet's deep supervision heads.
    """

    backbone: str
    filters: tuple[int, ...]
    in_channels: int
    out_channels: int | None
    use_v2: bool = False
    residual: bool = False
    up_bias: bool = False
    supervised: int = 0

    @property
    def feature_size(self) -> int:
        """Channels of the first level."""
        return self.filters[0]

    @property
    def encoder_words(self) -> str:
        """What must be the same for an encoder to fit."""
        if self.backbone == "swinunetr":
            return f"SwinUNETR v{2 if self.use_v2 else 1} of feature_size {self.feature_size}"
        blocks = " and residual blocks" if self.residual else ""
        return f"DynUNet with filters {'-'.join(map(str, self.filters))}{blocks}"

    @property
    def is_ours(self) -> bool:
        """Whether pre-training here makes such an encoder."""
        if self.backbone == "swinunetr":
            return self.use_v2
        return not self.residual and self.filters == tuple(level_widths(self.feature_size, len(self.filters)))

    def settings_words(self) -> str:
        """The options that choose this network here; empty where none do."""
        if not self.is_ours:
            return ""
        values = {"backbone": self.backbone, "feature_size": self.feature_size}
        if self.backbone == "unet":
            values["levels"] = len(self.filters)
        return " ".join(f"--set model.{name}={value}" for name, value in values.items())

    def monai_call(self) -> str:
        """The line of Python that makes the network."""
        arguments = ", ".join(f"{name}={value!r}" for name, value in self._arguments().items())
        return f"monai.networks.nets.{'SwinUNETR' if self.backbone == 'swinunetr' else 'DynUNet'}({arguments})"

    def build(self) -> nn.Module:
        """The network as MONAI makes it, with fresh weights."""
        from monai.networks.nets import DynUNet, SwinUNETR  # late: MONAI loads all of itself

        network: nn.Module = (SwinUNETR if self.backbone == "swinunetr" else DynUNet)(**self._arguments())
        return network

    def build_shapes(self) -> nn.Module:
        """The network without memory: names and shapes alone."""
        with shapes_only():
            return self.build()

    def shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Names and shapes of the network's tensors, in the order of its state dict, without loading MONAI."""
        classes = self.out_channels or PLACEHOLDER_CLASSES
        if self.backbone == "swinunetr":
            return swin_unetr_shapes(self.in_channels, classes, self.feature_size, self.use_v2)
        return dyn_unet_shapes(
            self.in_channels,
            classes,
            self.filters,
            residual=self.residual,
            up_bias=self.up_bias,
            supervised=self.supervised,
        )

    def meta_tensors(self) -> dict[str, Tensor]:
        """The network's tensors by name, without numbers: what weights can be held against."""
        return {
            name: torch.empty(shape, dtype=torch.int64 if name.endswith(INDEX) else torch.float32, device="meta")
            for name, shape in self.shapes()
        }

    def _arguments(self) -> dict[str, Any]:
        classes = self.out_channels or PLACEHOLDER_CLASSES
        if self.backbone == "swinunetr":
            channels = {"in_channels": self.in_channels, "out_channels": classes, "feature_size": self.feature_size}
            return {**channels, "use_v2": self.use_v2}
        levels = len(self.filters)
        arguments: dict[str, Any] = {
            "spatial_dims": 3,
            "in_channels": self.in_channels,
            "out_channels": classes,
            "kernel_size": [3] * levels,
            "strides": [1] + [2] * (levels - 1),
            "upsample_kernel_size": [2] * (levels - 1),
            "filters": list(self.filters),
        }
        if self.supervised:
            arguments |= {"deep_supervision": True, "deep_supr_num": self.supervised}
        return arguments | {
            name: True for name, wanted in (("res_block", self.residual), ("trans_bias", self.up_bias)) if wanted
        }


@contextmanager
def shapes_only() -> Iterator[None]:
    """Networks that are made inside have names and shapes, and take no memory."""
    with torch.device("meta"), _CountsOnCpu():
        yield


class _CountsOnCpu(TorchFunctionMode):
    """SwinUNETR reads numbers off a linspace while it is made, which tensors without memory do not have."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.linspace:
            kwargs = {**kwargs, "device": "cpu"}
        return func(*args, **kwargs)


def infer_architecture(tensors: Mapping[str, Tensor]) -> Architecture | None:
    """The network that tensors under MONAI's names belong to; None where they tell too little."""
    patch = tensors.get("swinViT.patch_embed.proj.weight")
    if patch is not None:
        classes = tensors.get("out.conv.conv.weight")
        use_v2 = any(name.startswith("swinViT.layers1c.") for name in tensors)
        return Architecture(
            "swinunetr", (patch.shape[0],), patch.shape[1], None if classes is None else classes.shape[0], use_v2
        )
    first, last = (tensors.get(f"{block}.conv1.conv.weight") for block in ("input_block", "bottleneck"))
    if first is None or last is None:
        return None
    between = takewhile(lambda name: name in tensors, (f"downsamples.{i}.conv1.conv.weight" for i in count()))
    classes = tensors.get("output_block.conv.conv.weight")
    return Architecture(
        "unet",
        (first.shape[0], *(tensors[name].shape[0] for name in between), last.shape[0]),
        first.shape[1],
        None if classes is None else classes.shape[0],
        residual="input_block.conv3.conv.weight" in tensors,
        up_bias="upsamples.0.transp_conv.conv.bias" in tensors,
        supervised=sum(name.startswith("deep_supervision_heads.") and name.endswith("weight") for name in tensors),
    )


def patch_merging_of(network: nn.Module) -> str | None:
    """``current`` or ``legacy`` slices, ``v2`` for MONAI's other order, None for a network without patch merging."""
    from monai.networks.nets.swin_unetr import PatchMerging, PatchMergingV2

    from voco_cli.models.swin import LegacyPatchMerging

    for module in network.modules():
        if isinstance(module, PatchMergingV2):
            if isinstance(module, LegacyPatchMerging):
                return "legacy"
            return "current" if isinstance(module, PatchMerging) else "v2"
    return None


def set_patch_merging(network: nn.Module, patch_merging: str) -> bool:
    """Make every patch merging of a network take the ``current`` or the ``legacy`` slices; its weights stay.

    Returns:
        whether anything had to change.
    """
    if patch_merging_of(network) in (None, patch_merging):
        return False
    from monai.networks.nets.swin_unetr import PatchMerging, PatchMergingV2

    from voco_cli.models.swin import LegacyPatchMerging

    wanted = LegacyPatchMerging if patch_merging == "legacy" else PatchMerging
    for parent in list(network.modules()):
        for name, module in list(parent.named_children()):
            if isinstance(module, PatchMergingV2):
                with torch.device("meta"):  # draws no random numbers
                    fresh = wanted(module.dim)
                fresh.norm, fresh.reduction = module.norm, module.reduction
                fresh.train(module.training)
                setattr(parent, name, fresh)
    return True
