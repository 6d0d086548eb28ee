"""MONAI's residual block on channels-last tokens: two convolutions, instance norms, and one leaky ReLU after each.

Tokens with their channels last are what torch calls channels_last_3d, in which convolutions of 24 to 48 channels run
1.1 to 1.4 times as fast forward and 1.4 times backward, and nothing is permuted between them and the attention. Torch's
instance norm is slow in that layout; here it takes the residual sum and the leaky ReLU along: on a CPU over blocks of
rows that stay in the cache, on a GPU in kernels (see kernels).

Letters: B crops; X, Y, Z voxels along the axes; C channels; R rows of voxels along the last axis, in a crop or a
block of it; L = Z * C values of such a row: per-channel factors, repeated, make vector operations long.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from voco_cli.models import onednn
from voco_cli.models.kernels import triton_here
from voco_cli.models.kernels.instance_norm import NORM_EPS, norm_add_leaky

NORM_AT_ONCE = 1 << 18
"""Values normalised together: 1 MB, which stays in the cache."""
SLOPE = 0.01
"""Of the leaky ReLU, as MONAI's block has it."""
FEW_VOXELS = 512
"""Volumes this small cost less in torch's usual layout: their weights, which it would turn around, are larger."""


def residual_block(tokens_BXYZC: Tensor, block: Any) -> Tensor:
    """Compute MONAI's block with its parameters.

    Args:
        tokens_BXYZC: input of the block, channels last and contiguous.
        block: MONAI's UnetResBlock, or a module of the same names, with stride 1, instance norms without parameters
            and a leaky ReLU.
    Returns:
        the output in the same layout.
    """
    first = convolve(tokens_BXYZC, block.conv1.conv.weight)
    residual = project(tokens_BXYZC, block.conv3.conv.weight) if block.downsample else tokens_BXYZC
    return finish_block(first, residual, block)


def finish_block(first_BXYZC: Tensor, residual_BXYZC: Tensor, block: Any) -> Tensor:
    """Compute the rest of a block from its first convolution and its normalised residual."""
    hidden = _norm_add_leaky(first_BXYZC, None, SLOPE)
    return _norm_add_leaky(convolve(hidden, block.conv2.conv.weight), residual_BXYZC, SLOPE)


def instance_norm(tokens_BXYZC: Tensor) -> Tensor:
    """Give each channel of each crop mean 0 and variance 1."""
    return _norm_add_leaky(tokens_BXYZC, None, 1.0)


def project(tokens_BXYZC: Tensor, weight: Tensor) -> Tensor:
    """Return the instance norm of a 1x1x1 convolution.

    From one channel it is known without either: the norm of w x is w (x - mean x) / sqrt(w^2 var x + eps).
    """
    weight = weight.flatten(1)
    if weight.shape[1] > 1:
        return instance_norm(onednn.linear(tokens_BXYZC, weight))
    on_gpu = triton_here.on_gpu(tokens_BXYZC)
    exact = tokens_BXYZC.float() if on_gpu else tokens_BXYZC  # of bfloat16 the mean would be one too
    variance, mean = torch.var_mean(exact, (1, 2, 3), correction=0, keepdim=True)
    gain = weight[:, 0] * (weight[:, 0] ** 2 * variance + NORM_EPS).rsqrt()
    if on_gpu:
        return (exact - mean).to(tokens_BXYZC.dtype) * gain.to(tokens_BXYZC.dtype)
    # As a matrix product, because its backward pass is one too: no tensor of the output's size between.
    product_BRC = (tokens_BXYZC - mean).flatten(1, 3) @ gain.flatten(1, 3)
    return product_BRC.view(*tokens_BXYZC.shape[:4], -1)


def convolve(tokens_BXYZC: Tensor, weight: Tensor) -> Tensor:
    """Convolve by 3x3x3 voxels, with padding of one voxel and no bias."""
    if tokens_BXYZC.shape[-1] == 1:
        return _convolve_one_channel(tokens_BXYZC[..., 0], weight)
    x_BCXYZ = tokens_BXYZC.movedim(-1, 1)
    if not triton_here.on_gpu(tokens_BXYZC) and x_BCXYZ[0, 0].numel() < FEW_VOXELS:
        x_BCXYZ = x_BCXYZ.contiguous()
    return onednn.convolve(x_BCXYZ, weight, padding=1).movedim(1, -1).contiguous()


