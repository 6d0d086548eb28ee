"""What the label preview shows, against overlaps found by hand."""

from __future__ import annotations

import numpy as np
import pytest

from voco_cli.figures.crops import LabelScene, cells, crop_title, layer_slices, pieces, share_text, summary_line


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
    found = cells(scene((2, 2, 2), (1, 2, 1)))
    assert [cell.number for cell in found] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [cell.place for cell in found[:3]] == [(0, 0, 0), (0, 0, 1), (0, 1, 0)]
    assert found[3].start == (1, 10, 5)  # (0, 1, 1): 1 + 0, 2 + 8, 1 + 4
    assert found[-1].start == (11, 10, 5)


def test_pieces_tile_the_crop_and_carry_the_labels_shares() -> None:
    found = pieces(scene(start=(3, 1, 2)), 0)
    assert [piece.cell.number for piece in found] == [1, 2, 3, 4]
    assert [piece.share for piece in found] == pytest.approx([0.4, 0.4, 0.1, 0.1])
    # The crop is [5, 15) x [5, 13) x [2, 6); the grid's inner corner lies at (13, 9).
    assert (found[0].low, found[0].high) == ((5, 5, 2), (13, 9, 6))
    assert (found[3].low, found[3].high) == ((13, 9, 2), (15, 13, 6))
    volume = [np.prod(np.subtract(piece.high, piece.low)) for piece in found]
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
