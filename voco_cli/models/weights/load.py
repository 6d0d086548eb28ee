"""Put weights into a network, and account for every tensor of both."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

import torch
from torch import Tensor, nn

from voco_cli.config.schema import Model
from voco_cli.document.blocks import Column, Table
from voco_cli.errors import DataError, UsageError
from voco_cli.models.backbone import ENCODER_PARTS, Architecture, NetworkPart
from voco_cli.models.weights.architecture import (
    infer_architecture,
    patch_merging_of,
    set_patch_merging,
    shapes_only,
)
from voco_cli.models.weights.read import Kind, Weights, read_weights
from voco_cli.models.weights.tensor_names import is_first_layer, is_last_layer, part_of, read_name
from voco_cli.models.weights.write import own_tensors


class LoadStatus(StrEnum):
    """The ways in which a tensor can end.

    LOADED went into the network, MISSING is in the network only, UNEXPECTED in the source only, MISMATCHED in both with
    different shapes, or not to be taken.
    """

    LOADED = "loaded"
    MISSING = "missing"
    UNEXPECTED = "unexpected"
    MISMATCHED = "mismatched"


@dataclass(frozen=True)
class TensorStatus:
    """One tensor.

    Attributes:
        name: MONAI's, or the source's where MONAI has none.
        part: of the network.
        status: loaded, or why not.
        parameters: numbers in it; of the network's tensor where there is one. Index buffers count 0.
        change: ``repeated`` over more input channels, ``reinitialised`` first or last layer, ``left aside`` decoder
            that was not asked for, else empty.
    """

    name: str
    part: NetworkPart
    status: LoadStatus
    parameters: int
    change: str = ""


@dataclass(frozen=True)
class LoadReport:
    """The status of every tensor of a source and of a network; nothing is passed over.

    Attributes:
        origin, kind, branch: of the source.
        tensors: one entry a tensor.
        patch_merging: what the network computes with now; None without patch merging.
        min_loaded: share of the encoder that was asked for.
        notes: what a user should know, one sentence each.
        objectives: where a pre-training starts, what became of heads, teachers and decoders, in words.
    """

    origin: str
    kind: str
    branch: str | None
    tensors: tuple[TensorStatus, ...]
    patch_merging: str | None
    min_loaded: float
    notes: tuple[str, ...] = ()
    objectives: str = ""

    def names(self, status: LoadStatus) -> tuple[str, ...]:
        """Return the names of the tensors of one status."""
        return tuple(tensor.name for tensor in self.tensors if tensor.status is status)

    @property
    def loaded(self) -> tuple[str, ...]:
        """Put into the network."""
        return self.names(LoadStatus.LOADED)

    @property
    def missing(self) -> tuple[str, ...]:
        """In the network, but not in the source; left as they were."""
        return self.names(LoadStatus.MISSING)

    @property
    def unexpected(self) -> tuple[str, ...]:
        """In the source, but not in the network."""
        return self.names(LoadStatus.UNEXPECTED)

    @property
    def mismatched(self) -> tuple[str, ...]:
        """In both, of different shapes; left as they were."""
        return self.names(LoadStatus.MISMATCHED)

    @property
    def repeated(self) -> tuple[str, ...]:
        """First layers, loaded with their kernels repeated over more input channels."""
        return tuple(tensor.name for tensor in self.tensors if tensor.change == "repeated")

    @property
    def reinitialised(self) -> tuple[str, ...]:
        """First and last layers that differ as asked, and keep the network's fresh values."""
        return tuple(tensor.name for tensor in self.tensors if tensor.change == "reinitialised")

    def count(self, part: NetworkPart, status: LoadStatus) -> tuple[int, int]:
        """Count the tensors and the parameters of one part and status."""
        found = [tensor.parameters for tensor in self.tensors if tensor.part is part and tensor.status is status]
        return len(found), sum(found)

    def share(self, part: NetworkPart) -> float | None:
        """Return the loaded share of the network's parameters in a part; None where it has none."""
        total = sum(self.count(part, status)[1] for status in LoadStatus if status is not LoadStatus.UNEXPECTED)
        return self.count(part, LoadStatus.LOADED)[1] / total if total else None

    @property
    def encoder_share(self) -> float:
        """Loaded share of the encoder's parameters, of the network's and of the source's, whichever is smaller.

        First layers that are reinitialised because the input channels differ count on neither side.
        """
        encoder = [t for t in self.tensors if t.part in ENCODER_PARTS and t.change != "reinitialised"]
        loaded = sum(tensor.parameters for tensor in encoder if tensor.status is LoadStatus.LOADED)
        of_network = sum(tensor.parameters for tensor in encoder if tensor.status is not LoadStatus.UNEXPECTED)
        of_source = sum(tensor.parameters for tensor in encoder if tensor.status is not LoadStatus.MISSING)
        return loaded / max(of_network, of_source) if loaded else 0.0

    def to_json(self) -> dict[str, Any]:
        """Return everything, ready for ``json.dumps``; kept in a run."""
        parts = {}
        for part in self.parts():
            counts = ((status.value, *self.count(part, status)) for status in LoadStatus)
            row: dict[str, Any] = {
                status: {"tensors": tensors, "parameters": parameters} for status, tensors, parameters in counts
            }
            parts[part.value] = {**row, "share": self.share(part)}
        return {
            "origin": self.origin,
            "kind": self.kind,
            "branch": self.branch,
            "patch_merging": self.patch_merging,
            "encoder_share": self.encoder_share,
            "min_loaded": self.min_loaded,
            "parts": parts,
            "missing": list(self.missing),
            "unexpected": list(self.unexpected),
            "mismatched": list(self.mismatched),
            "repeated": list(self.repeated),
            "reinitialised": list(self.reinitialised),
            "notes": list(self.notes),
        }

    def parts(self) -> list[NetworkPart]:
        """Return the parts that have a tensor, in the order of reports."""
        return [part for part in NetworkPart if any(tensor.part is part for tensor in self.tensors)]

    def table(self) -> Table:
        """Tabulate counts by part, and the loaded share of the network's parameters."""
        headings = [status.value for status in LoadStatus]
        rows = []
        for part in self.parts():
            counts = [self.count(part, status)[0] or None for status in LoadStatus]
            share = self.share(part)
            loaded = self.count(part, LoadStatus.LOADED)[1]
            rows.append([part.value, *counts, None if share is None else f"{loaded:,} ({share:.1%})"])
        columns = [Column(heading, True) for heading in (*headings, "parameters loaded")]
        return Table.of("", [Column("part of the network"), *columns], rows)

    def __str__(self) -> str:
        counts = ", ".join(f"{len(self.names(status))} {status.value}" for status in LoadStatus)
        merging = f"; patch merging {self.patch_merging}" if self.patch_merging else ""
        beside = f"; beside it {self.objectives}" if self.objectives else ""
        encoder = f"{self.encoder_share:.1%} of the encoder's parameters loaded"
        return f"{self.origin}: {counts} tensors; {encoder}{merging}{beside}"


