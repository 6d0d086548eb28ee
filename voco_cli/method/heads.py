"""The projector, with a batch norm that spans all rows of a step, on all processes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch import distributed as dist

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


def _sum_over_processes(x: Tensor) -> Tensor:
    if not _is_distributed():
        return x
    from torch.distributed.nn.functional import all_reduce  # differentiable; its backward sums the gradients

    summed: Tensor = all_reduce(x)
    return summed


class Projector(nn.Sequential):
    """MLP from pooled features to the embedding that is compared; batch norm and ReLU after each hidden layer."""

    def __init__(self, in_features: int, hidden: Sequence[int], out_features: int) -> None:
        layers: list[nn.Module] = []
        for width in hidden:
            layers += [nn.Linear(in_features, width), StepBatchNorm(), nn.ReLU(inplace=True)]
            in_features = width
        super().__init__(*layers, nn.Linear(in_features, out_features))
