"""What the label preview shows, against overlaps found by hand; crops as the network gets them, against numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from voco_cli.config import load_settings
from voco_cli.data.io.image import Scan
from voco_cli.figures.crops import (
    LabelPreview,
    LabelScene,
    base_crops,
    caption,
    crop_title,
    label_scene,
    layer_slices,
    network_crops,
    pieces,
    preview_scan,
    share_text,
    summary_line,
)
from voco_cli.objectives.augment import network_input
from voco_cli.objectives.draws import AugmentDraws


def scene(grid: tuple[int, int, int] = (2, 2, 1), start: tuple[int, int, int] = (0, 0, 0)) -> LabelScene:
    """Base crops of 10 x 8 x 4 voxels; one random crop 2 voxels right of the corner and 4 before it: 0.8 and 0.5."""
    labels = np.zeros((1, *grid))
    labels[0, 0, 0, 0], labels[0, 1, 0, 0] = 0.8 * 0.5, 0.2 * 0.5
    labels[0, 0, 1, 0], labels[0, 1, 1, 0] = 0.8 * 0.5, 0.2 * 0.5
    return LabelScene(
        name="scan",
        settings_line="recipe x",
        intensity_line="window",
        volume_xyz=np.zeros((25, 20, 10), dtype=np.float32),
        spacing_mm=(1.0, 2.0, 3.5),
        region_start=start,
        grid=grid,
        base_size=(10, 8, 4),
        crop_size=(10, 8, 4),
        starts_S3=np.array([[start[0] + 2, start[1] + 4, start[2]]]),
        labels_SK=labels.reshape(1, -1),
    )


def test_cells_follow_the_order_of_the_labels() -> None:
    found = base_crops(scene((2, 2, 2), (1, 2, 1)))
    assert [base.number for base in found] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [base.place for base in found[:3]] == [(0, 0, 0), (0, 0, 1), (0, 1, 0)]
    assert found[3].start == (1, 10, 5)  # (0, 1, 1): 1 + 0, 2 + 8, 1 + 4
    assert found[-1].start == (11, 10, 5)
    assert [base.number for base in base_crops(scene((2, 2, 2)), 1)] == [2, 4, 6, 8]


def test_pieces_tile_the_crop_and_carry_the_labels_shares() -> None:
    found = pieces(scene(start=(3, 1, 2)), 0)
    assert [piece.base.number for piece in found] == [1, 2, 3, 4]
    assert [piece.share for piece in found] == pytest.approx([0.4, 0.4, 0.1, 0.1])
    # The crop is [5, 15) x [5, 13) x [2, 6); the grid's inner corner lies at (13, 9).
    assert (found[0].low, found[0].size) == ((5, 5, 2), (8, 4, 4))
    assert (found[3].low, found[3].size) == ((13, 9, 2), (2, 4, 4))
    volume = [np.prod(piece.size) for piece in found]
    assert np.asarray(volume) / 320 == pytest.approx([piece.share for piece in found])


def test_layers_are_shown_by_their_middle_slice() -> None:
    assert layer_slices(scene((2, 2, 2), (0, 0, 1))) == [3, 7]


@pytest.mark.parametrize(
    ("share", "text"),
    [(1.0, "100%"), (0.9999, ">99%"), (0.994, "99%"), (0.25, "25%"), (0.01, "1%"), (0.0099, "<1%"), (1e-6, "<1%")],
)
def test_shares_are_never_rounded_to_all_or_nothing(share: float, text: str) -> None:
    assert share_text(share) == text


def test_lines_state_sizes_spacing_and_centre() -> None:
    assert crop_title(scene(), 0) == "r1  centre (7, 8, 2)"
    line = summary_line(scene()).replace("\N{MULTIPLICATION SIGN}", "x")
    assert "volume 25x20x10 voxels of 1x2x3.5 mm" in line
    assert "grid 2x2 of 10x8x4" in line
    assert scene().extent_mm == (25.0, 40.0, 35.0)
    assert scene().region_size == (20, 16, 4)


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
