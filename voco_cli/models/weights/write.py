"""Weights as users take them away: a safetensors file that says what it is, and the same as JSON beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from voco_cli.atomic_files import write_atomic
from voco_cli.models.backbone import backbone_of

ENCODER_FORMAT = "voco-encoder/1"
MODEL_FORMAT = "voco-model/1"
PRETRAINING_FORMAT = "voco-pretraining/1"
"""An encoder with all that its pre-training goes on from."""
CHECKPOINT_FORMAT = "voco-checkpoint/1"
MARK = "voco"
"""Under this name our files carry what they are: in a header, or in the metadata of a state dict."""
CLASSIFIER, CLASSIFIER_HEAD = "voco_cli.models.build.Classifier", "head.weight"
"""Ours, which MONAI has no network for, and a tensor that tells it."""


def write_encoder(folder: Path, encoder: nn.Module, about: Mapping[str, Any]) -> int:
    """Write ``encoder.safetensors`` and ``encoder.json``.

    Args:
        folder: made if missing.
        encoder: its tensors bear MONAI's names already.
        about: backbone, sizes, preprocessing, step: what a reader needs to use the weights; ``model`` is a must.
    Returns:
        number of tensors.
    Raises:
        ResourceError: the disk is full.
    """
    return _write(folder / "encoder.safetensors", ENCODER_FORMAT, encoder, about)


def write_model(folder: Path, network: nn.Module | Sequence[nn.Module], about: Mapping[str, Any]) -> int:
    """Write ``model.safetensors`` and ``model.json`` of a whole network, as :func:`write_encoder` does.

    Args:
        network: or its parts, encoder and decoder, whose tensors have the names of the whole.
    """
    return _write(folder / "model.safetensors", MODEL_FORMAT, network, about)


def own_tensors(network: nn.Module) -> dict[str, Tensor]:
    """Return parameters and buffers under their first name; DynUNet lists most of its twice."""
    seen: set[int] = set()
    own = {}
    for name, tensor in network.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            own[name] = tensor
    return own


def put_tensors(network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Fill a network with exactly its own tensors, as :func:`own_tensors` names them.

    Raises:
        ValueError: another set of names, or another shape; nothing is changed.
    """
    own = own_tensors(network)
    odd = sorted(set(own) ^ set(tensors)) or [name for name in own if own[name].shape != tensors[name].shape]
    if odd:
        raise ValueError(f"tensors of another network, first: {odd[0]}")
    with torch.no_grad():
        for name, tensor in tensors.items():
            own[name].copy_(tensor)


def describe(file_format: str, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> dict[str, Any]:
    """Describe a file of weights, for the JSON beside it and for its header."""
    is_classifier = CLASSIFIER_HEAD in tensors
    return {
        "format": file_format,
        **about,
        "loads_into": CLASSIFIER if is_classifier else backbone_of(about["model"]["backbone"]).loads_into,
        "names": {name: list(tensor.shape) for name, tensor in tensors.items()},
    }


def safetensors_bytes(tensors: Mapping[str, Tensor], description: Mapping[str, Any]) -> bytes:
    """Return a safetensors file whose header holds the description, so that the file alone says what it is."""
    about = {key: value for key, value in description.items() if key != "names"}
    # One key only: safetensors writes several in an order that differs from run to run.
    content: bytes = save({name: tensor.contiguous() for name, tensor in tensors.items()}, {MARK: json.dumps(about)})
    return content


def _write(path: Path, file_format: str, network: nn.Module | Sequence[nn.Module], about: Mapping[str, Any]) -> int:
    parts = [network] if isinstance(network, nn.Module) else network
    own = {name: tensor for part in parts for name, tensor in own_tensors(part).items()}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in own.items()}
    description = describe(file_format, tensors, about)
    write_atomic(path, safetensors_bytes(tensors, description))
    write_atomic(path.with_suffix(".json"), json.dumps(description, indent=1).encode())
    return len(tensors)
