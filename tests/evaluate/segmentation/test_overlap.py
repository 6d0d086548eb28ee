import math

import numpy as np
import pytest

from tests.evaluate.made_masks import blobs, box
from voco_cli.evaluate.segmentation.metrics import Counts, count_voxels, dice, intersection_over_union, volume_ml


def test_boxes_that_overlap_by_half() -> None:
    # 4x4x4 against the same moved by 2: 64 voxels each, 32 in both; Dice 64/128, IoU 32/96.
    shape = (8, 8, 8)
    counts = count_voxels(box(shape, (1, 1, 3), (4, 4, 4)), box(shape, (1, 1, 1), (4, 4, 4)))
    assert counts == Counts(64, 64, 32)
    assert dice(counts) == 0.5
    assert intersection_over_union(counts) == pytest.approx(1 / 3)


def test_empty_masks() -> None:
    assert math.isnan(dice(Counts(0, 0, 0)))
    assert math.isnan(intersection_over_union(Counts(0, 0, 0)))
    assert dice(Counts(5, 0, 0)) == intersection_over_union(Counts(0, 5, 0)) == 0


def test_volume_in_ml() -> None:
    assert volume_ml(1000, (2.0, 0.5, 1.0)) == pytest.approx(1.0)
    assert volume_ml(0, (1.0, 1.0, 1.0)) == 0


def test_agrees_with_monai() -> None:
    metrics = pytest.importorskip("monai.metrics")
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    for _ in range(3):
        first, second = (blobs(rng, (12, 14, 10), 1.5) for _ in range(2))
        tensors = [torch.from_numpy(mask)[None, None] for mask in (first, second)]
        counts = count_voxels(first, second)
        assert dice(counts) == pytest.approx(float(metrics.compute_dice(*tensors)), abs=1e-6)
        assert intersection_over_union(counts) == pytest.approx(float(metrics.compute_iou(*tensors)), abs=1e-6)
