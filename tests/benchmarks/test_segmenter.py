"""The case of the whole network: both of its ways are asked, and compute the same."""

from __future__ import annotations

import pytest

from benchmarks import segmenter
from benchmarks.registry import Options
from benchmarks.rows import Ratio


def test_a_window_goes_both_ways_and_comes_out_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segmenter, "warm", lambda: True)  # the allocator of the tests stays as it is
    (row,) = segmenter.rows(Options(rounds=1, quick=True))
    assert isinstance(row, Ratio)
    assert row.name == "forward f=12, 64x32x32, 3 classes"
    assert (row.target, row.tolerance) == (1.8, 1e-5)
    assert row.error < 1e-5
    assert len(row.reference_s) == len(row.ours_s) == 1
    assert row.ours_s[0] > 0


def test_ways_that_differ_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segmenter, "warm", lambda: True)
    monkeypatch.setattr(segmenter.SwinSegmenter, "stock_forward", lambda network, window: window)
    monkeypatch.setattr(segmenter.SwinSegmenter, "channels_last_forward", lambda network, window: window * 1.001)
    (row,) = segmenter.rows(Options(rounds=1, quick=True))
    assert isinstance(row, Ratio)
    assert not row.equal
    assert abs(row.error - 1e-3) < 1e-5
