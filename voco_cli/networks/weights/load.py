"""Put weights into a network, and account for every tensor of both."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from voco_cli.errors import DataError, UsageError
from voco_cli.networks.weights.architecture import Architecture, infer_architecture, patch_merging_of, set_patch_merging
from voco_cli.networks.weights.names import Part, is_first_layer, is_last_layer, part_of, read_name
from voco_cli.networks.weights.read import Kind, Weights
from voco_cli.networks.weights.report import Fate, LoadReport, TensorFate
from voco_cli.networks.weights.write import own_tensors

InputChannels = Literal["repeat", "reinit"]


class OtherNetwork(UsageError):
    """Weights of another network than the one that they were to fill.

    Attributes:
        theirs: the network that they belong to.
    """

    theirs: Architecture


MIN_LOADED = dict.fromkeys(Kind, 1.0) | {Kind.OTHER: 0.5}
"""Share of the encoder's parameters that each kind of source should give; all of it where its layout is known."""


def load_into(
    network: nn.Module | Mapping[str, Tensor],
    weights: Weights,
    *,
    min_loaded: float | None = None,
    input_channels: InputChannels = "reinit",
) -> LoadReport:
    """Copy every tensor that fits, and set the patch merging that the weights were trained with.

    Nothing is changed where an error is raised.

    Args:
        network: MONAI's SwinUNETR or DynUNet, our encoders, or a module that holds one of these; with fresh weights,
            which tensors that do not load keep. Or the tensors of such a network, as `Architecture.meta_tensors` gives
            them: then the report is all that comes of it.
        weights: from :func:`voco_cli.networks.weights.read.read_weights`.
        min_loaded: share of the encoder's parameters that must load, 0 to 1; none is what the kind of source
            should give.
        input_channels: first layers for another number of input channels are left fresh, or for more of them
            repeated and divided by how often, so that equal channels give the same features.
    Returns:
        the fate of each tensor.
    Raises:
        UsageError: the weights are of another architecture, or less than ``min_loaded`` fits.
        DataError: a tensor holds values that are not finite.
    """
    own = _under_monai_names(own_tensors(network)) if isinstance(network, nn.Module) else dict(network)
    needed = MIN_LOADED[weights.kind] if min_loaded is None else min_loaded
    pairs = {
        name: _fitted(name, tensor, own[name], input_channels)
        for name, tensor in weights.tensors.items()
        if name in own
    }
    fates = _fates(weights, own, pairs)
    merges = not isinstance(network, nn.Module) or patch_merging_of(network) is not None
    merging = weights.patch_merging if merges else None
    report = LoadReport(
        weights.origin, weights.kind.value, weights.branch, fates, merging, needed, (*weights.notes, *_notes(fates))
    )
    if not report.loaded or report.encoder_share < needed:
        raise _too_little(report, weights, own)
    fitting = {name: tensor for name, (tensor, _) in pairs.items() if tensor is not None}
    for name, tensor in fitting.items():
        if not tensor.is_meta and tensor.is_floating_point() and not bool(torch.isfinite(tensor.float()).all()):
            raise DataError(
                f"{weights.origin} holds values that are not finite in {name}.", "take an earlier checkpoint"
            )
    with torch.no_grad():
        for name, tensor in fitting.items():
            own[name].copy_(tensor)
    if merging is not None and isinstance(network, nn.Module):
        set_patch_merging(network, merging)
    return report


def _under_monai_names(own: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without what stands before them in a network that holds an encoder as ``encoder`` or ``backbone``."""
    named = {read_name(name).name: tensor for name, tensor in own.items()}
    return named if len(named) == len(own) else own


def _fitted(name: str, tensor: Tensor, own: Tensor, input_channels: InputChannels) -> tuple[Tensor | None, str]:
    """A tensor of the network's shape, or None; and what was done to a first or last layer."""
    if not _is_plain(tensor) or tensor.is_floating_point() != own.is_floating_point():
        return None, ""
    if tensor.shape == own.shape:
        return tensor, ""
    if is_last_layer(name) and tensor.shape[1:] == own.shape[1:]:
        return None, "reinitialised"
    if not is_first_layer(name) or tensor.ndim != own.ndim or _but_inputs(tensor) != _but_inputs(own):
        return None, ""
    times, rest = divmod(own.shape[1], tensor.shape[1])
    if input_channels == "repeat" and rest == 0:
        return tensor.repeat(1, times, *[1] * (tensor.ndim - 2)) / times, "repeated"
    return None, "reinitialised"


def _is_plain(tensor: Tensor) -> bool:
    """Whether it holds its numbers as they are: sparse and quantised ones do not fill a network by copying."""
    return tensor.layout is torch.strided and not tensor.is_quantized


def _but_inputs(tensor: Tensor) -> tuple[int, ...]:
    return (tensor.shape[0], *tensor.shape[2:])


def _fates(
    weights: Weights, own: dict[str, Tensor], pairs: dict[str, tuple[Tensor | None, str]]
) -> tuple[TensorFate, ...]:
    fates = []
    for name, tensor in own.items():
        fitted, change = pairs.get(name, (None, ""))
        fate = Fate.LOADED if fitted is not None else Fate.MISMATCHED if name in pairs else Fate.MISSING
        fates.append(TensorFate(name, part_of(name), fate, _parameters(tensor), change))
    others = {**{name: t for name, t in weights.tensors.items() if name not in own}, **weights.heads}
    for name, tensor in others.items():
        part = Part.HEAD if name in weights.heads else part_of(name)
        fates.append(TensorFate(name, part, Fate.UNEXPECTED, _parameters(tensor)))
    return tuple(fates)


def _parameters(tensor: Tensor) -> int:
    return tensor.numel() if tensor.is_floating_point() else 0


def _notes(fates: tuple[TensorFate, ...]) -> list[str]:
    notes = []
    for change, said in (("repeated", "repeated over more input channels"), ("reinitialised", "left fresh")):
        for kind, is_kind in (("First", is_first_layer), ("Last", is_last_layer)):
            names = [tensor.name for tensor in fates if tensor.change == change and is_kind(tensor.name)]
            if names:
                notes.append(f"{kind} layers of another number of channels are {said}: {', '.join(names)}.")
    return notes


def _too_little(report: LoadReport, weights: Weights, own: dict[str, Tensor]) -> UsageError:
    """The error in words: what the weights are of, what the network is, how much fits."""
    theirs, ours = weights.architecture, infer_architecture(own)
    share = f"{report.encoder_share:.1%} of the encoder fits, {report.min_loaded:.1%} must"
    hint = f"if that is what you want: --set model.min_loaded={math.floor(100 * report.encoder_share) / 100}"
    if theirs is not None and ours is not None and theirs.encoder_words != ours.encoder_words:
        message = f"{weights.origin} is of {theirs.encoder_words}, the network is {ours.encoder_words}"
        words = theirs.settings_words()
        other = OtherNetwork(
            f"{message} ({share}).",
            f"choose the network of the weights: {words}" if words else f"no setting makes it: {theirs.monai_call()}",
        )
        other.theirs = theirs
        return other
    if not report.loaded:
        return UsageError(
            f"No tensor of {weights.origin} fits the network.", "`voco weights inspect` shows what it holds"
        )
    missing = [tensor.name for tensor in report.fates if tensor.fate in (Fate.MISSING, Fate.MISMATCHED)]
    return UsageError(f"{weights.origin} fills too little of the network ({share}; first: {missing[0]}).", hint)