InputChannels = Literal["repeat", "reinit"]
Transfer = Literal["all", "encoder"]


class OtherNetwork(UsageError):
    """Weights of another network than the one that they were to fill.

    Attributes:
        theirs: the network that they belong to.
    """

    theirs: Architecture


MIN_LOADED = dict.fromkeys(Kind, 1.0) | {Kind.OTHER: 0.5, Kind.SWIN_TRANSFORMER: 0.3}
"""Share of the encoder's parameters that each kind of source should give; all of it where its layout is known.

The transformer is 35 to 39 % of SwinUNETR's encoder, by its width; the convolutions beside it stay fresh.
"""


def load_into(
    network: nn.Module | Mapping[str, Tensor],
    weights: Weights,
    *,
    min_loaded: float | None = None,
    input_channels: InputChannels = "reinit",
    transfer: Transfer = "all",
) -> LoadReport:
    """Copy every tensor that fits, and set the patch merging that the weights were trained with.

    Nothing is changed where an error is raised.

    Args:
        network: MONAI's SwinUNETR or DynUNet, our encoders, or a module that holds one of these; with fresh weights,
            which tensors that do not load keep. Or the tensors of such a network, as `Architecture.meta_tensors` gives
            them: then the report is all that comes of it.
        weights: from :func:`voco_cli.models.weights.read.read_weights`.
        min_loaded: share of the encoder's parameters that must load, 0 to 1; none is what the kind of source
            should give.
        input_channels: first layers for another number of input channels are left fresh, or for more of them
            repeated and divided by how often, so that equal channels give the same features.
        transfer: ``encoder`` leaves the weights' decoder aside. Its last layer is always left aside where the weights
            are of a pre-training: it gave values of another kind.
    Returns:
        the status of each tensor.
    Raises:
        UsageError: the weights are of another architecture, or less than ``min_loaded`` fits.
        DataError: a tensor holds values that are not finite.
    """
    own = _under_monai_names(own_tensors(network)) if isinstance(network, nn.Module) else dict(network)
    needed = MIN_LOADED[weights.kind] if min_loaded is None else min_loaded
    pairs = {
        name: _left_aside(name, weights, transfer) or fitted(name, tensor, own[name], input_channels)
        for name, tensor in weights.tensors.items()
        if name in own
    }
    merges = not isinstance(network, nn.Module) or patch_merging_of(network) is not None
    merging, tensors = weights.patch_merging if merges else None, _statuses(weights, own, pairs)
    notes = (*weights.notes, *_notes(tensors))
    report = LoadReport(weights.origin, weights.kind.value, weights.branch, tensors, merging, needed, notes)
    if not report.loaded or report.encoder_share < needed:
        raise _too_little(report, weights, own)
    fitting = {name: tensor for name, (tensor, _) in pairs.items() if tensor is not None}
    require_finite(fitting, weights.origin)
    with torch.no_grad():
        for name, tensor in fitting.items():
            own[name].copy_(tensor)
    if merging is not None and isinstance(network, nn.Module):
        set_patch_merging(network, merging)
    return report


