"""Position labels against the released code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from voco_cli.objectives.voco.crops import crop_starts, label_boxes, position_labels

CONFIGURATIONS = ("cvpr", "tpami", "tpami_default4", "cvpr_small_roi", "cvpr_large_roi", "odd_roi")


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_labels_at_all_special_positions(reference: Path, name: str) -> None:
    with np.load(reference / "position_labels.npz") as data:
        size, base, cells, _ = (int(v) for v in data[f"{name}_params"])
        centres, expected = data[f"{name}_centers"], data[f"{name}_labels"]
    centres_S3 = np.column_stack([centres, np.full(len(centres), size // 2)])
    sizes, grid, bases = (size,) * 3, (cells, cells, 1), (base, base, size)
    low, high = label_boxes(crop_starts(centres_S3, sizes), sizes, odd_box="floored")
    np.testing.assert_allclose(position_labels(low, high, sizes, grid, bases), expected, atol=1e-12, rtol=0)
