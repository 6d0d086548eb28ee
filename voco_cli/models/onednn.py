"""Linear layers and convolutions on a CPU through oneDNN, also where torch would take something slower.

torch multiplies float32 matrices by MKL, which is half as fast on some processors, and convolves a batch of one small
volume by a plain loop, which takes up to four times as long. Where oneDNN does not compute (float64, GPUs, builds
without it), torch's usual ways stay.

R tokens in a row, the image of height 1 that a linear layer is here; B crops; C, O channels in and out; X, Y, Z voxels
along the axes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


def linear(tokens: Tensor, weight_OC: Tensor, bias_O: Tensor | None = None) -> Tensor:
    """Compute torch's ``linear`` of one or more tokens with their channels last."""
    if not _computes(tokens):
        return F.linear(tokens, weight_OC, bias_O)
    image: Tensor = _Linear.apply(tokens, weight_OC, bias_O)  # type: ignore[no-untyped-call]
    return _as_tokens(image, tokens)


def convolve(x_BCXYZ: Tensor, weight: Tensor, padding: int) -> Tensor:
    """Convolve without bias; ``padding`` voxels of zeros at each face."""
    if not _computes(x_BCXYZ):
        return F.conv3d(x_BCXYZ, weight, padding=padding)
    return torch.mkldnn_convolution(x_BCXYZ, weight, None, (padding,) * 3, (1,) * 3, (1,) * 3, 1)


def _computes(x: Tensor) -> bool:
    # A compiler knows none of the calls below, not even the questions.
    if torch.compiler.is_compiling() or x.device.type != "cpu" or x.dtype != torch.float32:
        return False
    return torch.backends.mkldnn.is_available() and bool(torch.backends.mkldnn.enabled)


class _Linear(torch.autograd.Function):
    """As a 1x1 convolution of an image of one row, whose gradients torch would compute by something slower again.

    It returns the image and no view of it, so that what is done to the tokens in place can be differentiated.
    """

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, weight_OC: Tensor, bias_O: Tensor | None) -> Tensor:
        ctx.save_for_backward(tokens, weight_OC)
        return _convolve_row(tokens, weight_OC, bias_O)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_1O1R: Tensor) -> tuple[Tensor | None, ...]:
        tokens, weight_OC = ctx.saved_tensors
        wanted, grad_RO = ctx.needs_input_grad, grad_1O1R[0, :, 0].T
        grad_tokens = _as_tokens(_convolve_row(grad_RO, weight_OC.T), tokens) if wanted[0] else None
        grad_weight = grad_RO.T @ tokens.reshape(-1, tokens.shape[-1]) if wanted[1] else None
        return grad_tokens, grad_weight, grad_RO.sum(0) if wanted[2] else None


def _convolve_row(tokens: Tensor, weight_OC: Tensor, bias_O: Tensor | None = None) -> Tensor:
    row_1C1R = tokens.reshape(1, 1, -1, tokens.shape[-1]).movedim(-1, 1)
    return torch.mkldnn_convolution(row_1C1R, weight_OC[:, :, None, None], bias_O, (0, 0), (1, 1), (1, 1), 1)


def _as_tokens(image_1O1R: Tensor, tokens: Tensor) -> Tensor:
    """Put the pixels in the places of ``tokens``."""
    return image_1O1R.movedim(1, -1).reshape(*tokens.shape[:-1], -1)
