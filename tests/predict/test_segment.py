"""Whole scans: against MONAI's windows and literal interpolation, there and back again, and in bounded memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from monai.inferers import sliding_window_inference
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tests.predict.test_scan_grid import literal_labels, made_scan
from voco_cli.config.schema import Preprocess
from voco_cli.config.task_schema import Predict
from voco_cli.data.cache.preprocess import Preprocessed, preprocess, preprocess_label
from voco_cli.data.cache.volume import quantise
from voco_cli.data.io.image import Scan
from voco_cli.predict.segmentation import segment

PATCH = (16, 16, 16)


def segmented(stored_xyz: NDArray[Any], made: Preprocessed, network: Callable[[Tensor], Tensor]) -> NDArray[Any]:
    return segment(
        stored_xyz[None],
        made.record,
        network,
        patch_size=PATCH,
        predict=Predict(),
        device=torch.device("cpu"),
    )


def small_network(windows: Tensor) -> Tensor:
    weight = torch.linspace(-1, 1, 4 * 27).mul(40).sin().reshape(4, 1, 3, 3, 3).to(windows.device)
    return torch.nn.functional.conv3d(windows, weight, padding=1)


def test_equals_monai_and_literal_interpolation() -> None:
    made = preprocess(made_scan("IPL", turned=True), Preprocess(spacing_mm=(1.0, 1.5, 2.0)))
    stored = quantise(made.array_xyz, "uint8")
    volume = torch.from_numpy(stored).float()[None, None] / 255
    logits = sliding_window_inference(volume, PATCH, 1, small_network, overlap=0.5, mode="gaussian")[0]
    expected = literal_labels(logits, made.record)
    assert len(np.unique(expected)) == 4
    assert np.mean(segmented(stored, made, small_network) != expected) < 1e-4


def knows_the_label(windows: Tensor) -> Tensor:
    """Where the volume is a label map: its class, for certain."""
    return torch.nn.functional.one_hot((windows[:, 0] * 255).round().long(), 4).movedim(-1, 1)


@pytest.mark.parametrize("codes", ["RAS", "LPS", "IPL", "ASR"])
def test_labels_come_back_where_they_were(codes: str) -> None:
    """A network that knows the label: exact at the scan's spacing, nearly at another."""
    scan = made_scan(codes)
    label = np.digitize(ndimage.gaussian_filter(scan.array_zyx.astype(np.float32), 1.5), (-600.0, 0.0, 120.0))
    label[np.clip((scan.array_zyx + 175.0) / 425, 0, 1) <= 0] = 0
    for settings, exact in ((Preprocess(), True), (Preprocess(spacing_mm=(1.0, 1.0, 1.5)), False)):
        made = preprocess(scan, settings)
        labels_xyz = preprocess_label(
            Scan(label.astype(np.uint8), scan.spacing_xyz_mm, scan.origin_xyz_mm, scan.direction, scan.path),
            made.record,
        )
        found = segmented(labels_xyz, made, knows_the_label)
        if exact:
            np.testing.assert_array_equal(found, label)
        for value in range(1, 4):
            both = np.count_nonzero((found == value) & (label == value))
            dice = 2 * both / (np.count_nonzero(found == value) + np.count_nonzero(label == value))
            assert dice > 0.95


def test_quantised_volume_reaches_the_network() -> None:
    scan = made_scan("LPS")
    made = preprocess(scan, Preprocess())
    stored = quantise(made.array_xyz, "uint8")
    found = segmented(stored, made, lambda windows: torch.cat([torch.full_like(windows, 0.5), windows], dim=1))
    inside = np.clip((scan.array_zyx + 175.0) / 425, 0, 1)
    np.testing.assert_array_equal(found, np.rint(inside * 255) > 127.5)


class LargestTensor(TorchDispatchMode):
    """Notes the most bytes that any tensor took."""

    nbytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.nbytes = max(self.nbytes, result.nbytes)
        return result


def test_never_all_classes_of_the_whole_volume() -> None:
    shape, classes = (20, 20, 160), 9
    hu = np.random.default_rng(0).integers(0, 100, shape).astype(np.int16)
    scan = Scan(np.ascontiguousarray(hu.T), (1.5, 1.5, 1.5), (0.0, 0.0, 0.0), np.eye(3), made_scan("RAS").path)
    made = preprocess(scan, Preprocess(spacing_mm=(1.0, 1.0, 1.0), foreground_above=None))
    stored = quantise(made.array_xyz, "uint8")
    with LargestTensor() as largest:
        found = segmented(stored, made, lambda windows: windows * torch.arange(9.0)[:, None, None, None])
    assert found.shape == scan.array_zyx.shape
    whole = 4 * classes * stored.size
    assert largest.nbytes == whole * PATCH[2] / made.record.shape_xyz[2]  # the sums, of one window's thickness


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_finds_the_same() -> None:
    made = preprocess(made_scan("IPL", turned=True), Preprocess(spacing_mm=(1.0, 1.5, 2.0)))
    stored = quantise(made.array_xyz, "uint8")
    found = [
        segment(
            stored[None],
            made.record,
            small_network,
            patch_size=PATCH,
            predict=Predict(window_batch=3, flips=True),
            device=torch.device(device),
        )
        for device in ("cpu", "cuda")
    ]
    assert np.mean(found[0] != found[1]) < 1e-3
