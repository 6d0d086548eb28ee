"""Weights for other programs: MONAI, the authors' own loaders, nnU-Net, nnssl's readers; or one file of ours."""

from __future__ import annotations

import io
import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from voco_cli.atomic_files import write_atomic
from voco_cli.errors import UsageError
from voco_cli.models.backbone import ENCODER_PARTS, Architecture, NetworkPart
from voco_cli.models.swinunetr import SwinArchitecture
from voco_cli.models.weights.architecture import build_shapes
from voco_cli.models.weights.container import Format
from voco_cli.models.weights.nnunet import (
    ADAPTATION_PLAN,
    NNUNET_AXES,
    NnunetNetwork,
    adaptation_plan,
    chosen_configuration,
    plans_axes,
    plans_for,
    plans_name,
    read_plans,
)
from voco_cli.models.weights.objectives import IN_FILE, authors_names, parts_of
from voco_cli.models.weights.read import Weights
from voco_cli.models.weights.tensor_names import part_of
from voco_cli.models.weights.write import (
    CHECKPOINT_FORMAT,
    ENCODER_FORMAT,
    MARK,
    MODEL_FORMAT,
    PRETRAINING_FORMAT,
    describe,
    safetensors_bytes,
)


@dataclass(frozen=True)
class Export:
    """What was written.

    Attributes:
        files: the weights first.
        tensors, parameters: how many the file of weights holds, each counted once for all of its names.
        notes: what a user should know, one sentence each.
        train: words of nnU-Net's command that trains from the weights; none without its plans.
    """

    files: tuple[Path, ...]
    tensors: int
    parameters: int
    notes: tuple[str, ...]
    train: tuple[str, ...] | None = None


def export_weights(
    weights: Weights,
    output: Path,
    file_format: Format,
    axes: str | None = None,
    plans: Path | None = None,
    *,
    replace: bool = False,
    heads: bool = False,
) -> Export:
    """Write weights in the form that another program reads.

    ``safetensors`` is one file that says what it is. ``monai`` is a state dict for SwinUNETR or DynUNet. ``authors`` is
    the flat state dict of the encoder that their SSL_head files hold. ``nnunet`` is what nnU-Net v2 takes as
    ``-pretrained_weights``; beside it lies the architecture for plans, and with the ``plans`` of a data set others of
    that architecture are written into their folder, where nnU-Net looks for them. ``nnssl`` is a checkpoint with the
    adaptation plan by which ``nnUNetv2_train_pretrained`` takes the encoder into a network for segmentation; beside it
    lies the plan.

    Args:
        weights: of our runs, or of anything else that is read.
        output: file to write; replaced whole.
        axes: for ``nnunet`` and ``nnssl``: order of the axes of nnU-Net's arrays, for which the kernels are turned, so
            that equal scans give equal features; by default as the plans say, or z, y, x as nnU-Net reads them. ``xyz``
            keeps the kernels.
        plans: for ``nnunet``: those that it made for the data set to train on.
        replace: other plans that bear the name of the new ones.
        heads: for ``safetensors`` and ``authors``: write all that pre-training goes on from; ``authors`` is then the
            layout of their checkpoints, without the optimizer.
    Raises:
        UsageError: the format has no place for these weights, or the plans' data set none; or there are no heads.
        DataError: the plans are missing or damaged.
        ResourceError: the disk is full.
    """
    architecture = weights.architecture
    if architecture is None:
        raise UsageError(f"{weights.origin} holds no network that is known here, so it cannot be exported.")
    tensors = {
        name: tensor.detach().contiguous()
        for name, tensor in weights.tensors.items()
        if part_of(name) is not NetworkPart.OTHER
    }
    if file_format is Format.NNUNET:
        return _export_nnunet(weights, tensors, architecture, output, axes, plans, replace)
    if file_format is Format.NNSSL:
        return _export_nnssl(weights, tensors, architecture, output, axes or NNUNET_AXES)
    if file_format is Format.AUTHORS:
        if not (isinstance(architecture, SwinArchitecture) and architecture.use_v2):
            raise UsageError(
                f"{weights.origin} is of {architecture.encoder_words}; the authors' files hold SwinUNETR v2."
            )
        tensors = _encoder_of(tensors)
    if heads:
        return _export_pretraining(weights, _encoder_of(tensors), architecture, output, file_format)
    about = _about(weights, architecture, tensors)
    if file_format is Format.SAFETENSORS:
        write_atomic(output, safetensors_bytes(tensors, about))
    else:
        write_atomic(output, _state_dict_bytes(_as_monai_lists(tensors, architecture), about))
    return Export((output,), len(tensors), _parameters(tensors), _merging_notes(weights, file_format))