def require_finite(tensors: Mapping[str, Tensor], origin: str) -> None:
    """Raise DataError if a tensor holds values that are not finite."""
    for name, tensor in tensors.items():
        if not tensor.is_meta and tensor.is_floating_point() and not bool(torch.isfinite(tensor.float()).all()):
            raise DataError(f"{origin} holds values that are not finite in {name}.", "take an earlier checkpoint")


def _under_monai_names(own: dict[str, Tensor]) -> dict[str, Tensor]:
    """Take off what stands before the names in a network that holds an encoder as ``encoder`` or ``backbone``."""
    named = {read_name(name).name: tensor for name, tensor in own.items()}
    return named if len(named) == len(own) else own


def _left_aside(name: str, weights: Weights, transfer: Transfer) -> tuple[None, str] | None:
    """Return what becomes of a decoder's tensor that is not to be taken; None for all others."""
    if transfer == "encoder" and part_of(name) is NetworkPart.DECODER:
        return None, "left aside"
    if is_last_layer(name) and weights.is_pretrained:
        return None, "reinitialised"
    return None


def fitted(name: str, tensor: Tensor, own: Tensor, input_channels: InputChannels) -> tuple[Tensor | None, str]:
    """Return a tensor of the network's shape, or None; and the change to a first or last layer."""
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
    """Return True for numbers as they are: sparse and quantised tensors do not fill a network by copying."""
    return tensor.layout is torch.strided and not tensor.is_quantized


def _but_inputs(tensor: Tensor) -> tuple[int, ...]:
    return (tensor.shape[0], *tensor.shape[2:])


