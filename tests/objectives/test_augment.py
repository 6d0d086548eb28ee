"""From stored crops to the network's input, against numpy crop by crop."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch.nn import functional as F

from voco_cli.objectives.augment import (
    add_noise,
    change_gamma,
    lower_resolution,
    network_input,
    orient,
    resize,
    to_unit,
)

ALL_DRAWS = [(flips, turns) for flips in product((False, True), repeat=3) for turns in range(4)]
FLIPS_N3 = torch.tensor([flips for flips, _ in ALL_DRAWS])
TURNS_N = torch.tensor([turns for _, turns in ALL_DRAWS])


def by_numpy(crop: np.ndarray, flips: tuple[bool, bool, bool], turns: int) -> np.ndarray:
    for axis in range(3):
        if flips[axis]:
            crop = np.flip(crop, axis)
    return np.rot90(crop, turns, axes=(0, 1))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.float16, torch.float32])
def test_all_flips_and_turns_together_as_numpy_does_them_one_by_one(dtype: torch.dtype) -> None:
    crops = torch.arange(32 * 3 * 3 * 4).reshape(32, 3, 3, 4).remainder(251).to(dtype)
    found = orient(crops, FLIPS_N3, TURNS_N)
    assert found.dtype == dtype
    for crop, one, (flips, turns) in zip(crops, found, ALL_DRAWS, strict=True):
        np.testing.assert_array_equal(one, by_numpy(crop.numpy(), flips, turns), err_msg=f"{flips} {turns}")


def test_crops_that_are_not_square_may_be_flipped_and_turned_by_half() -> None:
    crops = torch.arange(16 * 2 * 3 * 4).reshape(16, 2, 3, 4)
    flips, turns = FLIPS_N3[TURNS_N % 2 == 0], TURNS_N[TURNS_N % 2 == 0]
    found = orient(crops, flips, turns)
    for crop, one, f, t in zip(crops, found, flips, turns, strict=True):
        np.testing.assert_array_equal(one, by_numpy(crop.numpy(), tuple(f.tolist()), int(t)))


def test_nothing_to_do_gives_the_crops_themselves() -> None:
    crops = torch.rand(2, 3, 3, 3)
    assert orient(crops, torch.zeros(2, 3, dtype=torch.bool), torch.zeros(2, dtype=torch.int64)) is crops


def test_flipping_twice_is_nothing() -> None:
    crops = torch.rand(32, 4, 4, 4)
    still = torch.zeros(32, dtype=torch.int64)
    assert torch.equal(orient(orient(crops, FLIPS_N3, still), FLIPS_N3, still), crops)


@pytest.mark.parametrize(
    ("stored", "values"),
    [
        (torch.tensor([0, 51, 255], dtype=torch.uint8), [0.0, 0.2, 1.0]),
        (torch.tensor([0, 32767], dtype=torch.int16), [0.0, 1.0]),
        (torch.tensor([0.0, 0.5, 1.0], dtype=torch.float16), [0.0, 0.5, 1.0]),
        (torch.tensor([0.0, 0.1], dtype=torch.float32), [0.0, 0.1]),
    ],
)
def test_what_stored_numbers_are_worth(stored: torch.Tensor, values: list[float]) -> None:
    found = to_unit(stored)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found, values, atol=1e-7)


def test_resize_is_trilinear_with_aligned_corners() -> None:
    crops = torch.rand(3, 1, 6, 5, 7)
    found = resize(crops, (9, 4, 7))
    torch.testing.assert_close(found, F.interpolate(crops, (9, 4, 7), mode="trilinear", align_corners=True))
    ramp = torch.arange(4.0).view(1, 1, 4, 1, 1).expand(1, 1, 4, 2, 2)  # corners stay, steps of 3/6 between
    np.testing.assert_allclose(resize(ramp, (7, 2, 2))[0, 0, :, 0, 0], np.arange(7) / 2, atol=1e-6)
    assert resize(crops, (6, 5, 7)) is crops


def test_network_input_is_the_released_order_of_float_operations() -> None:
    """The released code resizes first, then flips, turns and shifts; here the small stored crop is turned first."""
    crops = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (32, 6, 6, 5), dtype=np.uint8))
    shifts = torch.linspace(-0.1, 0.1, 32)
    found = network_input(crops, FLIPS_N3, TURNS_N, shifts, (8, 8, 4))
    assert found.shape == (32, 1, 8, 8, 4)
    assert found.dtype == torch.float32
    for i, (flips, turns) in enumerate(ALL_DRAWS):
        large = F.interpolate(crops[i, None, None].float() / 255, (8, 8, 4), mode="trilinear", align_corners=True)
        expected = by_numpy(large[0, 0].numpy(), flips, turns) + float(shifts[i])
        np.testing.assert_allclose(found[i, 0], expected, atol=2e-6)


def test_shift_is_not_clipped() -> None:
    crops = torch.full((1, 2, 2, 2), 255, dtype=torch.uint8)
    found = network_input(crops, FLIPS_N3[:1], TURNS_N[:1], torch.tensor([0.1]), (2, 2, 2))
    np.testing.assert_allclose(found, 1.1, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.float16, torch.float32])
def test_crop_by_crop_as_on_a_cpu_is_bit_for_bit_all_at_once_as_elsewhere(dtype: torch.dtype) -> None:
    crops = torch.from_numpy(np.random.default_rng(0).integers(0, 127, (32, 6, 6, 5))).to(dtype)
    before, shifts = crops.clone(), torch.linspace(-0.1, 0.1, 32)
    together = resize(to_unit(orient(crops, FLIPS_N3, TURNS_N))[:, None], (8, 8, 4)) + shifts.view(-1, 1, 1, 1, 1)
    assert torch.equal(network_input(crops, FLIPS_N3, TURNS_N, shifts, (8, 8, 4)), together)
    assert torch.equal(crops, before)


def test_gamma_is_a_power_of_what_lies_between_0_and_1() -> None:
    crops = torch.tensor([-0.5, 0.25, 1.5]).expand(2, 3).reshape(2, 1, 3, 1, 1)
    changed = change_gamma(crops, torch.tensor([1.0, 0.5]))
    assert changed.flatten().tolist() == [-0.5, 0.25, 1.5, 0, 0.5, 1]


def test_a_coarser_grid_averages_and_interpolates() -> None:
    """Four voxels on a grid of two: averages p and q; back again p, 3/4 p + 1/4 q, 1/4 p + 3/4 q, q."""
    line = torch.tensor([0.0, 2, 4, 8])
    expected = torch.tensor([1, 1 * 0.75 + 6 * 0.25, 1 * 0.25 + 6 * 0.75, 6])
    for axis in range(3):
        shape = [1, 1, 1]
        shape[axis] = 4
        crops = line.view(shape).expand(4, 4, 4)[None, None]
        found = lower_resolution(crops, torch.zeros(1), torch.tensor([0.5]))
        torch.testing.assert_close(found, expected.view(shape).expand(4, 4, 4)[None, None])


def test_a_blur_is_that_of_scipy_away_from_the_edge() -> None:
    crops = torch.rand(2, 1, 21, 23, 25, generator=torch.Generator().manual_seed(0))
    found = lower_resolution(crops, torch.tensor([0.0, 0.8]), torch.ones(2))
    assert torch.equal(found[0], crops[0])
    expected = gaussian_filter(crops[1, 0].double().numpy(), 0.8, truncate=10)
    inside = (slice(8, -8),) * 3
    np.testing.assert_allclose(found[1, 0][inside].numpy(), expected[inside], atol=1e-6)
    flat = torch.full((1, 1, 5, 6, 7), 0.3)
    torch.testing.assert_close(lower_resolution(flat, torch.tensor([2.0]), torch.tensor([0.6])), flat)


def test_noise_has_its_deviation_and_is_the_same_for_the_same_seed() -> None:
    crops = torch.full((3, 1, 32, 32, 32), 0.5)
    seeds = torch.tensor([3, 3, 4])
    found = add_noise(crops, torch.tensor([0.1, 0.0, 0.1]), seeds)
    assert torch.equal(found[1], crops[1])
    assert (found[0] - 0.5).std().item() == pytest.approx(0.1, rel=0.02)
    assert (found[0] - 0.5).mean().item() == pytest.approx(0, abs=0.003)
    assert torch.equal(found, add_noise(crops, torch.tensor([0.1, 0.0, 0.1]), seeds))
    assert not torch.equal(found[0], found[2])
