"""Out of all tensors of a checkpoint, the one network that was asked for."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from voco_cli.models.backbone import NetworkPart
from voco_cli.models.weights.nnunet import NNUNET_AXES, XYZ, names_here, with_axes
from voco_cli.models.weights.tensor_names import TensorName, read_names

EMA, RAW, MISSING = "ema", "raw", "missing"
INDEX_TABLE = "relative_position_index"
"""Whole numbers up to 2,196 for windows of 7: half precision rounds what is above 2,048."""
SECOND_NAMES = ("skip_layers.", "heads.")
"""Under these DynUNet lists layers once more."""


@dataclass(frozen=True)
class SelectedNetwork:
    """One network of a checkpoint.

    Attributes:
        tensors: under MONAI's names.
        heads: projector of the same branch, under its own names.
        branch: student, teacher, ema, or raw beside an ema; None where there is one network only.
        other_branch: a branch that the file holds and that was not chosen.
        unused: keys of the other branch, and second names.
        is_nnunet: the names were nnU-Net's.
        notes: what a user should know.
    """

    tensors: dict[str, Tensor]
    heads: dict[str, Tensor]
    branch: str | None
    other_branch: str | None
    unused: tuple[str, ...]
    is_nnunet: bool
    notes: tuple[str, ...]


def select_network(tensors: Mapping[str, Tensor], branch: str, nnunet_axes: str = NNUNET_AXES) -> SelectedNetwork:
    """Sort tensors by branch and part, and take those of one network.

    A branch is taken for the whole network where it has tensors of one, and for the projector alone where both
    branches share a backbone (TPAMI).

    Args:
        tensors: by the file's keys.
        branch: student (or the raw copy), teacher or ema.
        nnunet_axes: axes of the arrays that a network under nnU-Net's names was trained on; nnU-Net's own are z, y, x.
    """
    names = read_names(tensors)
    bodies = [name for name in names if name.part is not NetworkPart.HEAD]
    known = [name for name in bodies if name.part is not NetworkPart.OTHER or name.is_nnunet] or bodies
    taken_branch, other = _branches({name.branch for name in known}, branch)
    body = [] if taken_branch == MISSING else [name for name in bodies if name.branch in _labels(taken_branch)]
    # Where a whole network stands without a branch beside the teacher, the teacher's own tensors go first.
    body.sort(key=lambda name: name.branch is None)
    in_heads = (branch if taken_branch in (None, RAW, MISSING) else taken_branch, None)
    of_heads = [name for name in names if name.part is NetworkPart.HEAD and name.branch in in_heads]
    heads = {name.name: tensors[name.key] for name in of_heads}
    chosen, second, is_nnunet, twice = _under_monai_names(body, tensors)
    taken = {name.key for name in (*body, *of_heads)}
    rounded = [name for name, tensor in chosen.items() if name.endswith(INDEX_TABLE) and tensor.is_floating_point()]
    for name in rounded:
        del chosen[name]
    unused = (*(key for key in tensors if key not in taken), *second, *rounded)
    turned = is_nnunet and nnunet_axes != XYZ
    if turned:
        chosen = {name: with_axes(tensor, XYZ, of=nnunet_axes) for name, tensor in chosen.items()}
    notes = [*_branch_notes(taken_branch, other, chosen), *twice]
    if turned:
        order = ", ".join(nnunet_axes)
        notes.append(f"nnU-Net's arrays have their axes as {order}; the kernels are turned to x, y, z.")
    if rounded:
        notes.append(
            f"{len(rounded)} index tables (relative_position_index) are stored as numbers with fractions, which round "
            "them; they are left aside, and the network's own are used."
        )
    if taken_branch is None and branch == "teacher" and heads:
        notes.append("Student and teacher share one backbone here; only the projector is the teacher's.")
    found_branch = None if taken_branch == MISSING else taken_branch
    return SelectedNetwork(chosen, heads, found_branch, other, unused, is_nnunet, tuple(notes))


def _branches(found: Set[str | None], asked: str) -> tuple[str | None, str | None]:
    """Choose a network of the file, and tell of another one in it.

    Returns:
        its branch: None where there is but one network, RAW beside an averaged copy, MISSING where what was asked for
        is not there and cannot be replaced; and the branch of another network in the file.
    """
    named = sorted(branch for branch in found if branch is not None)
    if not named:
        return None, None
    others = [name for name in named if name != asked]
    if asked in named:
        is_beside_raw = asked == EMA and None in found and not others
        return asked, RAW if is_beside_raw else next(iter(others), None)
    if asked == "student" and named == [EMA]:
        return (RAW, EMA) if None in found else (EMA, None)
    if asked == "student" and None in found:
        return asked, others[0]
    return MISSING, others[0]


def _labels(branch: str | None) -> tuple[str | None, ...]:
    """Return what names of a branch's tensors say; where they say nothing it is student and teacher alike."""
    if branch == EMA:
        return (EMA,)
    return (None,) if branch == RAW else (branch, None)


