"""Distant pieces are what they are said to be; ours and DeepMind's code measure them alike."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.registry import Options
from benchmarks.rows import Ratio
from benchmarks.surface import (
    CLASSES,
    DEEPMIND_TOLERANCE_MM,
    deepmind_difference,
    made_labels,
    ours,
    rows,
    with_distant_pieces,
)


def test_a_distant_piece_is_the_structure_once_more_half_the_plane_away() -> None:
    labels = np.zeros((2, 4, 6), np.uint8)
    labels[1, 0, 1], labels[0, 3, 5] = 1, 2
    expected = labels.copy()
    expected[1, 2, 4], expected[0, 1, 2] = 1, 2
    np.testing.assert_array_equal(with_distant_pieces(labels), expected)
    labels[1, 2, 4] = 3  # stays where it is, and its piece does not replace the 1
    expected[1, 2, 4] = 3
    np.testing.assert_array_equal(with_distant_pieces(labels), expected)


def test_distant_pieces_make_distances_longer() -> None:
    reference, prediction = made_labels((24, 64, 64), CLASSES)
    near, far = (ours(one, reference, CLASSES) for one in (prediction, with_distant_pieces(prediction)))
    longer = [
        b.asd_mm > a.asd_mm for a, b in zip(near, far, strict=True) if a.asd_mm is not None and b.asd_mm is not None
    ]
    assert len(longer) == CLASSES
    assert all(longer)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # surface-distance uses an old name of SciPy
def test_with_distant_pieces_the_numbers_are_deepminds() -> None:
    pytest.importorskip("surface_distance")
    reference, prediction = made_labels((24, 64, 64), CLASSES)
    scattered = with_distant_pieces(prediction)
    assert deepmind_difference(scattered, reference, CLASSES) <= DEEPMIND_TOLERANCE_MM


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # as above
@pytest.mark.filterwarnings("ignore:monai.metrics.utils get_mask_edges:FutureWarning")  # MONAI calls itself by it
def test_both_predictions_are_measured() -> None:
    names = [row.name for row in rows(Options(rounds=1, quick=True)) if isinstance(row, Ratio)]
    assert "MONAI: dice, HD95, ASD" in names
    assert "MONAI: dice, HD95, ASD, with distant pieces" in names
