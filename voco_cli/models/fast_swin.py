"""SwinUNETR v2 computed with channels last from the patch embedding on, with the parameters of MONAI's modules.

The same function, equal to rounding and faster: nothing is permuted between convolutions and tokens, and
attention leaves the padding out (see residual_block and window_attention, which know the device's way).

N crops or volumes; X, Y, Z voxels or tokens along the axes; C channels.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from voco_cli.models import onednn
from voco_cli.models.kernels import triton_here
from voco_cli.models.kernels.layer_norm import layer_norm
from voco_cli.models.onednn import linear
from voco_cli.models.residual_block import convolve, finish_block, instance_norm, residual_block
from voco_cli.models.window_attention import window_attention

CURRENT_SLICES = ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, 0, 1), (0, 1, 1), (1, 1, 1))
"""Offsets (x, y, z) of the tokens that MONAI merges, in the order of the weights."""
EDGE_VOX = 32
"""Edges must be multiples: 2 for the patches and 2 for each of four mergings."""
WIDEST_ON_GPU = 192
"""Feature size whose heads of a third as many channels the attention kernels still take."""


def is_covered(images_NCXYZ: Tensor, feature_size: int) -> bool:
    """Return True where the network may be computed this way.

    On a CPU neither autocast nor a compiler may be at work; on a GPU kernels must run. Edges must fit in both.
    """
    edges = images_NCXYZ.shape[2:]
    # The last level of 32^3 voxels is one voxel, and MONAI's instance norm says why that cannot be.
    fits = all(edge % EDGE_VOX == 0 for edge in edges) and any(edge > EDGE_VOX for edge in edges)
    if images_NCXYZ.device.type == "cpu":
        busy = torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling()
        return fits and not busy and images_NCXYZ.dtype in (torch.float32, torch.float64)
    if not (fits and images_NCXYZ.is_cuda and feature_size <= WIDEST_ON_GPU):
        return False
    known = images_NCXYZ.dtype in (torch.float32, torch.bfloat16, torch.float16)
    return known and triton_here.is_available(images_NCXYZ.device.index)


class Levels(NamedTuple):
    """What the encoder blocks make of an image, channels last.

    Attributes:
        fine: four levels, from the voxels of the image to an eighth along each axis.
        plain: the normalised tokens at a sixteenth, which no block follows.
        coarsest: the last block's, at a thirty-second.
    """

    fine: list[Tensor]
    plain: Tensor
    coarsest: Tensor


def pooled(levels: Levels) -> Tensor:
    """Return the means over space of the levels that have a block, side by side: embeddings_NE."""
    return torch.cat([level.mean((1, 2, 3)) for level in (*levels.fine, levels.coarsest)], dim=1)


def decoded(network: Any, levels: Levels) -> Tensor:
    """Compute values_NKXYZ of the levels.

    Args:
        network: MONAI's SwinUNETR, or modules of the same names.
    """
    x, ups = levels.coarsest, (network.decoder5, network.decoder4, network.decoder3, network.decoder2, network.decoder1)
    for up, skip in zip(ups, (levels.plain, *reversed(levels.fine)), strict=True):
        x = decoder_block(x, skip, up)
    out = network.out.conv.conv
    return linear(x, out.weight.flatten(1), out.bias).movedim(-1, 1)


def encoder_levels(network: Any, image_NXYZC: Tensor, recompute: bool = False) -> Levels:
    """Compute all levels of a SwinUNETR v2.

    Args:
        network: MONAI's SwinUNETR, or modules of the same names.
        recompute: forget the activations of a stage and compute them again in the backward pass.
    """
    swin = network.swinViT
    if image_NXYZC.is_cuda and torch.is_autocast_enabled("cuda"):
        image_NXYZC = image_NXYZC.to(torch.get_autocast_dtype("cuda"))  # once, as all that reads it would
    tokens = embed_patches(image_NXYZC, swin.patch_embed.proj)
    fine = [residual_block(image_NXYZC, network.encoder1.layer)]
    stages = (
        (network.encoder2, swin.layers1c, swin.layers1),
        (network.encoder3, swin.layers2c, swin.layers2),
        (network.encoder4, swin.layers3c, swin.layers3),
        (None, swin.layers4c, swin.layers4),
    )
    plain = tokens
    for encoder, (residual,), (layer,) in stages:
        plain = _normalised(tokens)
        if encoder is not None:
            fine.append(residual_block(plain, encoder.layer))
        stage = partial(_stage, residual=residual.layer, layer=layer)
        tokens = checkpoint(stage, tokens, use_reentrant=False) if recompute else stage(tokens)
    return Levels(fine, plain, residual_block(_normalised(tokens), network.encoder10.layer))


def _stage(tokens_NXYZC: Tensor, residual: Any, layer: Any) -> Tensor:
    return swin_stage(residual_block(tokens_NXYZC, residual), layer)


def swin_stage(tokens_NXYZC: Tensor, layer: Any) -> Tensor:
    """Compute a stage of MONAI's transformer: its blocks, then its patch merging."""
    x = tokens_NXYZC
    for block in layer.blocks:
        x = x + window_attention(_normalised(x, block.norm1), block.attn, block.shift_size)
        first, second = block.mlp.linear1, block.mlp.linear2
        hidden = F.gelu(linear(_normalised(x, block.norm2), first.weight, first.bias))
        x = x + linear(hidden, second.weight, second.bias)
    merging = layer.downsample
    rows = merge_patches(x, getattr(merging, "slices", CURRENT_SLICES))
    return linear(_normalised(rows, merging.norm), merging.reduction.weight)


