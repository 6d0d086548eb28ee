"""nnU-Net's plans for weights of ours: the network that they fit, on the arrays that a data set's own plans make.

nnU-Net reads scans as arrays with the axes z, y, x, and turns these as the plans' `transpose_forward` says. Where they
are of a plan, it looks for `PLANS.json` in the data set's folder of `$nnUNet_preprocessed`. Needs no torch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from voco_cli.errors import DataError, UsageError

NNUNET_AXES = "zyx"
"""Of the arrays that nnU-Net's readers give."""
XYZ = "xyz"
FIRST_CHOICE = "3d_fullres"


def plans_axes(plans: Any) -> str:
    """Order of the axes of the arrays that a network of these plans gets, ``zyx`` where the plans do not say."""
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
    """Name of plans for a file of weights; nnU-Net takes names of folders apart at two low lines."""
    return "voco_" + re.sub(r"[^A-Za-z0-9.-]+|_+", "_", weights_file.stem).strip("_")


def plans_for(plans: Mapping[str, Any], name: str, filters: Sequence[int], in_channels: int) -> dict[str, Any]:
    """Plans in which each 3-D configuration has the network of some weights, on the data that is preprocessed already.

    Patches get sizes that this network can halve at every level. Cascades stay out, as their networks have more input
    channels.

    Args:
        plans: of the data set.
        name: of the new plans.
        filters: channels of the levels of the network.
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
            "patch_size": halving_patch(patch_vox, len(filters)),
            "architecture": nnunet_architecture(filters),
        }
    if not fitting:
        raise UsageError(f"The plans of {plans.get('dataset_name')} have no 3-D configuration, which the weights need.")
    return {**plans, "plans_name": name, "configurations": fitting}


def chosen_configuration(plans: Mapping[str, Any]) -> str:
    """The configuration to train by: that of full resolution, where there is one."""
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


def halving_patch(patch_vox: Sequence[int], levels: int) -> list[int]:
    """The nearest size that halves evenly at every level, and leaves more than one voxel at the last.

    An instance norm has nothing to normalise where a level is of one voxel.
    """
    step = 2 ** (levels - 1)
    rounded = [max(step, step * int(size / step + 0.5)) for size in patch_vox]
    return [2 * step] * 3 if max(rounded) == step else rounded


def nnunet_architecture(filters: Sequence[int]) -> dict[str, Any]:
    """The entry `architecture` of nnU-Net's plans that builds the network which these weights fit."""
    levels = len(filters)
    return {
        "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "arch_kwargs": {
            "n_stages": levels,
            "features_per_stage": list(filters),
            "conv_op": "torch.nn.modules.conv.Conv3d",
            "kernel_sizes": [[3, 3, 3]] * levels,
            "strides": [[1, 1, 1]] + [[2, 2, 2]] * (levels - 1),
            "n_conv_per_stage": [2] * levels,
            "n_conv_per_stage_decoder": [2] * (levels - 1),
            "conv_bias": True,
            "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }
