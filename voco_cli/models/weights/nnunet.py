"""nnU-Net's two networks under its names, and plans of nnU-Net that have them.

PlainConvUNet is MONAI's DynUNet under other names; its convolutions have biases, DynUNet's have none, and before an
instance norm they change nothing. ResidualEncoderUNet is the backbone ``resenc``, which keeps its names. Both list each
layer twice in their state dicts (`conv` and `all_modules.0`), and the encoder a second time under `decoder.encoder`.

nnU-Net reads scans as arrays with the axes z, y, x, and turns these as the plans' `transpose_forward` says. Weights
belong to plans, which it looks for as `PLANS.json` in the data set's folder of `$nnUNet_preprocessed`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from voco_cli.errors import DataError, UsageError

NNUNET_AXES = "zyx"
"""Of the arrays that nnU-Net's readers give."""
XYZ = "xyz"
FIRST_CHOICE = "3d_fullres"
ADAPTATION_PLAN = "nnssl_adaptation_plan"
"""Where nnssl's checkpoints say how a network for segmentation takes their weights."""
_ENCODER = re.compile(r"encoder\.stages\.(\d+)\.\d+\.convs\.(\d+)\.(conv|norm)\.(weight|bias)")
_RESIDUAL = re.compile(r"encoder\.(stem|stages\.\d+\.blocks)\.")
_DECODER = re.compile(r"decoder\.stages\.(\d+)\.convs\.(\d+)\.(conv|norm)\.(weight|bias)")
_UP = re.compile(r"decoder\.transpconvs\.(\d+)\.(weight|bias)")
_OUTPUT = re.compile(r"decoder\.seg_layers\.(\d+)\.(weight|bias)")
_ALIAS = re.compile(r"decoder\.encoder\.|.*\.all_modules\.")
_OUTPUTS = "decoder.seg_layers."
LEAKY_SLOPE = 0.01
ADAPTED_PATCH_VOX = (160, 160, 160)
"""Patch for fine-tuning that nnssl's own plans recommend."""
_CLASSES = "dynamic_network_architectures.architectures.unet"


@dataclass(frozen=True)
class NnunetNetwork:
    """A network as nnU-Net has it.

    Attributes:
        weights: all but its output layers, under all of its names; a tensor with several names is there once.
        architecture: the entry `architecture` of plans that builds it.
        key_to_encoder, key_to_stem, keys_to_in_proj: where in the names nnssl's adaptation plan finds the encoder, its
            first part, and its first layer.
    """

    weights: dict[str, Tensor]
    architecture: dict[str, Any]
    key_to_encoder: str
    key_to_stem: str
    keys_to_in_proj: tuple[str, ...]


def names_here(keys: Iterable[str]) -> dict[str, str | None] | None:
    """Return the name here of each of nnU-Net's, None for second names; None where the names are not nnU-Net's."""
    keys = tuple(keys)
    if any(_ENCODER.match(key) for key in keys):
        return dynunet_names(keys)
    if any(_RESIDUAL.match(key) for key in keys):
        return {key: None if _ALIAS.match(key) else key for key in keys}
    return None


def dynunet_names(keys: Iterable[str]) -> dict[str, str | None]:
    """Return DynUNet's name for each of PlainConvUNet's; None for second names and biases before an instance norm."""
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
    """Make a whole PlainConvUNet's weights, all but its output layers, from a DynUNet's or from its encoder's.

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


def layers_for_nnunet(network: nn.Module, tensors: Mapping[str, Tensor], axes: str) -> dict[str, Tensor]:
    """Return a network's state dict without its output layers, with some tensors in place of its own.

    Args:
        network: of dynamic-network-architectures; its tensors stand where ``tensors`` has none.
        axes: as for `plain_conv_unet`.
    """
    turned: dict[int, Tensor] = {}
    listed = {name: one for name, one in network.state_dict(keep_vars=True).items() if not name.startswith(_OUTPUTS)}
    for name, own in listed.items():
        if id(own) not in turned:
            turned[id(own)] = with_axes(tensors.get(name, own).detach(), axes).contiguous()
    return {name: turned[id(own)] for name, own in listed.items()}


def _conv_and_norm(target: str, source: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    kernel, norm = tensors[f"{source.format('conv')}.conv.weight"], source.format("norm")
    layers = {"0": {"weight": kernel, "bias": torch.zeros(len(kernel))}}
    layers["1"] = {leaf: tensors[f"{norm}.{leaf}"] for leaf in ("weight", "bias")}
    named = {"conv": layers["0"], "norm": layers["1"], "all_modules.0": layers["0"], "all_modules.1": layers["1"]}
    return {f"{target}.{name}.{leaf}": tensor for name, layer in named.items() for leaf, tensor in layer.items()}


def _drawn_stage(stage: int, below: int, beside: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Draw a fresh decoder stage under DynUNet's names."""
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
    """Turn a kernel for arrays with axes in the order ``of`` into one for the order ``axes``; leave other tensors."""
    return tensor.permute(0, 1, *(2 + of.index(axis) for axis in axes)) if tensor.ndim == 5 else tensor


