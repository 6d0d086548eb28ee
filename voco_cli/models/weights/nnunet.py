"""nnU-Net's PlainConvUNet and MONAI's DynUNet: the same network under other names.

PlainConvUNet lists each layer twice in its state dict (`conv` and `all_modules.0`), and its encoder a second time under
`decoder.encoder`. Its convolutions have biases, DynUNet's have none; before an instance norm they change nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from voco_cli.models.weights.nnunet_plans import XYZ

_ENCODER = re.compile(r"encoder\.stages\.(\d+)\.\d+\.convs\.(\d+)\.(conv|norm)\.(weight|bias)")
_DECODER = re.compile(r"decoder\.stages\.(\d+)\.convs\.(\d+)\.(conv|norm)\.(weight|bias)")
_UP = re.compile(r"decoder\.transpconvs\.(\d+)\.(weight|bias)")
_OUTPUT = re.compile(r"decoder\.seg_layers\.(\d+)\.(weight|bias)")
_ALIAS = re.compile(r"decoder\.encoder\.|.*\.all_modules\.")
LEAKY_SLOPE = 0.01


def dynunet_names(keys: Iterable[str]) -> dict[str, str | None]:
    """DynUNet's name of each of PlainConvUNet's; None for second names and for biases before an instance norm."""
    keys = tuple(keys)
    stages = [int(found[1]) for key in keys if (found := _ENCODER.match(key))]
    last = max(stages, default=0)
    return {key: _dynunet_name(key, last) for key in keys}


def _dynunet_name(key: str, last: int) -> str | None:
    if _ALIAS.match(key):
        return None
    if found := _ENCODER.match(key):
        return _layer(_level(int(found[1]), last), found)
    if found := _DECODER.match(key):
        return _layer(f"upsamples.{found[1]}.conv_block", found)
    if found := _UP.match(key):
        return f"upsamples.{found[1]}.transp_conv.conv.{found[2]}"
    if found := _OUTPUT.match(key):
        above = last - 1 - int(found[1])
        return f"{'output_block' if above == 0 else f'deep_supervision_heads.{above - 1}'}.conv.conv.{found[2]}"
    return key


def _layer(block: str, found: re.Match[str]) -> str | None:
    number, kind, leaf = int(found[2]) + 1, found[3], found[4]
    if kind == "norm":
        return f"{block}.norm{number}.{leaf}"
    return f"{block}.conv{number}.conv.weight" if leaf == "weight" else None


def _level(stage: int, last: int) -> str:
    if stage == 0:
        return "input_block"
    return "bottleneck" if stage == last else f"downsamples.{stage - 1}"


def plain_conv_unet(
    tensors: Mapping[str, Tensor], filters: Sequence[int], axes: str, seed: int = 0
) -> dict[str, Tensor]:
    """Weights of a whole PlainConvUNet, all but its output layers, from those of a DynUNet or of its encoder.

    nnU-Net refuses weights that lack any tensor but the output layers, so a decoder that the source does not hold
    gets nnU-Net's own start: He's normal draw, biases 0, norms 1. It asks for second names too; these are of the very
    same tensors, so that a file holds each once.

    Args:
        tensors: under DynUNet's names.
        filters: channels of each level.
        axes: order of the axes of the arrays that the network will get, nnU-Net's own are ``zyx``.
        seed: of the decoder's draw.
    """
    generator = torch.Generator().manual_seed(seed)
    last = len(filters) - 1
    tensors = {name: with_axes(tensor.detach(), axes).contiguous() for name, tensor in tensors.items()}
    encoder: dict[str, Tensor] = {}
    for stage in range(len(filters)):
        for conv in range(2):
            source = f"{_level(stage, last)}.{{}}{conv + 1}"
            encoder |= _conv_and_norm(f"stages.{stage}.0.convs.{conv}", source, tensors)
    weights = {f"{prefix}encoder.{name}": tensor for prefix in ("", "decoder.") for name, tensor in encoder.items()}
    for stage in range(last):
        below, beside = filters[last - stage], filters[last - stage - 1]
        up, block = f"upsamples.{stage}.transp_conv.conv", f"upsamples.{stage}.conv_block"
        drawn = _drawn_stage(stage, below, beside, generator)
        for conv in range(2):
            name = f"decoder.stages.{stage}.convs.{conv}"
            weights |= _conv_and_norm(name, f"{block}.{{}}{conv + 1}", {**drawn, **tensors})
        weights[f"decoder.transpconvs.{stage}.weight"] = tensors.get(f"{up}.weight", drawn[f"{up}.weight"])
        weights[f"decoder.transpconvs.{stage}.bias"] = tensors.get(f"{up}.bias", torch.zeros(beside))
    return weights


def _conv_and_norm(target: str, source: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    kernel, norm = tensors[f"{source.format('conv')}.conv.weight"], source.format("norm")
    layers = {"0": {"weight": kernel, "bias": torch.zeros(len(kernel))}}
    layers["1"] = {leaf: tensors[f"{norm}.{leaf}"] for leaf in ("weight", "bias")}
    named = {"conv": layers["0"], "norm": layers["1"], "all_modules.0": layers["0"], "all_modules.1": layers["1"]}
    return {f"{target}.{name}.{leaf}": tensor for name, layer in named.items() for leaf, tensor in layer.items()}


def _drawn_stage(stage: int, below: int, beside: int, generator: torch.Generator) -> dict[str, Tensor]:
    """A fresh decoder stage under DynUNet's names."""
    block = f"upsamples.{stage}"
    drawn = {f"{block}.transp_conv.conv.weight": _he_normal((below, beside, 2, 2, 2), generator)}
    for conv, inputs in ((1, 2 * beside), (2, beside)):
        drawn[f"{block}.conv_block.conv{conv}.conv.weight"] = _he_normal((beside, inputs, 3, 3, 3), generator)
        drawn[f"{block}.conv_block.norm{conv}.weight"] = torch.ones(beside)
        drawn[f"{block}.conv_block.norm{conv}.bias"] = torch.zeros(beside)
    return drawn


def _he_normal(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.nn.init.kaiming_normal_(torch.empty(shape), a=LEAKY_SLOPE, generator=generator)


def with_axes(tensor: Tensor, axes: str, of: str = XYZ) -> Tensor:
    """A kernel for arrays whose axes stand in the order ``axes``, from one for the order ``of``; others as they are."""
    return tensor.permute(0, 1, *(2 + of.index(axis) for axis in axes)) if tensor.ndim == 5 else tensor
