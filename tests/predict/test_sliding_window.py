"""Against MONAI's sliding window, whose logits ours must be to rounding, and in less memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from monai.data.utils import compute_importance_map, dense_patch_slices
from monai.inferers import sliding_window_inference
from numpy.typing import NDArray
from torch import Tensor

from voco_cli.config.task_schema import Predict
from voco_cli.predict.sliding_window import (
    flipped_mean,
    gaussian_weight,
    sliding_window,
    swept_axis,
    window_starts,
)

CPU = torch.device("cpu")
PATCH = (16, 12, 8)


def network(windows: Tensor) -> Tensor:
    """Five classes; depends on the neighbourhood, on the channel, and on what else is in the window."""
    weight = torch.linspace(-1, 1, 5 * windows.shape[1] * 27).sin().reshape(5, windows.shape[1], 3, 3, 3)
    logits = torch.nn.functional.conv3d(windows, 3 * weight, padding=1)
    return logits * (1 + logits.mean(dim=(2, 3, 4), keepdim=True)).tanh()


def stored(shape: tuple[int, ...], dtype: str = "uint8") -> NDArray[Any]:
    scale = {"uint8": 255, "int16": 32767, "float16": 1}[dtype]
    return (np.random.default_rng(0).random(shape) * scale).astype(dtype)


def whole(channels: NDArray[Any], predict: Predict, swept: int) -> Tensor:
    """All slabs put together, (K, X, Y, Z), after a look at whether they follow one another."""
    slabs, end = [], 0
    for slab in sliding_window(channels, network, patch_size=PATCH, predict=predict, device=CPU, swept=swept):
        assert slab.start == end
        end += len(slab.logits_AKBD)
        slabs.append(slab.logits_AKBD.clone())
    return torch.cat(slabs).movedim(0, 1 + swept)


@pytest.mark.parametrize("swept", [0, 1, 2])
@pytest.mark.parametrize(
    ("shape", "overlap"),
    [((37, 29, 22), 0.5), ((16, 25, 8), 0.25), ((40, 30, 20), 0.0), ((9, 13, 5), 0.5), ((33, 12, 7), 0.7)],
)
def test_logits_are_monais(shape: tuple[int, int, int], overlap: float, swept: int) -> None:
    channels = stored((2, *shape))
    volume = torch.from_numpy(channels).float()[None] / 255
    expected = sliding_window_inference(volume, PATCH, 1, network, overlap=overlap, mode="gaussian")[0]
    found = whole(channels, Predict(overlap=overlap, window_batch=1), swept)
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(found.argmax(0), expected.argmax(0))


@pytest.mark.parametrize("batch", [2, 5, 100])
def test_several_windows_at_a_time_change_nothing(batch: int) -> None:
    channels = stored((1, 37, 29, 22))
    one = whole(channels, Predict(window_batch=1), 2)
    torch.testing.assert_close(whole(channels, Predict(window_batch=batch), 2), one, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("dtype", "step"), [("int16", 1 / 32767), ("float16", 1e-3)])
def test_every_stored_type_is_brought_to_0_1(dtype: str, step: float) -> None:
    seen: list[Tensor] = []

    def look(windows: Tensor) -> Tensor:
        seen.append(windows)
        return windows

    channels = stored((1, *PATCH), dtype)
    next(sliding_window(channels, look, patch_size=PATCH, predict=Predict(), device=CPU, swept=0))
    assert seen[0].dtype == torch.float32
    expected = np.random.default_rng(0).random((1, *PATCH))
    np.testing.assert_allclose(seen[0][0].numpy(), expected, atol=step)


def test_windows_and_weights_are_monais() -> None:
    weight = compute_importance_map(PATCH, mode="gaussian", sigma_scale=0.125)
    torch.testing.assert_close(gaussian_weight(PATCH, CPU), weight, atol=1e-7, rtol=1e-6)
    for size in range(8, 60):
        slices = dense_patch_slices((size,), (8,), (4 if size > 8 else 8,))
        assert window_starts(size, 8, 0.5) == [one[0].start for one in slices]


def test_flips_are_averaged_after_being_turned_back() -> None:
    """By hand: a network that adds the place along x (0, 1, 2) gives each voxel the mean of x and 2 - x, which is 1."""

    def ramp(windows: Tensor) -> Tensor:
        return windows + torch.arange(3.0)[:, None, None]

    windows = torch.rand(1, 1, 3, 4, 5)
    torch.testing.assert_close(flipped_mean(ramp, windows), windows + 1)


def test_flips_of_windows_in_the_volume() -> None:
    channels = stored((1, 20, 18, 11))
    volume = torch.from_numpy(channels).float()[None] / 255
    axes = [[a for a in (2, 3, 4) if number >> (a - 2) & 1] for number in range(8)]

    def literal(windows: Tensor) -> Tensor:
        return torch.stack([network(windows.flip(each)).flip(each) for each in axes]).mean(0)

    expected = sliding_window_inference(volume, PATCH, 1, literal, overlap=0.5, mode="gaussian")[0]
    torch.testing.assert_close(whole(channels, Predict(flips=True), 1), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("shape", "expected"), [((16, 12, 80), 2), ((64, 12, 16), 0), ((5, 40, 16), 1)])
def test_swept_along_the_axis_with_most_windows(shape: tuple[int, int, int], expected: int) -> None:
    assert swept_axis(shape, PATCH) == expected


def test_sums_are_one_window_thick() -> None:
    channels = stored((1, 20, 18, 200))
    slabs = sliding_window(channels, network, patch_size=PATCH, predict=Predict(), device=CPU, swept=2)
    storages = {slab.logits_AKBD.untyped_storage().data_ptr(): slab.logits_AKBD.untyped_storage() for slab in slabs}
    assert [storage.nbytes() for storage in storages.values()] == [4 * 5 * 20 * 18 * PATCH[2]]
