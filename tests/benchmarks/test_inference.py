"""MONAI's way and ours give the same labels of a whole scan, as do the two ways back from logits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from benchmarks.inference import DIFFERENT_LABELS, QUICK, ours, prepared, slabs_of, stock, stock_labels, stock_logits
from voco_cli.downstream.prediction.scan_grid import labels_on_scan_grid
from voco_cli.downstream.prediction.sliding_window import swept_axis


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
