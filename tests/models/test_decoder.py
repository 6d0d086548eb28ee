"""A folded decoder block against MONAI's own and against the block that writes the step up beside the skip."""

from __future__ import annotations

import pytest
import torch
from monai.networks.blocks import UnetrUpBlock
from torch import Tensor

from voco_cli.models import fast_swin
from voco_cli.models.fast_swin import decoder_block, fold, upsampled


def made_block(coarse_channels: int, channels: int) -> UnetrUpBlock:
    torch.manual_seed(0)
    kernels = {"kernel_size": 3, "upsample_kernel_size": 2}
    return UnetrUpBlock(3, coarse_channels, channels, **kernels, norm_name="instance", res_block=True)


def last(tokens_NCXYZ: Tensor) -> Tensor:
    return tokens_NCXYZ.movedim(1, -1).contiguous()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-11), (torch.float32, 1e-4)])
@pytest.mark.parametrize("fold_from", [0, 10**9])
def test_block_and_its_gradients_are_monai_s(
    fold_from: int, dtype: torch.dtype, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fast_swin, "FOLD_VOXELS", fold_from)
    block = made_block(4, 3).to(dtype)
    coarse, skip = torch.rand(2, 4, 2, 3, 5, dtype=dtype), torch.rand(2, 3, 4, 6, 10, dtype=dtype)
    inputs = coarse.requires_grad_(), skip.requires_grad_(), *block.parameters()
    outputs = decoder_block(last(coarse), last(skip), block).movedim(-1, 1), block(coarse, skip)
    torch.testing.assert_close(*outputs, rtol=0, atol=tolerance)
    weights = torch.linspace(-1, 1, outputs[0].numel(), dtype=dtype).view_as(outputs[0])
    for found, expected in zip(*(torch.autograd.grad((out * weights).sum(), inputs) for out in outputs), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=tolerance * max(1.0, float(expected.abs().max())))


@pytest.mark.parametrize("fold_from", [0, 10**9])
def test_a_frozen_block_hands_gradients_down(fold_from: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast_swin, "FOLD_VOXELS", fold_from)
    block = made_block(4, 3).requires_grad_(False)
    coarse, skip = torch.rand(1, 4, 2, 3, 5, requires_grad=True), torch.rand(1, 3, 4, 6, 10)
    found, expected = decoder_block(last(coarse), last(skip), block).movedim(-1, 1), block(coarse, skip)
    gradients = (torch.autograd.grad((out**3).sum(), coarse)[0] for out in (found, expected))
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-3)


def test_single_precision_is_no_worse_than_monai_s() -> None:
    block = made_block(24, 12)
    coarse, skip = torch.rand(1, 24, 16, 16, 16), torch.rand(1, 12, 32, 32, 32)
    with torch.no_grad():
        found, stock = decoder_block(last(coarse), last(skip), block).movedim(-1, 1), block(coarse, skip)
        exact = block.double()(coarse.double(), skip.double())
    error, stock_error = ((one - exact).abs().max() for one in (found, stock))
    assert float(error) < 2 * float(stock_error) + 1e-6


def test_folded_weights_along_one_axis_by_hand() -> None:
    """Taps 1, 2, 3 along x; the step up lays 10 and 100 into the two fine voxels of a coarse one."""
    weight, up_weight = torch.zeros(1, 1, 3, 3, 3), torch.zeros(1, 1, 2, 2, 2)
    weight[0, 0, :, 1, 1] = torch.tensor([1.0, 2.0, 3.0])
    up_weight[0, 0, :, 0, 0] = torch.tensor([10.0, 100.0])
    folded = fold(weight, up_weight).unflatten(0, (2, 2, 2, 1))
    # In y and z the fine voxel at place 0 sees its own coarse one as the second of two, by the middle tap.
    before_and_own = folded[0, 0, 0, 0, 0, :, 1, 1]
    own_and_next = folded[1, 0, 0, 0, 0, :, 1, 1]
    assert before_and_own.tolist() == [1 * 100.0, 2 * 10.0 + 3 * 100.0]
    assert own_and_next.tolist() == [1 * 10.0 + 2 * 100.0, 3 * 10.0]


def test_a_step_up_is_the_transposed_convolution_and_the_skip() -> None:
    block = made_block(4, 2)
    coarse, skip = torch.rand(2, 4, 2, 3, 5), torch.rand(2, 2, 4, 6, 10)
    found = upsampled(last(coarse), last(skip), block.transp_conv.conv.weight)
    torch.testing.assert_close(found.movedim(-1, 1), torch.cat([block.transp_conv(coarse), skip], dim=1))
