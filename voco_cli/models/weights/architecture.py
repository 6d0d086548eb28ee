"""The network that tensors belong to, networks without memory, and the patch merging of SwinUNETR."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from voco_cli.models.backbone import Architecture, all_backbones


def infer_architecture(tensors: Mapping[str, Tensor]) -> Architecture | None:
    """Return the network that tensors under MONAI's names belong to; None where they tell too little."""
    found = (backbone.infer_architecture(tensors) for backbone in all_backbones())
    return next((architecture for architecture in found if architecture is not None), None)


@contextmanager
def shapes_only() -> Iterator[None]:
    """Make networks inside that have names and shapes, and take no memory."""
    with torch.device("meta"), _CountsOnCpu():
        yield


def build_shapes(architecture: Architecture) -> nn.Module:
    """Return the network without memory: names and shapes alone."""
    with shapes_only():
        return architecture.build()


class _CountsOnCpu(TorchFunctionMode):
    """SwinUNETR reads numbers off a linspace while it is made, which tensors without memory do not have."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.linspace:
            kwargs = {**kwargs, "device": "cpu"}
        return func(*args, **kwargs)


def patch_merging_of(network: nn.Module) -> str | None:
    """Return ``current`` or ``legacy`` slices, ``v2`` for MONAI's other order, None without patch merging."""
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
