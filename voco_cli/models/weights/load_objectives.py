"""Put heads, teachers and decoders of a pre-training into the objectives that go on with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from voco_cli.models.backbone import NetworkPart
from voco_cli.models.weights.load import InputChannels, LoadReport, LoadStatus, TensorStatus, fitted, require_finite
from voco_cli.models.weights.objectives import ENCODER, IN_FILE, TEACHER, parts_of
from voco_cli.models.weights.read import Weights
from voco_cli.models.weights.write import own_tensors


@dataclass(frozen=True)
class _Part:
    """A head, a teacher or a decoder, and what it is filled with.

    Attributes:
        tensors: of the weights, those that fit; a part is filled whole, or left as it is.
        statuses: of its own tensors, by name.
    """

    tensors: dict[str, Tensor]
    statuses: dict[str, tuple[LoadStatus, str]]


def load_objectives(
    objectives: Mapping[str, nn.Module], weights: Weights, report: LoadReport, input_channels: InputChannels
) -> LoadReport:
    """Fill what is beside the encoder, part by part, where weights and objectives both have it in the same shapes.

    A part such as the projector is filled whole or left as it is, but for first layers for other input channels. A
    teacher's head that the weights do not hold is filled as the student's.

    Args:
        objectives: by name, each with its encoder as ``encoder``, which stays as it is.
        report: of the encoder.
        input_channels: as for `load_into`.
    Returns:
        the report, with a status of each tensor beside the encoder.
    Raises:
        DataError: a tensor holds values that are not finite; then no part is changed.
    """
    own = {
        f"{name}.{key}": tensor
        for name, objective in objectives.items()
        for key, tensor in own_tensors(objective).items()
        if not key.startswith(ENCODER)
    }
    given = weights.objectives
    parts = {part: _fit(names, own, given, input_channels) for part, names in parts_of(own).items()}
    fitting = {name: tensor for part in parts.values() for name, tensor in part.tensors.items()}
    require_finite(fitting, weights.origin)
    with torch.no_grad():
        for name, tensor in fitting.items():
            own[name].copy_(tensor)
    statuses = [
        _status(name, own[name], status, change)
        for part in parts.values()
        for name, (status, change) in part.statuses.items()
    ]
    statuses += [_status(name, given[name], LoadStatus.UNEXPECTED) for name in given if name not in own]
    words = _words(parts)
    # What the encoder's report calls heads of the weights is among the objectives' here.
    others = [tensor for tensor in report.tensors if not (given and tensor.name in weights.heads)]
    notes = (*report.notes, *([f"Beside the encoder: {words}."] if words else []))
    return replace(report, tensors=(*others, *statuses), notes=notes, objectives=words)


def _fit(
    names: list[str], own: Mapping[str, Tensor], given: Mapping[str, Tensor], input_channels: InputChannels
) -> _Part:
    """Return what a part is filled with: all of it, or nothing."""
    sources = {name: given.get(name, given.get(name.replace(f".{TEACHER}", ".", 1))) for name in names}
    pairs = {
        name: (None, "") if tensor is None else fitted(name.split(".", 2)[-1], tensor, own[name], input_channels)
        for name, tensor in sources.items()
    }
    is_whole = all(tensor is not None or change == "reinitialised" for tensor, change in pairs.values())
    tensors = {name: tensor for name, (tensor, _) in pairs.items() if tensor is not None and is_whole}
    statuses = {}
    for name, (_, change) in pairs.items():
        left = LoadStatus.MISSING if sources[name] is None else LoadStatus.MISMATCHED
        statuses[name] = (LoadStatus.LOADED if name in tensors else left, change if is_whole else "")
    return _Part(tensors, statuses)


def _status(name: str, tensor: Tensor, status: LoadStatus, change: str = "") -> TensorStatus:
    numbers = tensor.numel() if tensor.is_floating_point() else 0
    return TensorStatus(f"{IN_FILE}{name}", NetworkPart.OBJECTIVE, status, numbers, change)


def _words(parts: Mapping[str, _Part]) -> str:
    """Say which parts start from the weights, and which do not."""
    filled = [name for name, part in parts.items() if part.tensors]
    teachers = [name for name in parts if name not in filled and name.endswith(f".{TEACHER}{ENCODER[:-1]}")]
    fresh = [name for name in parts if name not in (*filled, *teachers)]
    said = (("from the weights", filled), ("as a copy of the encoder", teachers), ("fresh", fresh))
    return "; ".join(f"{', '.join(names)} {how}" for how, names in said if names)
