"""Batch norm over a step, and the projector, against torch's own layers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, multiprocessing, nn
from torch import distributed as dist

from voco_cli.objectives.voco.model import Projector, StepBatchNorm


def rows_of(seed: int, num_rows: int, width: int = 6) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(1.0, 3.0, (num_rows, width))).requires_grad_()


def torchs_norm(width: int) -> nn.Module:
    return nn.BatchNorm1d(width, affine=False, track_running_stats=False)


@pytest.mark.parametrize("num_rows", [2, 3, 36])
@pytest.mark.parametrize("training", [True, False])
def test_norm_and_its_gradient_are_torchs(num_rows: int, training: bool) -> None:
    rows, weights = rows_of(0, num_rows), rows_of(1, num_rows).detach()
    found = StepBatchNorm().train(training)(rows)
    expected = torchs_norm(6).train(training)(rows)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-9)
    (found_grad,) = torch.autograd.grad((found * weights).sum(), rows)
    (expected_grad,) = torch.autograd.grad((expected * weights).sum(), rows)
    torch.testing.assert_close(found_grad, expected_grad, atol=1e-12, rtol=1e-8)


def test_norm_by_hand() -> None:
    rows = torch.tensor([[1.0, 5.0], [3.0, 5.0]])  # mean 2, variance 1; a constant channel becomes 0
    expected = [[-1 / np.sqrt(1 + 1e-5), 0.0], [1 / np.sqrt(1 + 1e-5), 0.0]]
    np.testing.assert_allclose(StepBatchNorm()(rows), expected, atol=1e-7)


def test_norm_has_nothing_to_save() -> None:
    assert dict(StepBatchNorm().state_dict()) == {}


def test_norm_of_half_precision_rows_is_taken_in_single_precision() -> None:
    rows = (rows_of(0, 32).detach() + 100.0).bfloat16()
    found = StepBatchNorm()(rows)
    assert found.dtype == torch.bfloat16
    np.testing.assert_allclose(found.double(), torchs_norm(6)(rows.double()), atol=0.02)


def test_norm_of_one_row_is_refused() -> None:
    with pytest.raises(ValueError, match="at least two crops"):
        StepBatchNorm()(torch.ones(1, 4))


def test_projector_is_linear_norm_relu_linear_norm_relu_linear() -> None:
    torch.manual_seed(0)
    projector = Projector(6, (5, 4), 3).double()
    linear = [layer for layer in projector if isinstance(layer, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linear] == [(6, 5), (5, 4), (4, 3)]
    expected = nn.Sequential(linear[0], torchs_norm(5), nn.ReLU(), linear[1], torchs_norm(4), nn.ReLU(), linear[2])
    rows = rows_of(0, 10)
    torch.testing.assert_close(projector(rows), expected(rows), atol=1e-12, rtol=1e-9)
    assert set(projector.state_dict()) == {f"{i}.{name}" for i in (0, 3, 6) for name in ("weight", "bias")}


def test_projector_without_hidden_layers_is_linear() -> None:
    projector = Projector(4, (), 2)
    assert [type(layer) for layer in projector] == [nn.Linear]


SPLIT = 3


def _one_of_two_processes(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    part = slice(None, SPLIT) if rank == 0 else slice(SPLIT, None)
    rows, weights = rows_of(0, 8).detach()[part].requires_grad_(), rows_of(1, 8).detach()[part]
    normed = StepBatchNorm()(rows)
    (normed * weights).sum().backward()
    torch.save([normed.detach(), rows.grad], Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_share_the_statistics(tmp_path: Path) -> None:
    """Three rows here and five there are normalised, and get their gradients, as eight rows together."""
    multiprocessing.spawn(_one_of_two_processes, (str(tmp_path),), nprocs=2)
    parts = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    rows, weights = rows_of(0, 8), rows_of(1, 8).detach()
    expected = torchs_norm(6)(rows)
    (expected * weights).sum().backward()
    torch.testing.assert_close(torch.cat([part[0] for part in parts]), expected.detach(), atol=1e-12, rtol=1e-9)
    torch.testing.assert_close(torch.cat([part[1] for part in parts]), rows.grad, atol=1e-12, rtol=1e-8)
