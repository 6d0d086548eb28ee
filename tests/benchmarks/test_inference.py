"""MONAI's way and ours give the same labels of a whole scan, as do the two ways back from logits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import inference
from benchmarks.inference import (
    DIFFERENT_LABELS,
    QUICK,
    QUICK_REAL,
    REAL,
    ours,
    prepared,
    real_network_row,
    slabs_of,
    stock,
    stock_labels,
    stock_logits,
)
from benchmarks.rows import Ratio
from voco_cli.predict.sliding_window import labels_on_scan_grid, swept_axis


def test_both_ways_give_the_same_labels(tmp_path: Path) -> None:
    volume, record = prepared(QUICK.shape, tmp_path)
    network = QUICK.network()
    found = ours(volume, record, network, QUICK.patch, QUICK.overlap)
    expected = stock(volume, record, network, QUICK.patch, QUICK.overlap)
    assert found.shape == expected.shape == QUICK.shape[::-1]
    assert len(np.unique(expected)) > 1
    assert np.mean(found != expected) <= DIFFERENT_LABELS


def test_both_ways_back_from_logits_give_the_same_labels(tmp_path: Path) -> None:
    volume, record = prepared(QUICK.shape, tmp_path)
    logits = stock_logits(volume, QUICK.network(), QUICK.patch, QUICK.overlap)
    swept = swept_axis(volume.shape, (QUICK.patch,) * 3)
    with torch.no_grad():
        found = labels_on_scan_grid(slabs_of(logits[0], swept, 7), record, swept)
    assert np.mean(found != stock_labels(logits, record)) <= DIFFERENT_LABELS


def test_with_a_real_network_both_ways_give_the_same_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    def untimed(name: str, reference: object, ours: object, rounds: int, *, error: float, tolerance: float) -> Ratio:
        return Ratio(name, [2.0] * rounds, [1.0] * rounds, None, error, tolerance)

    monkeypatch.setattr(inference, "compare", untimed)
    row = real_network_row(QUICK_REAL, 1)
    assert row.equal
    assert row.tolerance < 0.01
    assert "SwinUNETR f=12" in row.name
    assert (REAL.backbone, REAL.feature_size, REAL.patch) == ("swinunetr", 24, 96)