def _convolve_one_channel(image_BXYZ: Tensor, weight: Tensor) -> Tensor:
    """Multiply 27 shifted images with the weights: torch's weight gradient takes five times as long."""
    padded, weight_27C = F.pad(image_BXYZ, (1,) * 6), weight.flatten(1).T
    if triton_here.on_gpu(image_BXYZ):
        windows = padded.unfold(1, 3, 1).unfold(2, 3, 1).unfold(3, 3, 1)
        neighbours_27R = windows.permute(4, 5, 6, 0, 1, 2, 3).flatten(3).flatten(0, 2)
        return (neighbours_27R.T @ weight_27C).view(*image_BXYZ.shape, -1)
    x, y, z = image_BXYZ.shape[1:]
    shifted = [padded[:, i : i + x, j : j + y, k : k + z] for i, j, k in product(range(3), repeat=3)]
    neighbours_B27R = torch.stack(shifted, dim=1).flatten(2)
    weight_B27C = weight_27C.expand(len(image_BXYZ), -1, -1)
    return (neighbours_B27R.mT @ weight_B27C).view(*image_BXYZ.shape, -1)


def _norm_add_leaky(x: Tensor, residual: Tensor | None, slope: float) -> Tensor:
    if triton_here.on_gpu(x):
        return norm_add_leaky(x, residual, slope)
    out: Tensor = _NormAddLeaky.apply(x, residual, slope)  # type: ignore[no-untyped-call]
    return out


class _NormAddLeaky(torch.autograd.Function):
    """leaky ReLU(instance norm(x) + residual); with slope 1 the last step does nothing."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, residual: Tensor | None, slope: float) -> Tensor:
        y, (crops, z, channels), voxels = torch.empty_like(x), (len(x), *x.shape[3:]), x[0, ..., 0].numel()
        mean_BC, scale_BC = x.new_empty(2, crops, channels)
        for b, blocks in enumerate(_blocks(x, y, residual)):
            mean_BC[b] = _per_channel((x_RL.sum(0) for x_RL, *_ in blocks), z) / voxels
            mean_L = mean_BC[b].repeat(z)
            variance = _per_channel(((x_RL - mean_L).square_().sum(0) for x_RL, *_ in blocks), z) / voxels
            scale_BC[b] = (variance + NORM_EPS).rsqrt()
            scale_L = scale_BC[b].repeat(z)
            for x_RL, y_RL, *added in blocks:
                torch.sub(x_RL, mean_L, out=y_RL).mul_(scale_L)
                for residual_RL in added:
                    y_RL += residual_RL
                F.leaky_relu_(y_RL, slope)
        ctx.save_for_backward(x, y, mean_BC, scale_BC)
        ctx.slope, ctx.has_residual = slope, residual is not None
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Compute grad_x = scale (g - mean of g - h * mean of g h), g being the gradient of h = scale (x - mean)."""
        x, y, mean_BC, scale_BC = ctx.saved_tensors
        z, voxels = x.shape[3], x[0, ..., 0].numel()
        grad_x = torch.empty_like(x)
        grad_sum = torch.empty_like(x) if ctx.has_residual else grad_x
        for b, blocks in enumerate(_blocks(x, y, grad, grad_sum, grad_x)):
            mean_L, scale = mean_BC[b].repeat(z), scale_BC[b]
            for _, y_RL, grad_RL, g_RL, _ in blocks:
                torch.ops.aten.leaky_relu_backward.grad_input(grad_RL, y_RL, ctx.slope, True, grad_input=g_RL)
            mean_g = _per_channel((g_RL.sum(0) for *_, g_RL, _ in blocks), z) / voxels
            along = _per_channel(((x_RL - mean_L).mul_(g_RL).sum(0) for x_RL, _, _, g_RL, _ in blocks), z) / voxels
            shift_L, slope_L = (-mean_g * scale).repeat(z), (-along * scale**3).repeat(z)
            scale_L = scale.repeat(z)
            for x_RL, _, _, g_RL, grad_x_RL in blocks:
                of_shape = torch.addcmul(shift_L, x_RL - mean_L, slope_L)
                torch.addcmul(of_shape, g_RL, scale_L, out=grad_x_RL)
        return grad_x, grad_sum if ctx.has_residual else None, None


def _blocks(*tensors_BXYZC: Tensor | None) -> Iterator[list[tuple[Tensor, ...]]]:
    """Yield for each crop the tensors that are there, cut to the same blocks of rows."""
    flat = [tensor.flatten(3).flatten(1, 2) for tensor in tensors_BXYZC if tensor is not None]
    rows_at_once = max(1, NORM_AT_ONCE // flat[0].shape[-1])
    for crops in zip(*flat, strict=True):
        yield list(zip(*(crop.split(rows_at_once) for crop in crops), strict=True))


def _per_channel(sums_L: Iterable[Tensor], z: int) -> Tensor:
    """Sum what the blocks give, for each channel."""
    return torch.stack(list(sums_L)).sum(0).view(z, -1).sum(0)
