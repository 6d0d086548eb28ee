"""The projector, with a batch norm that spans all rows of a step, on all processes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.autograd.function import FunctionCtx

from voco_cli.method.losses import at_least_float32


class StepBatchNorm(nn.Module):
    """Batch norm without affine weights and running statistics, over the rows of all processes of a step.

    Random and base crops share the statistics; without them the method collapses (all cosines 0.99 at the start).
    torch's SyncBatchNorm does the same on GPUs only.
    """

    eps = 1e-5

    def forward(self, rows_NC: Tensor) -> Tensor:
        """Rows with mean 0 and variance 1 in each channel.

        Raises:
            ValueError: fewer than two rows, which have no variance.
        """
        rows = at_least_float32(rows_NC)
        count = torch.full((1,), float(rows.shape[0]), dtype=rows.dtype, device=rows.device)
        total = _sum_over_processes(torch.cat([rows.sum(0), count]))
        count = total[-1].detach()
        if not _is_distributed() and rows.shape[0] < 2:
            raise ValueError("batch norm over a step needs at least two crops")
        centred = rows - total[:-1] / count
        variance = _sum_over_processes(centred.square().sum(0)) / count
        return (centred * torch.rsqrt(variance + self.eps)).to(rows_NC.dtype)


def _is_distributed() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


class _AllReduce(torch.autograd.Function):
    """Sum over processes; every process's loss depends on the sum, so the backward pass sums the gradients."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor) -> Tensor:
        summed = x.clone()
        dist.all_reduce(summed)
        return summed

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> Tensor:
        summed = gradients[0].clone()
        dist.all_reduce(summed)
        return summed


def _sum_over_processes(x: Tensor) -> Tensor:
    if not _is_distributed():
        return x
    summed: Tensor = _AllReduce.apply(x)  # type: ignore[no-untyped-call]
    return summed


class Projector(nn.Sequential):
    """MLP from pooled features to the embedding that is compared; batch norm and ReLU after each hidden layer."""

    def __init__(self, in_features: int, hidden: Sequence[int], out_features: int) -> None:
        layers: list[nn.Module] = []
        for width in hidden:
            layers += [nn.Linear(in_features, width), StepBatchNorm(), nn.ReLU(inplace=True)]
            in_features = width
        super().__init__(*layers, nn.Linear(in_features, out_features))
