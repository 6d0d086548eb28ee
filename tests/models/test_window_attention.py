"""Fast window attention against MONAI's modules, and against the formulae written out."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from monai.networks.nets.swin_unetr import SwinTransformerBlock, WindowAttention, compute_mask, get_window_size
from torch import Tensor

from voco_cli.models.window_attention import WindowRun, axis_runs, clamp_window, window_attention, window_groups

NO_SHIFT, SHIFT = (0, 0, 0), (3, 3, 3)
# Of 7 and fewer tokens no window is shifted; 9, 14 and 16 give a pad, none, and windows of pads alone when shifted.
SIZES = ((9, 8, 7), (14, 5, 11), (16, 9, 3), (4, 4, 4), (2, 1, 3), (8, 8, 8))


def made_block(shift: tuple[int, int, int], heads: int = 3, dim: int = 12) -> SwinTransformerBlock:
    torch.manual_seed(0)
    block = SwinTransformerBlock(dim, heads, (7, 7, 7), shift).double()
    with torch.no_grad():
        for name, parameter in block.named_parameters():
            if name.endswith(("bias", "bias_table")):
                parameter.normal_(std=0.2)
    return block


def stock(block: SwinTransformerBlock, x: Tensor) -> Tensor:
    window, shift = get_window_size(x.shape[1:4], block.window_size, block.shift_size)
    padded = [-(-size // length) * length for size, length in zip(x.shape[1:4], window, strict=True)]
    found: Tensor = block.forward_part1(x, compute_mask(padded, window, shift, x.device).to(x))
    return found


def ours(block: SwinTransformerBlock, x: Tensor) -> Tensor:
    return window_attention(block.norm1(x), block.attn, block.shift_size)


@pytest.mark.parametrize("shift", [NO_SHIFT, SHIFT])
@pytest.mark.parametrize("sizes", SIZES)
def test_output_and_every_gradient_are_monai_s(sizes: tuple[int, int, int], shift: tuple[int, int, int]) -> None:
    block = made_block(shift)
    names, parameters = zip(
        *(item for item in block.named_parameters() if "mlp" not in item[0] and "norm2" not in item[0]), strict=True
    )
    x = torch.randn(2, *sizes, 12, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(2, *sizes, 12, dtype=torch.float64)
    outputs = stock(block, x), ours(block, x)
    torch.testing.assert_close(outputs[1], outputs[0], rtol=0, atol=1e-12)
    expected, found = (torch.autograd.grad((out * weights).sum(), [x, *parameters]) for out in outputs)
    for name, theirs, mine in zip(("x", *names), expected, found, strict=True):
        if name == "attn.qkv.bias":
            assert torch.equal(mine[12:24], torch.zeros(12, dtype=torch.float64))  # the true gradient of the k bias
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-10, msg=name)


def literal_window(tokens_nC: Tensor, exists: Tensor, attention: WindowAttention, regions: Tensor) -> Tensor:
    """One window by eq. 4 of the Swin paper, query by query, with MONAI's padded tokens in it as zeros."""
    width = attention.dim // attention.num_heads
    q, k, v = attention.qkv(torch.where(exists[:, None], tokens_nC, torch.zeros_like(tokens_nC))).chunk(3, dim=1)
    outputs = []
    for i in range(len(tokens_nC)):
        of_heads = []
        for head in range(attention.num_heads):
            of_head = slice(head * width, (head + 1) * width)
            seen = [j for j in range(len(tokens_nC)) if regions[j] == regions[i]]
            scores = torch.stack(
                [
                    q[i, of_head] @ k[j, of_head] / width**0.5
                    + attention.relative_position_bias_table[attention.relative_position_index[i, j], head]
                    for j in seen
                ]
            )
            of_heads.append(scores.softmax(0) @ v[seen][:, of_head])
        outputs.append(attention.proj(torch.cat(of_heads)))
    return torch.stack(outputs)


def test_one_window_written_out() -> None:
    """Along x a cut window with pads (tokens 7, 8, two pads | roll | 0, 1, 2), one whole clamped axis, one token."""
    block = made_block(SHIFT, heads=2, dim=4)
    sizes = (9, 2, 1)
    x = torch.randn(1, *sizes, 4, dtype=torch.float64)
    with torch.no_grad():
        found = window_attention(x, block.attn, SHIFT)[0]
        # MONAI rolls 14 padded tokens by 3; its second window then holds tokens 10..13 (pads) and 0, 1, 2.
        for rolled, region in (((3, 4, 5, 6, 7, 8, 9), (0,) * 7), ((10, 11, 12, 13, 0, 1, 2), (0,) * 4 + (1,) * 3)):
            places = list(product(rolled, range(2)))
            tokens = torch.stack([x[0, a, b, 0] if a < 9 else x.new_zeros(4) for a, b in places])
            exists = torch.tensor([a < 9 for a, _ in places])
            regions = torch.tensor([value for value in region for _ in range(2)])
            expected = literal_window(tokens, exists, block.attn, regions)
            for (a, b), row in zip(places, expected, strict=True):
                if a < 9:
                    torch.testing.assert_close(found[a, b, 0], row, rtol=0, atol=1e-12)


def test_runs_along_an_axis_of_the_pre_training_crops() -> None:
    assert axis_runs(32, 7, 0) == [WindowRun(0, 4, 7, 0, 0), WindowRun(28, 1, 4, 3, 0)]
    assert axis_runs(32, 7, 3) == [WindowRun(0, 1, 3, 0, 4), WindowRun(3, 4, 7, 0, 0), WindowRun(31, 1, 1, 3, 0)]
    assert axis_runs(16, 7, 3) == [WindowRun(0, 1, 3, 0, 4), WindowRun(3, 1, 7, 0, 0), WindowRun(10, 1, 6, 1, 0)]
    assert axis_runs(8, 7, 3) == [WindowRun(0, 1, 3, 0, 4), WindowRun(3, 1, 5, 2, 0)]
    assert axis_runs(4, 4, 0) == [WindowRun(0, 1, 4, 0, 0)]


@pytest.mark.parametrize("size", range(1, 60))
@pytest.mark.parametrize("shift", [0, 3])
def test_runs_hold_every_token_once(size: int, shift: int) -> None:
    (window, _, _), (by, _, _) = clamp_window((size,) * 3, (7, 7, 7), (shift,) * 3)
    tokens = [run.start + i for run in axis_runs(size, window, by) for i in range(run.windows * run.size)]
    assert tokens == list(range(size))


def test_groups_of_a_shifted_block_are_27() -> None:
    assert len(window_groups((32, 32, 32), (7, 7, 7), SHIFT)) == 27
    assert len(window_groups((32, 32, 32), (7, 7, 7), NO_SHIFT)) == 8


def test_all_windows_at_once_or_few_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    block = made_block(NO_SHIFT)
    x = torch.randn(3, 14, 9, 8, 12, dtype=torch.float64)
    results = []
    for scores in (1 << 24, 1 << 13, 1):
        monkeypatch.setattr("voco_cli.models.window_attention.SCORES_AT_ONCE", scores)
        parameters = [p for name, p in block.named_parameters() if "attn" in name]
        out = ours(block, x)
        results.append([out, *torch.autograd.grad(out.square().sum(), parameters)])
    for others in results[1:]:
        for one, other in zip(results[0], others, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-11)