def _under_monai_names(
    body: list[TensorName], tensors: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], list[str], bool, list[str]]:
    """Return tensors by MONAI's names, keys of second names, whether the names were nnU-Net's, and notes."""
    renamed = names_here(name.name for name in body)
    table = {name.name: name.name for name in body} if renamed is None else renamed
    source: dict[str, TensorName] = {}
    second: list[str] = []
    odd: list[str] = []
    for name in body:
        target = table[name.name]
        first = source.get(target or "")
        if target is None or target.startswith(SECOND_NAMES) or first is not None:
            second.append(name.key)
        else:
            source[target] = name
        # A name without a branch, beside the teacher's own, is of the student.
        if first is not None and first.branch == name.branch:
            odd += [] if _are_equal(tensors[first.key], tensors[name.key]) else [name.key]
    chosen = {target: tensors[name.key] for target, name in source.items()}
    notes = []
    if odd:
        notes = [f"{len(odd)} names lead to a tensor that another name gave already; left aside is, first: {odd[0]}."]
    return chosen, second, renamed is not None, notes


def _are_equal(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype and (one.is_meta or torch.equal(one, other))


def _branch_notes(branch: str | None, other: str | None, chosen: Mapping[str, Tensor]) -> list[str]:
    if not chosen:
        return []
    if branch == EMA and other is None:
        return ["The file holds the moving average (EMA) of the network only, which is taken."]
    if branch is None or other is None:
        return []
    switch = "student" if other == RAW else other
    how = f"--branch {switch}, or --set model.weights_branch={switch}, takes that one"
    if EMA in (branch, other):
        names = {EMA: "moving average (EMA)"}
        of = "The file holds the network as it was trained (raw) and its moving average over the steps (EMA)"
        return [f"{of}; the {names.get(branch, branch)} is taken, the {names.get(other, other)} left aside ({how})."]
    return [f"The file holds two networks; the {branch} is taken, the {other} left aside ({how})."]


RAW_PLACES = (
    *("state_dict", "network_weights", "model_state_dict", "model_state", "model_weights", "net", "network", "model"),
    *("weights", "params", "module", "shadow"),
)
"""Under these keys checkpoints keep a network, in the order in which they are looked for."""
EMA_PLACES = (
    *("ema", "ema_model", "model_ema", "ema_state_dict", "state_dict_ema", "model_ema_state_dict", "ema_state"),
    *("ema_weights", "params_ema", "ema_params"),
)
"""Under these, its copy that was averaged over the steps."""
BRANCHES = (
    *("student", "teacher", "backbone", "encoder_q", "encoder_k", "encoder", "momentum_encoder"),
    *("online_encoder", "target_encoder", "online_network", "target_network"),
)
"""Under these, one of several networks; the key stays before the names of its tensors."""
NO_NETWORK = ("optim", "sched", "scaler", "loss", "metric", "random", "rng", "head", "projector", "discriminator")
DEEPEST = 8


def tensors_of(content: Any, depth: int = 0) -> dict[str, Tensor]:
    """Return the mapping of names to tensors of a checkpoint, whichever way it is nested.

    Names of a copy that was averaged over the steps begin with ``ema.``.
    """
    if isinstance(content, nn.Module):
        return dict(content.state_dict())
    if not isinstance(content, Mapping) or depth > DEEPEST:
        return {}
    here = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    nested = _nested(content, depth)
    # A step or a loss that was kept as a tensor lies beside the network, not in place of it.
    return nested if len(nested) >= len(here) else here


def places_of(content: Any) -> list[str]:
    """Return keys of a checkpoint below which there are tensors, whatever they are called."""
    if not isinstance(content, Mapping):
        return []
    return [str(name) for name, value in content.items() if isinstance(value, Mapping) and tensors_of(value)]


def _nested(content: Mapping[Any, Any], depth: int) -> dict[str, Tensor]:
    raw = next((found for name in RAW_PLACES if (found := tensors_of(content.get(name), depth + 1))), {})
    averaged = next((found for name in EMA_PLACES if (found := tensors_of(content.get(name), depth + 1))), {})
    if raw or averaged:
        return {**raw, **{_under("ema", name): tensor for name, tensor in averaged.items()}}
    branches = {
        _under(branch, name): tensor
        for branch in BRANCHES
        for name, tensor in tensors_of(content.get(branch), depth + 1).items()
    }
    return branches or _only_other(content, depth)


def _only_other(content: Mapping[Any, Any], depth: int) -> dict[str, Tensor]:
    """Return the tensors below a key of any name, where there is but one such key."""
    others = [
        found
        for name, value in content.items()
        if not any(word in str(name).lower() for word in NO_NETWORK)
        and isinstance(value, Mapping)
        and (found := tensors_of(value, depth + 1))
    ]
    return others[0] if len(others) == 1 else {}


def _under(prefix: str, name: str) -> str:
    return name if name.startswith(f"{prefix}.") else f"{prefix}.{name}"
