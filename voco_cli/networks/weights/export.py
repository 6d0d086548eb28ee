"""Weights for other programs: MONAI, the authors' own loaders, nnU-Net; or one file of ours."""

from __future__ import annotations

import io
import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from voco_cli.errors import UsageError
from voco_cli.networks.weights.architecture import Architecture
from voco_cli.networks.weights.names import ENCODER_PARTS, Part, part_of
from voco_cli.networks.weights.plain_conv_unet import nnunet_architecture, plain_conv_unet
from voco_cli.networks.weights.read import Weights
from voco_cli.networks.weights.write import ENCODER_FORMAT, MARK, MODEL_FORMAT, describe, safetensors_bytes
from voco_cli.whole_files import write_whole

Axes = Literal["xyz", "zyx"]


class Format(StrEnum):
    """Forms of export."""

    SAFETENSORS = "safetensors"
    MONAI = "monai"
    AUTHORS = "authors"
    NNUNET = "nnunet"


@dataclass(frozen=True)
class Export:
    """What was written.

    Attributes:
        files: the weights first.
        tensors, parameters: how many the file of weights holds; second names count as tensors only.
        notes: what a user should know, one sentence each.
    """

    files: tuple[Path, ...]
    tensors: int
    parameters: int
    notes: tuple[str, ...]


def export_weights(weights: Weights, output: Path, file_format: Format, axes: Axes = "xyz") -> Export:
    """Write weights in the form that another program reads.

    ``safetensors`` is one file that says what it is. ``monai`` is a state dict for SwinUNETR or DynUNet. ``authors`` is
    the flat state dict of the encoder that their SSL_head files hold. ``nnunet`` is what nnU-Net v2 takes as
    ``-pretrained_weights``, and beside it the architecture for the plans.

    Args:
        weights: of our runs, or of anything else that is read.
        output: file to write; replaced whole.
        axes: for ``nnunet``: ``xyz`` keeps the kernels, so that equal arrays give equal features; ``zyx`` turns them
            for nnU-Net's order of axes, so that equal scans do.
    Raises:
        UsageError: the format has no place for these weights.
        ResourceError: the disk is full.
    """
    architecture = weights.architecture
    if architecture is None:
        raise UsageError(f"{weights.origin} holds no network that is known here, so it cannot be exported.")
    tensors = {
        name: tensor.detach().contiguous()
        for name, tensor in weights.tensors.items()
        if part_of(name) is not Part.OTHER
    }
    if file_format is Format.NNUNET:
        return _export_nnunet(weights, tensors, architecture, output, axes)
    if file_format is Format.AUTHORS:
        if not (architecture.backbone == "swinunetr" and architecture.use_v2):
            raise UsageError(
                f"{weights.origin} is of {architecture.encoder_words}; the authors' files hold SwinUNETR v2."
            )
        tensors = {name: tensor for name, tensor in tensors.items() if part_of(name) in ENCODER_PARTS}
    about = _about(weights, architecture, tensors)
    if file_format is Format.SAFETENSORS:
        write_whole(output, safetensors_bytes(tensors, about))
    else:
        write_whole(output, _state_dict_bytes(_as_monai_lists(tensors, architecture), about))
    return Export((output,), len(tensors), _parameters(tensors), _merging_notes(weights, file_format))


def _about(weights: Weights, architecture: Architecture, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    whole = any(part_of(name) is Part.DECODER for name in tensors)
    known = dict(weights.settings or {})
    known["model"] = {
        **known.get("model", {}),
        "backbone": architecture.backbone,
        "feature_size": architecture.feature_size,
        **({"patch_merging": weights.patch_merging} if weights.patch_merging else {}),
    }
    if weights.step is not None:
        known.setdefault("step", weights.step)
    return describe(MODEL_FORMAT if whole else ENCODER_FORMAT, tensors, {**known, "exported_from": weights.kind.value})


def _as_monai_lists(tensors: Mapping[str, Tensor], architecture: Architecture) -> dict[str, Tensor]:
    """In the order of MONAI's state dict, and for a whole DynUNet with the second names that it asks for."""
    listed = architecture.build_shapes().state_dict(keep_vars=True)
    first: dict[int, str] = {}
    for name, tensor in listed.items():
        first.setdefault(id(tensor), name)
    whole = all(name in tensors for name in first.values())
    names = {name: first[id(tensor)] for name, tensor in listed.items() if whole or first[id(tensor)] == name}
    ordered = {name: tensors[source] for name, source in names.items() if source in tensors}
    return {**ordered, **{name: tensor for name, tensor in tensors.items() if name not in ordered}}


def _state_dict_bytes(tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> bytes:
    state: OrderedDict[str, Tensor] = OrderedDict(tensors)
    mark = json.dumps({key: value for key, value in about.items() if key != "names"})
    # load_state_dict hands each module its entry and passes over what it does not know in it.
    state._metadata = OrderedDict({"": {MARK: mark}})  # type: ignore[attr-defined]
    return _torch_bytes(state)


def _torch_bytes(content: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


def _export_nnunet(
    weights: Weights, tensors: dict[str, Tensor], architecture: Architecture, output: Path, axes: Axes
) -> Export:
    if architecture.backbone != "unet" or architecture.residual:
        raise UsageError(
            f"{weights.origin} is of {architecture.encoder_words}; nnU-Net's PlainConvUNet takes the backbone unet.",
            "export it as monai or authors",
        )
    content = plain_conv_unet(tensors, architecture.filters, axes)
    about = {**_about(weights, architecture, tensors), "format": "voco-nnunet/1", "axes": axes}
    mark = json.dumps({key: value for key, value in about.items() if key != "names"})
    plans = output.with_name(f"{output.name}.architecture.json")
    write_whole(output, _torch_bytes({"network_weights": content, MARK: mark}))
    write_whole(plans, json.dumps({"architecture": nnunet_architecture(architecture.filters)}, indent=1).encode())
    decoder = "decoder.stages" if "upsamples.0.conv_block.conv1.conv.weight" in tensors else None
    notes = [f"Put the architecture of {plans.name} into the configuration of your nnU-Net plans."]
    if decoder is None:
        notes.append("nnU-Net refuses weights without a decoder, so a fresh one is written beside the encoder.")
    if axes == "xyz":
        notes.append("nnU-Net's arrays have their axes as z, y, x, ours as x, y, z; --axes zyx turns the kernels.")
    distinct = {name: t for name, t in content.items() if ".all_modules." not in name and "decoder.encoder" not in name}
    return Export((output, plans), len(content), _parameters(distinct), tuple(notes))


def _merging_notes(weights: Weights, file_format: Format) -> tuple[str, ...]:
    if weights.patch_merging is None or file_format is Format.SAFETENSORS:
        return ()
    if weights.patch_merging == "legacy" and file_format is Format.MONAI:
        return (
            "These weights were trained with the patch merging of MONAI before 1.5; newer ones load them and compute "
            "other features.",
        )
    if weights.patch_merging == "current" and file_format is Format.AUTHORS:
        return (
            "These weights were trained with the patch merging of MONAI 1.5 and newer; the authors' code, with MONAI "
            "1.3, loads them and computes other features.",
        )
    return ()


def _parameters(tensors: Mapping[str, Tensor]) -> int:
    return sum(tensor.numel() for tensor in tensors.values() if tensor.is_floating_point())