def _statuses(
    weights: Weights, own: dict[str, Tensor], pairs: dict[str, tuple[Tensor | None, str]]
) -> tuple[TensorStatus, ...]:
    found = []
    for name, tensor in own.items():
        fitted, change = pairs.get(name, (None, ""))
        held = LoadStatus.MISMATCHED if name in pairs else LoadStatus.MISSING
        status = held if fitted is None else LoadStatus.LOADED
        found.append(TensorStatus(name, part_of(name), status, _parameters(tensor), change))
    others = {**{name: t for name, t in weights.tensors.items() if name not in own}, **weights.heads}
    for name, tensor in others.items():
        part = NetworkPart.HEAD if name in weights.heads else part_of(name)
        found.append(TensorStatus(name, part, LoadStatus.UNEXPECTED, _parameters(tensor)))
    return tuple(found)


def _parameters(tensor: Tensor) -> int:
    return tensor.numel() if tensor.is_floating_point() else 0


def _notes(tensors: tuple[TensorStatus, ...]) -> list[str]:
    notes = []
    for change, said in (("repeated", "repeated over more input channels"), ("reinitialised", "left fresh")):
        for kind, is_kind in (("First", is_first_layer), ("Last", is_last_layer)):
            names = [tensor.name for tensor in tensors if tensor.change == change and is_kind(tensor.name)]
            if names:
                notes.append(f"{kind} layers for other channels are {said}: {', '.join(names)}.")
    left = [tensor for tensor in tensors if tensor.change == "left aside"]
    if left:
        notes.append(f"The decoder is left fresh ({len(left)} tensors), as model.transfer=encoder asks.")
    return notes


def _too_little(report: LoadReport, weights: Weights, own: dict[str, Tensor]) -> UsageError:
    """Put the error in words: what the weights are of, what the network is, how much fits."""
    theirs, ours = weights.architecture, infer_architecture(own)
    share = f"{report.encoder_share:.1%} of the encoder fits, {report.min_loaded:.1%} must"
    hint = f"if that is what you want: --set model.min_loaded={math.floor(100 * report.encoder_share) / 100}"
    if theirs is not None and ours is not None and theirs.encoder_words != ours.encoder_words:
        message = f"{weights.origin} is of {theirs.encoder_words}, the network is {ours.encoder_words}"
        words = theirs.settings_words()
        other = OtherNetwork(
            f"{message} ({share}).",
            f"choose the network of the weights: {words}" if words else f"no setting makes it: {theirs.python_call()}",
        )
        other.theirs = theirs
        return other
    if not report.loaded:
        return UsageError(
            f"No tensor of {weights.origin} fits the network.", "`voco weights inspect` shows what it holds"
        )
    missing = [tensor.name for tensor in report.tensors if tensor.status in (LoadStatus.MISSING, LoadStatus.MISMATCHED)]
    return UsageError(f"{weights.origin} fills too little of the network ({share}; first: {missing[0]}).", hint)


def check_start(build: Callable[[], nn.Module], model: Model) -> LoadReport | None:
    """Report what `load_start` would do to the network that ``build`` makes, without its memory, in a second.

    Raises:
        UsageError, DataError: as `load_start`.
    """
    if model.weights is None:
        return None
    with shapes_only():
        network = build()
    return load_start(network, model)


def load_start(network: nn.Module, model: Model) -> LoadReport | None:
    """Fill a network with ``model.weights``; it keeps what they do not hold.

    Returns:
        the status of each tensor; None where no weights are asked for.
    Raises:
        UsageError, DataError: as :func:`read_weights` and :func:`load_into`.
    """
    weights = None if model.weights is None else read_start(model.weights, model)
    return None if weights is None else load_as_asked(network, weights, model)


def read_start(source: str, model: Model) -> Weights:
    """Read the weights that a training starts from, as the settings say.

    Raises:
        UsageError, DataError: as :func:`read_weights`.
    """
    merging = None if model.weights_merging == "auto" else model.weights_merging
    return read_weights(source, trust_pickle=model.trust_pickle, branch=model.weights_branch, patch_merging=merging)


def load_as_asked(network: nn.Module, weights: Weights, model: Model) -> LoadReport:
    """Fill a network with weights, as the settings say.

    Raises:
        UsageError, DataError: as :func:`load_into`.
    """
    return load_into(
        network,
        weights,
        min_loaded=model.min_loaded,
        input_channels=model.input_channels,
        transfer=model.transfer,
    )