def adaptation_plan(
    network: NnunetNetwork,
    axes: str,
    in_channels: int,
    size_vox: Sequence[int] | None,
    spacing_mm: Sequence[float] | None,
) -> dict[str, Any]:
    """Make nnssl's adaptation plan: what its readers need to take an encoder into a network for segmentation.

    Args:
        axes: of the arrays that the kernels are turned for.
        size_vox: crop of the pre-training along x, y, z; none where it is not known.
        spacing_mm: of the pre-training along x, y, z; none where each scan kept its own.
    Source: nnssl's `adaptation_plan.py`, and the readers in nnU-Net, `like_nnssl.py` and `pretrainedTrainer.py`.
    """
    patch_vox = halving_patch(ADAPTED_PATCH_VOX, divisors(network.architecture))
    turn = [XYZ.index(axis) for axis in axes]
    crop_vox = [size_vox[axis] for axis in turn] if size_vox else patch_vox
    spacing = [spacing_mm[axis] for axis in turn] if spacing_mm else None
    return {
        "architecture_plans": {
            "arch_class_name": network.architecture["network_class_name"].rpartition(".")[2],
            "arch_kwargs": network.architecture["arch_kwargs"],
            "arch_kwargs_requiring_import": network.architecture["_kw_requires_import"],
        },
        "pretrain_plan": {"configurations": {"voco": {"spacing": spacing, "patch_size": crop_vox}}},
        "pretrain_num_input_channels": in_channels,
        "recommended_downstream_patchsize": patch_vox,
        "key_to_encoder": network.key_to_encoder,
        "key_to_stem": network.key_to_stem,
        "keys_to_in_proj": list(network.keys_to_in_proj),
        "key_to_lpe": None,
    }


def plans_axes(plans: Any) -> str:
    """Return the order of the axes of a network's arrays, ``zyx`` where its plans do not say."""
    forward = plans.get("transpose_forward") if isinstance(plans, Mapping) else None
    is_order = isinstance(forward, (list, tuple)) and sorted(map(str, forward)) == ["0", "1", "2"]
    return "".join(NNUNET_AXES[int(axis)] for axis in forward) if is_order and forward else NNUNET_AXES


def read_plans(path: Path) -> dict[str, Any]:
    """Read the plans that nnU-Net made for a data set.

    Raises:
        DataError: missing, or not plans.
        UsageError: they lie where nnU-Net does not look for them.
    """
    made_by = "nnUNetv2_plan_and_preprocess -d NUMBER makes them, in $nnUNet_preprocessed/DATASET/nnUNetPlans.json"
    try:
        plans: dict[str, Any] = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise DataError(f"There are no plans of nnU-Net at {path}.", made_by) from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as plans of nnU-Net ({error}).", made_by) from error
    configurations = plans.get("configurations") if isinstance(plans, dict) else None
    if not isinstance(configurations, dict) or not all(isinstance(one, dict) for one in configurations.values()):
        raise DataError(f"{path} holds no plans of nnU-Net v2: there are no configurations in it.", made_by)
    if plans.get("dataset_name") != path.resolve().parent.name:
        raise UsageError(
            f"{path} holds plans of {plans.get('dataset_name')}, and does not lie in a folder of that name, where "
            "nnU-Net looks for plans.",
            f"give those in $nnUNet_preprocessed/{plans.get('dataset_name')}",
        )
    return plans


def plans_name(weights_file: Path) -> str:
    """Name plans for a file of weights; nnU-Net takes names of folders apart at two low lines."""
    return "voco_" + re.sub(r"[^A-Za-z0-9.-]+|_+", "_", weights_file.stem).strip("_")


