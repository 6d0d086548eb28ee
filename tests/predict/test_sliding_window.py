"""Against MONAI's sliding window, whose logits ours must be to rounding, and in less memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from monai.data.utils import compute_importance_map, dense_patch_slices
from monai.inferers import sliding_window_inference
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from tests.data.cache.made_scans import body_hu, oriented_affine, scan_of
from voco_cli.config.schema import Preprocess
from voco_cli.config.task_schema import Predict
from voco_cli.data.cache.grid import GridMap
from voco_cli.data.cache.preprocess import preprocess
from voco_cli.data.io.image import Scan
from voco_cli.predict.sliding_window import (
    Slab,
    _Along,
    _interpolated,
    _likeliest,
    flipped_mean,
    gaussian_weight,
    labels_on_scan_grid,
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


CHAINS = {
    "spacing": Preprocess(spacing_mm=(1.5, 1.5, 2.0), min_size_vox=(40, 64, 8)),
    "whole scan": Preprocess(spacing_mm=(0.9, 2.2, 3.0), foreground_above=None),
    "resize": Preprocess(foreground_above=0.3, resize_vox=(48, 40, 24)),
    "pad and resize": Preprocess(spacing_mm=(1.5, 1.5, 1.5), min_size_vox=(8, 71, 8), resize_vox=(33, 32, 16)),
    "box": Preprocess(foreground_above=0.2),
}


def oblique(codes: str) -> NDArray[np.float64]:
    """Voxel axes near to ``codes``, turned by 20 degrees about an axis of no account."""
    angle = np.deg2rad(20)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return np.asarray(turn @ oriented_affine(codes, (1.3, 1.7, 3.1)))


def made_scan(codes: str, turned: bool = False) -> Scan:
    affine = oblique(codes) if turned else oriented_affine(codes, (1.3, 1.7, 3.1))
    return scan_of(body_hu((37, 43, 29)), affine)


def logits_of(shape: tuple[int, int, int], classes: int = 5) -> Tensor:
    """Smooth in space, so that a neighbouring voxel's class says something of this one's."""
    noise = np.random.default_rng(1).normal(size=(classes, *shape)).astype(np.float32)
    return torch.from_numpy(ndimage.gaussian_filter(noise, (0, 1.5, 1.5, 1.5)))


def slabs_of(logits_KXYZ: Tensor, swept: int, sizes: tuple[int, ...] = (3, 1, 7)) -> Iterator[Slab]:
    planes, start = logits_KXYZ.movedim(1 + swept, 0), 0
    while start < len(planes):
        for size in sizes:
            if start < len(planes):
                yield Slab(start, planes[start : start + size].clone())
                start += size


def literal_labels(logits_KXYZ: Tensor, record: GridMap) -> NDArray[np.intp]:
    """Every voxel's own place on the preprocessed grid, every class there, the largest; memory order."""
    nx, ny, nz = record.source_shape_xyz
    voxels = np.stack(np.meshgrid(np.arange(nx), np.arange(ny), np.arange(nz), indexing="ij"), axis=-1)
    places = record.to_preprocessed(voxels)
    stretch = [(new - 1) / (old - 1) for old, new in zip(record.padded_shape, record.shape_xyz, strict=True)]
    low = np.multiply(record.pad_before, stretch)
    high = np.multiply(np.add(record.pad_before, record.box_size) - 1, stretch)
    half = np.multiply(0.5, stretch) + 1e-6
    inside = ((places >= low - half) & (places <= high + half)).all(-1)
    held = np.clip(places, low, high).transpose(3, 0, 1, 2)
    classes = [ndimage.map_coordinates(one.numpy(), held, order=1, mode="nearest") for one in logits_KXYZ]
    labels = np.where(inside, np.argmax(classes, axis=0), 0)
    return np.asarray(labels.transpose(2, 1, 0))


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("codes", ["RAS", "LPS", "IPL", "ASR", "SLA"])
@pytest.mark.parametrize("chain", CHAINS)
def test_equals_interpolating_everything(chain: str, codes: str, turned: bool) -> None:
    record = preprocess(made_scan(codes, turned), CHAINS[chain]).record
    logits = logits_of(record.shape_xyz)
    expected = literal_labels(logits, record)
    assert len(np.unique(expected)) == 5
    for swept in range(3):
        found = labels_on_scan_grid(slabs_of(logits, swept), record, swept)
        assert found.dtype == np.uint8
        assert found.shape == expected.shape
        # Two sums in another order may differ in the last bit where two classes are equally likely.
        assert np.count_nonzero(found != expected) <= 2


def test_background_outside_the_box_and_in_the_padding() -> None:
    scan = made_scan("LPS")
    record = preprocess(scan, Preprocess(foreground_above=0.2, min_size_vox=(64, 64, 64))).record
    always_one = torch.zeros((2, *record.shape_xyz))
    always_one[1] = 1
    found = labels_on_scan_grid(slabs_of(always_one, 0), record, 0)
    window = np.clip((scan.array_zyx + 175.0) / 425, 0, 1) > 0.2
    expected = np.zeros_like(found)
    z, y, x = (np.flatnonzero(window.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1)))
    expected[z[0] : z[-1] + 1, y[0] : y[-1] + 1, x[0] : x[-1] + 1] = 1
    np.testing.assert_array_equal(found, expected)


def test_no_voxel_is_lost_at_the_end_of_a_scan_of_another_spacing() -> None:
    """Two voxels at 0 and 1 mm, one at 2 mm spacing: the second lies exactly half a voxel behind it, and counts."""
    scan = scan_of(np.full((2, 3, 4), 40, dtype=np.int16), oriented_affine("RAS", (1.0, 1.0, 1.0)))
    record = preprocess(scan, Preprocess(spacing_mm=(2.0, 2.0, 2.0), foreground_above=None)).record
    always_one = torch.zeros((2, *record.shape_xyz))
    always_one[1] = 1
    assert labels_on_scan_grid(slabs_of(always_one, 1), record, 1).all()


def test_equal_logits_give_the_lower_class_and_many_classes_two_bytes() -> None:
    record = preprocess(made_scan("RAS"), Preprocess(foreground_above=None)).record
    logits = torch.zeros((300, *record.shape_xyz))
    assert not labels_on_scan_grid(slabs_of(logits, 2), record, 2).any()
    logits[[270, 290]] = 1
    found = labels_on_scan_grid(slabs_of(logits, 2), record, 2)
    assert found.dtype == np.uint16
    assert (found == 270).all()


def test_all_classes_at_once_are_as_one_after_another() -> None:
    """The way of a GPU, on a CPU; whole numbers, so that ties are many."""
    record = preprocess(made_scan("IPL"), CHAINS["spacing"]).record
    rows, columns = _Along.axis(record, 0), _Along.axis(record, 2)
    x, _, z = record.shape_xyz
    lower, upper = torch.randint(0, 3, (2, 6, x, z), generator=torch.Generator().manual_seed(0)).float()
    together = _interpolated(lower, upper, 0.25, rows, columns).argmax(0).T
    assert torch.equal(_likeliest(lower, upper, 0.25, rows, columns).long(), together)