def embed_patches(crops_NXYZC: Tensor, projection: nn.Conv3d) -> Tensor:
    """Embed patches as MONAI does; they do not overlap, so that it is one matrix product."""
    patches = _patches(crops_NXYZC).movedim(-1, -2).flatten(-2)
    return linear(patches, projection.weight.flatten(1), projection.bias)


def merge_patches(tokens_NXYZC: Tensor, slices: tuple[tuple[int, int, int], ...]) -> Tensor:
    """Put the channels of 2x2x2 tokens in a row, in the order of ``slices``: one copy forward and one back."""
    eight = _patches(tokens_NXYZC).unbind(-2)
    return torch.cat([eight[4 * i + 2 * j + k] for i, j, k in slices], dim=-1)


def by_place(tokens_NXYZC: Tensor) -> Tensor:
    """View tokens by their places in cubes of 2x2x2: (N, X/2, 2, Y/2, 2, Z/2, 2, C)."""
    view: Tensor = tokens_NXYZC.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).unflatten(1, (-1, 2))
    return view


def _patches(tokens_NXYZC: Tensor) -> Tensor:
    """Return each 2x2x2 tokens as eight rows: (N, X/2, Y/2, Z/2, 8, C)."""
    return by_place(tokens_NXYZC).permute(0, 1, 3, 5, 2, 4, 6, 7).flatten(4, 6)


def _normalised(tokens_NXYZC: Tensor, norm: nn.LayerNorm | None = None) -> Tensor:
    """Normalise the channels of each token, with the parameters of ``norm``."""
    parameters = (None, None) if norm is None else (norm.weight, norm.bias)
    if triton_here.on_gpu(tokens_NXYZC):
        return layer_norm(tokens_NXYZC, *parameters)
    return F.layer_norm(tokens_NXYZC, tokens_NXYZC.shape[-1:], *parameters)


FOLD_VOXELS = 24**3
"""Coarse voxels from which folding pays on a CPU; weights are folded anew in each forward pass."""


def decoder_block(coarse_NxyzI: Tensor, skip_NXYZC: Tensor, block: Any) -> Tensor:
    """Compute MONAI's UnetrUpBlock with its parameters; its transposed convolution goes in steps of 2.

    Args:
        block: MONAI's UnetrUpBlock with a residual block, or modules of the same names.
    """
    up_weight = block.transp_conv.conv.weight
    # Whether it pays on a GPU has not been measured.
    if triton_here.on_gpu(coarse_NxyzI) or coarse_NxyzI[0, ..., 0].numel() < FOLD_VOXELS:
        return residual_block(upsampled(coarse_NxyzI, skip_NXYZC, up_weight), block.conv_block)
    return folded_block(coarse_NxyzI, skip_NXYZC, up_weight, block.conv_block)


def upsampled(coarse_NxyzI: Tensor, skip_NXYZC: Tensor, up_weight: Tensor) -> Tensor:
    """Return the transposed convolution with the skipped tokens behind it.

    Its kernel of 2 goes in steps of 2, so that each token makes eight: one matrix product, and one copy that lays the
    eight in their places beside the skip.
    """
    made = _eight(onednn.linear(coarse_NxyzI, up_weight.permute(2, 3, 4, 1, 0).flatten(0, 3)))
    return torch.cat([made, by_place(skip_NXYZC)], dim=-1).flatten(5, 6).flatten(3, 4).flatten(1, 2)


def folded_block(coarse_NxyzI: Tensor, skip_NXYZC: Tensor, up_weight: Tensor, block: Any) -> Tensor:
    """Compute the same residual block of the step up and the skip, without writing one beside the other."""
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
    """Fold a convolution and the transposed one before it into one of 2x2x2 coarse voxels, weight_EI222.

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
    """View what fine voxels take, as ``by_place`` has them."""
    n, x, y, z, channels = seen_NxyzE.shape
    of_n, of_x, of_y, of_z, _ = seen_NxyzE.stride()
    part = channels // 8
    shape = n, x - 1, 2, y - 1, 2, z - 1, 2, part
    return seen_NxyzE.as_strided(
        shape, (of_n, of_x, of_x + 4 * part, of_y, of_y + 2 * part, of_z, of_z + part, 1), seen_NxyzE.storage_offset()
    )


def _eight(tokens_NxyzE: Tensor) -> Tensor:
    """View coarse tokens whose channels are those of eight fine ones, as ``by_place`` has them."""
    eight: Tensor = tokens_NxyzE.unflatten(-1, (2, 2, 2, -1))
    return eight.permute(0, 1, 4, 2, 5, 3, 6, 7)
