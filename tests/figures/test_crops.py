"""Crops as the network gets them, against plain array operations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from voco_cli.config import load_settings
from voco_cli.data.io.image import Scan
from voco_cli.figures.crops import LabelPreview, caption, label_scene, network_crops, preview_scan
from voco_cli.objectives.voco.augment import network_input
from voco_cli.objectives.voco.crops import AugmentDraws

SETTINGS = (
    "preprocess.window_hu=0,255",
    "preprocess.foreground_above=null",
    "preprocess.resize_vox=null",
    "crops.grid=2x2",
    "crops.size=18x18x20",
    "crops.random_per_volume=1",
    "augment.flip_prob=0.5",
    "augment.rotate_prob=0.5",
    "augment.shift_prob=0.5",
)


@pytest.fixture(scope="module")
def volume_xyz() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 38, 20)).astype(np.int16)


@pytest.fixture(scope="module")
def preview(volume_xyz: np.ndarray) -> LabelPreview:
    return preview_of(volume_xyz)


def preview_of(volume_xyz: np.ndarray, *overrides: str) -> LabelPreview:
    # Stored in RAS order: LPS directions -x, -y, z.
    ras = np.diag([-1.0, -1.0, 1.0])
    scan = Scan(volume_xyz.transpose(2, 1, 0), (1.0, 1.0, 2.0), (0.0, 0.0, 0.0), ras, Path("case.nii.gz"))
    return preview_scan(scan, load_settings("debug", None, (*SETTINGS, *overrides)).settings)


def test_network_crops_are_cut_flipped_turned_and_shifted(preview: LabelPreview, volume_xyz: np.ndarray) -> None:
    network = network_crops(preview)
    assert network.crops_NXYZ.shape == (5, 18, 18, 20)
    changes = preview.changes
    assert changes.flips_N3.any()
    assert changes.turns_N.any()
    assert changes.shifts_N.any()
    for number, start in enumerate(preview.crops.starts_N3 + preview.crops.region_start_3):
        x, y, z = start
        expected = volume_xyz[x : x + 18, y : y + 18, z : z + 20] / 255
        expected = np.flip(expected, np.flatnonzero(changes.flips_N3[number]))
        expected = np.rot90(expected, changes.turns_N[number]) + changes.shifts_N[number]
        np.testing.assert_allclose(network.crops_NXYZ[number], expected, atol=1e-6)


@pytest.mark.parametrize("input_size", ["18x18x20", "17x17x19", "24x24x20"])
def test_network_crops_are_those_of_a_training(volume_xyz: np.ndarray, input_size: str) -> None:
    """Bit by bit, where nothing is resized."""
    preview = preview_of(volume_xyz, f"crops.input_size={input_size}")
    changes, size = preview.changes, preview.settings.crops.network_size_vox
    starts_N3 = preview.crops.starts_N3 + preview.crops.region_start_3
    stored = np.stack([volume_xyz[x : x + 18, y : y + 18, z : z + 20].astype(np.uint8) for x, y, z in starts_N3])
    draws = map(torch.from_numpy, (changes.flips_N3, changes.turns_N, changes.shifts_N))
    trained = network_input(torch.from_numpy(stored), *draws, size)[:, 0].numpy()
    shown = network_crops(preview).crops_NXYZ
    assert shown.dtype == np.float32
    if size == (18, 18, 20):
        assert np.array_equal(shown, trained)
    np.testing.assert_allclose(shown, trained, atol=1e-6)


def test_scene_counts_in_voxels_of_the_volume(preview: LabelPreview) -> None:
    scene = label_scene(preview)
    start = np.asarray(scene.region_start)
    assert np.all(start + scene.region_size <= (40, 38, 20))
    assert np.array_equal(scene.starts_S3 - start, preview.crops.starts_N3[:1])
    assert scene.spacing_mm == (1.0, 1.0, 2.0)
    assert scene.intensity_line == "window 0 to 255 HU"


def test_caption_names_what_was_drawn() -> None:
    changes = AugmentDraws(
        np.array([[True, False, True], [False] * 3, [False, True, False]]),
        np.array([1, 0, 3]),
        np.array([0.0, 0.0, -0.0471], dtype=np.float32),
    )
    assert [caption(changes, number) for number in range(3)] == ["flip xz 90°", "unchanged", "flip y 270° -0.047"]