def plans_for(plans: Mapping[str, Any], name: str, architecture: Mapping[str, Any], in_channels: int) -> dict[str, Any]:
    """Make plans in which each 3-D configuration has the network of some weights, on the data as it is preprocessed.

    Patches get sizes that this network can halve at every level. Cascades stay out, as their networks have more input
    channels.

    Args:
        plans: of the data set.
        name: of the new plans.
        architecture: entry of the network of the weights.
        in_channels: of the weights.
    Raises:
        UsageError: the data set has another number of channels, or no 3-D configuration.
        DataError: a configuration inherits from one that is not there.
    """
    channels = plans.get("foreground_intensity_properties_per_channel")
    if isinstance(channels, Mapping) and len(channels) != in_channels:
        raise UsageError(
            f"{plans.get('dataset_name')} has {len(channels)} channels, the weights are for {in_channels}; nnU-Net "
            "loads weights of the same number alone."
        )
    fitting = {}
    for one, written in plans["configurations"].items():
        whole = _with_inherited(plans["configurations"], written)
        patch_vox = whole.get("patch_size", ())
        is_3d = isinstance(patch_vox, list) and [type(size) for size in patch_vox] == [int] * 3
        if not is_3d or "previous_stage" in whole:
            continue
        whole.pop("next_stage", None)
        fitting[one] = {
            **whole,
            "patch_size": halving_patch(patch_vox, divisors(architecture)),
            "architecture": architecture,
        }
    if not fitting:
        raise UsageError(f"The plans of {plans.get('dataset_name')} have no 3-D configuration, which the weights need.")
    return {**plans, "plans_name": name, "configurations": fitting}


def chosen_configuration(plans: Mapping[str, Any]) -> str:
    """Return the configuration to train by: that of full resolution, where there is one."""
    names = list(plans["configurations"])
    return FIRST_CHOICE if FIRST_CHOICE in names else str(names[0])


def _with_inherited(configurations: Mapping[str, Any], written: Mapping[str, Any]) -> dict[str, Any]:
    whole, seen = dict(written), []
    while (parent := whole.pop("inherits_from", None)) is not None:
        if parent in seen or parent not in configurations:
            raise DataError(f"A configuration of the plans inherits from {parent}, which is not there or a circle.")
        seen.append(parent)
        whole = {**configurations[parent], **whole}
    return whole


def divisors(architecture: Mapping[str, Any]) -> list[int]:
    """Return what the edges of a patch must be multiples of along each axis, by an entry `architecture` of plans."""
    return [math.prod(along) for along in zip(*architecture["arch_kwargs"]["strides"], strict=True)]


def halving_patch(patch_vox: Sequence[int], steps: Sequence[int]) -> list[int]:
    """Return the nearest size of multiples of ``steps`` that leaves more than one voxel at the last level.

    An instance norm has nothing to normalise where a level is of one voxel.
    """
    rounded = [max(step, step * int(size / step + 0.5)) for size, step in zip(patch_vox, steps, strict=True)]
    return [2 * step for step in steps] if rounded == list(steps) else rounded


def nnunet_architecture(filters: Sequence[int]) -> dict[str, Any]:
    """Return the entry `architecture` of nnU-Net's plans that builds a PlainConvUNet of some channels."""
    levels = len(filters)
    arguments = {
        "n_stages": levels,
        "features_per_stage": list(filters),
        "conv_op": nn.Conv3d,
        "kernel_sizes": [[3, 3, 3]] * levels,
        "strides": [[1, 1, 1]] + [[2, 2, 2]] * (levels - 1),
        "n_conv_per_stage": [2] * levels,
        "n_conv_per_stage_decoder": [2] * (levels - 1),
        "conv_bias": True,
        "norm_op": nn.InstanceNorm3d,
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "nonlin": nn.LeakyReLU,
        "nonlin_kwargs": {"inplace": True},
    }
    return architecture_entry("PlainConvUNet", arguments)


def architecture_entry(network: str, arguments: Mapping[str, Any], axes: str = XYZ) -> dict[str, Any]:
    """Return the entry `architecture` of nnU-Net's plans for a class of dynamic-network-architectures.

    Args:
        arguments: of the class, with edges along x, y, z; plans name classes by their import paths, and leave channels
            of input and output to the data set.
        axes: order of the axes in the entry.
    """
    written: dict[str, Any] = {"dropout_op": None, "dropout_op_kwargs": None}
    for name, value in arguments.items():
        if name in ("kernel_sizes", "strides"):
            written[name] = [[edges[XYZ.index(axis)] for axis in axes] for edges in value]
        elif name not in ("input_channels", "num_classes"):
            written[name] = f"{value.__module__}.{value.__qualname__}" if isinstance(value, type) else value
    return {
        "network_class_name": f"{_CLASSES}.{network}",
        "arch_kwargs": written,
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }
