"""A decoder block of MONAI's SwinUNETR, channels last: a step up, the skip beside it, and a residual block.

What stands side by side goes through two convolutions, of 3x3x3 and of one voxel; both are sums of a part that sees the
step up and one that sees the skip, and the step up is itself linear in the coarse level. On a CPU and on large levels
it is therefore *folded*: the weights of the transposed convolution go into those of the first part, which is computed
from the coarse voxels and added to the second. A fine voxel sees two coarse ones along each axis where it saw three
fine ones, 8 products instead of 27, and nothing is written side by side.

N volumes; X, Y, Z fine and x, y, z coarse voxels along the axes; channels: I of the coarse level, M of the step up, C
of the skip, O of the block; E = 8 O: those of the eight fine voxels of a coarse one, in the order of their places.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from voco_cli.networks import onednn
from voco_cli.networks.channels_last import by_place
from voco_cli.networks.kernels import triton_here
from voco_cli.networks.residual_block import convolve, finish_block, instance_norm, residual_block

FOLD_VOXELS = 24**3
"""Coarse voxels from which folding pays on a CPU; weights are folded anew in each forward pass."""


def decoder_block(coarse_NxyzI: Tensor, skip_NXYZC: Tensor, block: Any) -> Tensor:
    """What MONAI's UnetrUpBlock computes, with its parameters; its transposed convolution goes in steps of 2.

    Args:
        block: MONAI's UnetrUpBlock with a residual block, or modules of the same names.
    """
    up_weight = block.transp_conv.conv.weight
    # Whether it pays on a GPU has not been measured.
    if triton_here.on_gpu(coarse_NxyzI) or coarse_NxyzI[0, ..., 0].numel() < FOLD_VOXELS:
        return residual_block(upsampled(coarse_NxyzI, skip_NXYZC, up_weight), block.conv_block)
    return folded_block(coarse_NxyzI, skip_NXYZC, up_weight, block.conv_block)


def upsampled(coarse_NxyzI: Tensor, skip_NXYZC: Tensor, up_weight: Tensor) -> Tensor:
    """The transposed convolution with the skipped tokens behind it.

    Its kernel of 2 goes in steps of 2, so that each token makes eight: one matrix product, and one copy that lays the
    eight in their places beside the skip.
    """
    made = _eight(onednn.linear(coarse_NxyzI, up_weight.permute(2, 3, 4, 1, 0).flatten(0, 3)))
    return torch.cat([made, by_place(skip_NXYZC)], dim=-1).flatten(5, 6).flatten(3, 4).flatten(1, 2)


def folded_block(coarse_NxyzI: Tensor, skip_NXYZC: Tensor, up_weight: Tensor, block: Any) -> Tensor:
    """The same residual block of the step up and the skip, without either's being written for the other."""
    width = up_weight.shape[1]
    weight_3x3x3, weight_OC = block.conv1.conv.weight, block.conv3.conv.weight.flatten(1)
    folded = fold(weight_3x3x3[:, :width], up_weight)
    seen = onednn.convolve(coarse_NxyzI.movedim(-1, 1), folded, padding=1).movedim(1, -1)
    of_skip = convolve(skip_NXYZC, weight_3x3x3[:, width:])
    first: Tensor = _AddSeen.apply(of_skip, seen)  # type: ignore[no-untyped-call]
    of_coarse = torch.einsum("om,impqr->pqroi", weight_OC[:, :width], up_weight).flatten(0, 3)
    residual = onednn.linear(skip_NXYZC, weight_OC[:, width:])
    by_place(residual).add_(_eight(onednn.linear(coarse_NxyzI, of_coarse)))
    return finish_block(first, instance_norm(residual), block)


def fold(weight_OM333: Tensor, up_weight_IM222: Tensor) -> Tensor:
    """A convolution and the transposed one before it as one of 2x2x2 coarse voxels, weight_EI222.

    Along an axis the fine voxel at place 0 of its coarse one sees that and the one before, by its three taps on the
    last three of their four places; at place 1 that and the next, by its taps on the first three.
    """
    taps = weight_OM333
    for _ in range(3):
        of_axis = taps.movedim(2, -1)
        placed = torch.stack([F.pad(of_axis, (1, 0)), F.pad(of_axis, (0, 1))], dim=-2)
        taps = placed.unflatten(-1, (2, 2))  # for each axis the own place, the coarse voxel seen, and the place there
    return torch.einsum("ompasqbtrcu,imstu->pqroiabc", taps, up_weight_IM222).flatten(0, 3)


class _AddSeen(torch.autograd.Function):
    """Add to fine tokens what was computed from the coarse voxels that they see.

    The padded convolution of 2x2x2 coarse voxels has one more place along each axis: its i-th sees i - 1 and i. A fine
    voxel at place p of the i-th coarse one takes the (i + p)-th, of whose channels the p-th part is for it.
    """

    @staticmethod
    def forward(ctx: Any, fine_NXYZO: Tensor, seen_NxyzE: Tensor) -> Tensor:
        ctx.shape = seen_NxyzE.shape
        ctx.mark_dirty(fine_NXYZO)
        by_place(fine_NXYZO).add_(_placed(seen_NxyzE.contiguous()))
        return fine_NXYZO

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        grad_seen = grad.new_zeros(ctx.shape)
        _placed(grad_seen).copy_(by_place(grad))
        return grad, grad_seen


def _placed(seen_NxyzE: Tensor) -> Tensor:
    """View of what fine voxels take, as ``by_place`` has them."""
    n, x, y, z, channels = seen_NxyzE.shape
    of_n, of_x, of_y, of_z, _ = seen_NxyzE.stride()
    part = channels // 8
    shape = n, x - 1, 2, y - 1, 2, z - 1, 2, part
    return seen_NxyzE.as_strided(
        shape, (of_n, of_x, of_x + 4 * part, of_y, of_y + 2 * part, of_z, of_z + part, 1), seen_NxyzE.storage_offset()
    )


def _eight(tokens_NxyzE: Tensor) -> Tensor:
    """Coarse tokens whose channels are those of eight fine ones, as ``by_place`` has them."""
    eight: Tensor = tokens_NxyzE.unflatten(-1, (2, 2, 2, -1))
    return eight.permute(0, 1, 4, 2, 5, 3, 6, 7)
