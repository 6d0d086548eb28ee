"""Against the literal way: all classes interpolated at every voxel of the scan, then compared."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from tests.data.cache.made_scans import body_hu, oriented_affine, scan_of
from voco_cli.config.schema import Preprocess
from voco_cli.data.cache.grid import GridMap
from voco_cli.data.cache.preprocess import preprocess
from voco_cli.data.io.image import Scan
from voco_cli.predict.sliding_window import Slab, _Along, _interpolated, _likeliest, labels_on_scan_grid

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
