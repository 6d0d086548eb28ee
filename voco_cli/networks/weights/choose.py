"""Out of all tensors of a checkpoint, the one network that was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from voco_cli.networks.weights.names import Part, TensorName, read_name
from voco_cli.networks.weights.plain_conv_unet import dynunet_names, with_turned_axes

SECOND_NAMES = ("skip_layers.", "heads.")
"""Under these DynUNet lists layers once more."""


@dataclass(frozen=True)
class Chosen:
    """One network of a checkpoint.

    Attributes:
        tensors: under MONAI's names.
        heads: projector of the same branch, under its own names.
        branch: student or teacher; None where there is one network only.
        other_branch: a branch that the file holds and that was not chosen.
        left_aside: keys of the other branch, and second names.
        is_nnunet: the names were nnU-Net's.
        notes: what a user should know.
    """

    tensors: dict[str, Tensor]
    heads: dict[str, Tensor]
    branch: str | None
    other_branch: str | None
    left_aside: tuple[str, ...]
    is_nnunet: bool
    notes: tuple[str, ...]


def choose(tensors: Mapping[str, Tensor], branch: str, nnunet_axes: str = "zyx") -> Chosen:
    """Sort tensors by branch and part, and take those of one network.

    A branch is taken for the whole network where it has tensors of one, and for the projector alone where both
    branches share a backbone (TPAMI).

    Args:
        tensors: by the file's keys.
        branch: student or teacher.
        nnunet_axes: axes of the arrays that a network under nnU-Net's names was trained on; nnU-Net's own are z, y, x.
    """
    names = [read_name(key) for key in tensors]
    bodies = [name for name in names if name.part is not Part.HEAD]
    branches = sorted({name.branch for name in bodies if name.branch is not None})
    body_branch = branch if branches else None
    other = next((found for found in branches if found != branch), None)
    body = [name for name in bodies if name.branch in (body_branch, None)]
    if body_branch is not None and not any(name.branch == branch for name in body):
        body = []
    heads = {name.name: tensors[name.key] for name in names if name.part is Part.HEAD and name.branch in (branch, None)}
    chosen, second, is_nnunet = _under_monai_names(body, tensors)
    taken = {name.key for name in body} | {n.key for n in names if n.part is Part.HEAD and n.branch in (branch, None)}
    left_aside = (*(key for key in tensors if key not in taken), *second)
    if is_nnunet and nnunet_axes == "zyx":
        chosen = {name: with_turned_axes(tensor) for name, tensor in chosen.items()}
    notes = _notes(body_branch, other, is_nnunet and nnunet_axes == "zyx", chosen)
    if body_branch is None and branch == "teacher" and heads:
        notes = (*notes, "Student and teacher share one backbone here; only the projector is the teacher's.")
    return Chosen(chosen, heads, body_branch, other, left_aside, is_nnunet, notes)


def _under_monai_names(
    body: list[TensorName], tensors: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], list[str], bool]:
    is_nnunet = any(name.is_nnunet for name in body)
    table = dynunet_names(name.name for name in body) if is_nnunet else {name.name: name.name for name in body}
    chosen: dict[str, Tensor] = {}
    second = []
    for name in body:
        target = table[name.name]
        if target is None or target.startswith(SECOND_NAMES) or target in chosen:
            second.append(name.key)
        else:
            chosen[target] = tensors[name.key]
    return chosen, second, is_nnunet


def _notes(branch: str | None, other: str | None, turned: bool, chosen: Mapping[str, Tensor]) -> tuple[str, ...]:
    notes = []
    if branch is not None and other is not None and chosen:
        notes.append(f"The file holds two networks; the {branch} is taken, the {other} left aside.")
    if turned:
        notes.append("nnU-Net's arrays have their axes as z, y, x; the kernels are turned to x, y, z.")
    return tuple(notes)