def _encoder_of(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in tensors.items() if part_of(name) in ENCODER_PARTS}


def _export_pretraining(
    weights: Weights, encoder: dict[str, Tensor], architecture: Architecture, output: Path, file_format: Format
) -> Export:
    if not weights.objectives:
        raise UsageError(
            f"{weights.origin} holds no heads of a pre-training.", "give its run folder, or leave out --heads"
        )
    about = {**_about(weights, architecture, encoder), "branch": weights.branch or "student"}
    if file_format is Format.AUTHORS:
        tensors = authors_names(encoder, weights.objectives, weights.origin)
        mark = json.dumps({**about, "format": "voco-authors/1", "names": None})
        checkpoint = {"global_step": weights.step or 0, "state_dict": OrderedDict(tensors), MARK: mark}
        write_atomic(output, _torch_bytes(checkpoint))
    else:
        # Copies: safetensors takes no tensor under two names, and with the teacher's branch there are such.
        beside = {f"{IN_FILE}{name}": tensor.clone() for name, tensor in weights.objectives.items()}
        tensors = {**encoder, **beside}
        write_atomic(output, safetensors_bytes(tensors, {**about, "format": PRETRAINING_FORMAT}))
    parts = f"Beside the encoder: {', '.join(parts_of(weights.objectives))}."
    return Export((output,), len(tensors), _parameters(tensors), (parts, *_merging_notes(weights, file_format)))


GIVEN_AWAY = ("model", "preprocess", "crops", "recipe", "seed", "objective", "objectives", "step", "branch")
"""What a file says of the settings of a run: no paths of data, no names."""


def _about(weights: Weights, architecture: Architecture, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    whole = any(part_of(name) is NetworkPart.DECODER for name in tensors)
    known = dict(weights.settings or {})
    if known.get("format") == CHECKPOINT_FORMAT:
        known = {name: known[name] for name in GIVEN_AWAY if name in known}
    known["model"] = {
        **known.get("model", {}),
        **architecture.settings(),
        **({"patch_merging": weights.patch_merging} if weights.patch_merging else {}),
    }
    if weights.step is not None:
        known.setdefault("step", weights.step)
    return describe(MODEL_FORMAT if whole else ENCODER_FORMAT, tensors, {**known, "exported_from": weights.kind.value})


def _as_monai_lists(tensors: Mapping[str, Tensor], architecture: Architecture) -> dict[str, Tensor]:
    """Put tensors in the order of MONAI's state dict, of a whole DynUNet with the second names that it asks for."""
    listed = build_shapes(architecture).state_dict(keep_vars=True)
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
    weights: Weights,
    tensors: dict[str, Tensor],
    architecture: Architecture,
    output: Path,
    axes: str | None,
    plans_file: Path | None,
    replace: bool,
) -> Export:
    given = read_plans(plans_file) if plans_file else None
    axes = axes or (plans_axes(given) if given else NNUNET_AXES)
    network, mark = _for_nnunet(weights, tensors, architecture, axes, "voco-nnunet/1")
    plans = given and plans_for(given, plans_name(output), network.architecture, architecture.in_channels)
    beside = output.with_name(f"{output.name}.architecture.json")
    if plans and plans_file:
        beside = plans_file.with_name(f"{plans['plans_name']}.json")
    fitting = json.dumps(plans or {"architecture": network.architecture}, indent=1).encode()
    if plans and not replace and beside.exists() and beside.read_bytes() != fitting:
        raise UsageError(f"{beside} holds other plans already.", "choose another name with -o, or --force")
    write_atomic(output, _torch_bytes({"network_weights": network.weights, MARK: mark}))
    write_atomic(beside, fitting)
    notes = [f"The kernels are for arrays with their axes as {', '.join(axes)}."]
    if not any(part_of(name) is NetworkPart.DECODER for name in tensors):
        notes.append("nnU-Net refuses weights without a decoder, so a fresh one is written beside the encoder.")
    if plans is None:
        notes.append(
            "nnU-Net loads them into a network of the same architecture alone; the same command with --force --plans "
            "$nnUNet_preprocessed/DATASET/nnUNetPlans.json writes plans that have it, and prints how to train."
        )
    once = _once(network)
    train = _train_words(plans, output) if plans else None
    return Export((output, beside), len(once), _parameters(once), tuple(notes), train)


