"""Linear layers and convolutions on a CPU through oneDNN, also where torch would take something slower.

torch multiplies float32 matrices by MKL, which is half as fast on some processors, and convolves a batch of one small
volume by a plain loop, which takes up to four times as long. Where oneDNN does not compute (float64, GPUs, builds
without it), torch's usual ways stay.

R rows of tokens; B crops; C, O channels in and out; X, Y, Z voxels along the axes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


def linear(tokens: Tensor, weight_OC: Tensor, bias_O: Tensor | None = None) -> Tensor:
    """torch's ``linear`` of tokens with their channels last."""
    if not _computes(tokens):
        return F.linear(tokens, weight_OC, bias_O)
    found: Tensor = _Linear.apply(tokens, weight_OC, bias_O)  # type: ignore[no-untyped-call]
    return found


def convolve(x_BCXYZ: Tensor, weight: Tensor, padding: int) -> Tensor:
    """A convolution without bias; ``padding`` voxels of zeros at each face."""
    if not _computes(x_BCXYZ):
        return F.conv3d(x_BCXYZ, weight, padding=padding)
    return torch.mkldnn_convolution(x_BCXYZ, weight, None, (padding,) * 3, (1,) * 3, (1,) * 3, 1)


def _computes(x: Tensor) -> bool:
    known = x.device.type == "cpu" and x.dtype == torch.float32 and torch.backends.mkldnn.is_available()
    return known and not torch.compiler.is_compiling()  # compilers do not know this call


class _Linear(torch.autograd.Function):
    """As a convolution of one row of pixels, whose gradients torch would compute by something slower again."""

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, weight_OC: Tensor, bias_O: Tensor | None) -> Tensor:
        ctx.save_for_backward(tokens, weight_OC)
        ctx.has_bias = bias_O is not None
        return _multiplied(tokens, weight_OC, bias_O)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        tokens, weight_OC = ctx.saved_tensors
        grad_RO = grad.reshape(-1, len(weight_OC))
        grad_tokens = _multiplied(grad, weight_OC.T) if ctx.needs_input_grad[0] else None
        grad_weight = grad_RO.T @ tokens.reshape(-1, tokens.shape[-1])
        return grad_tokens, grad_weight, grad_RO.sum(0) if ctx.has_bias else None


def _multiplied(tokens: Tensor, weight_OC: Tensor, bias_O: Tensor | None = None) -> Tensor:
    row_1C1R = tokens.reshape(1, 1, -1, tokens.shape[-1]).movedim(-1, 1)
    found = torch.mkldnn_convolution(row_1C1R, weight_OC[:, :, None, None], bias_O, (0, 0), (1, 1), (1, 1), 1)
    return found.movedim(1, -1).reshape(*tokens.shape[:-1], -1)