def _export_nnssl(
    weights: Weights, tensors: dict[str, Tensor], architecture: Architecture, output: Path, axes: str
) -> Export:
    network, mark = _for_nnunet(weights, tensors, architecture, axes, "voco-nnssl/1")
    settings = weights.settings or {}
    preprocess, crops = settings.get("preprocess") or {}, settings.get("crops") or {}
    size_vox, spacing_mm = crops.get("input_size") or crops.get("size"), preprocess.get("spacing_mm")
    plan = adaptation_plan(network, axes, architecture.in_channels, size_vox, spacing_mm)
    beside = output.with_name(f"{output.name}.adaptation_plan.json")
    write_atomic(output, _torch_bytes({"network_weights": network.weights, ADAPTATION_PLAN: plan, MARK: mark}))
    write_atomic(beside, json.dumps(plan, indent=1).encode())
    notes = [
        f"The kernels are for arrays with their axes as {', '.join(axes)}.",
        "nnU-Net takes the encoder by nnUNetv2_preprocess_like_nnssl -pc FILE, then nnUNetv2_train_pretrained.",
    ]
    if network.key_to_stem.startswith(network.key_to_encoder):
        notes.append(
            f"nnU-Net takes a PlainConvUNet for data of as many channels alone as the weights have: "
            f"{architecture.in_channels}."
        )
    if spacing_mm is None:
        notes.append(
            "The spacing of the training is not known, or was not fixed: nnU-Net takes its own for the data set."
        )
    once = _once(network)
    return Export((output, beside), len(once), _parameters(once), tuple(notes))


def _for_nnunet(
    weights: Weights, tensors: Mapping[str, Tensor], architecture: Architecture, axes: str, file_format: str
) -> tuple[NnunetNetwork, str]:
    """Return the network as nnU-Net has it, and what the file says of itself.

    Raises:
        UsageError: nnU-Net has no such network.
    """
    network = architecture.for_nnunet(tensors, axes)
    if network is None:
        raise UsageError(
            f"{weights.origin} is of {architecture.encoder_words}; nnU-Net's PlainConvUNet takes the backbone unet, "
            "its ResidualEncoderUNet the backbone resenc.",
            "export it as monai or authors",
        )
    about = {**_about(weights, architecture, tensors), "format": file_format, "axes": axes}
    return network, json.dumps({key: value for key, value in about.items() if key != "names"})


def _once(network: NnunetNetwork) -> dict[str, Tensor]:
    return {str(id(tensor)): tensor for tensor in network.weights.values()}


def _train_words(plans: Mapping[str, Any], weights_file: Path) -> tuple[str, ...]:
    where = (str(plans["dataset_name"]), chosen_configuration(plans), "0")
    return ("nnUNetv2_train", *where, "-p", str(plans["plans_name"]), "-pretrained_weights", str(weights_file))


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
