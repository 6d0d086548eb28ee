"""The way into the cache is measured to its end, and holds what the reference's file holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.made_scan import write_made_scan
from benchmarks.preprocessing import ABDOMEN, HALF_STEP, cache_row
from voco_cli.data.cache.preprocess import preprocess
from voco_cli.data.io.reader import read_scan


@pytest.mark.filterwarnings("ignore::UserWarning:monai.*")  # of readers that MONAI looks for and that are not installed
def test_both_ways_into_the_cache_leave_a_file_of_the_same_volume(tmp_path: Path) -> None:
    path = write_made_scan(tmp_path / "scan.nii.gz", (64, 64, 20))
    volume = preprocess(read_scan(path), ABDOMEN).array_xyz
    row = cache_row("one", path, ABDOMEN, tmp_path, 2)
    assert len(row.reference_s) == len(row.ours_s) == 2
    assert row.equal
    assert row.tolerance == HALF_STEP < 0.5 / 255 + 1e-3
    kept = torch.load(tmp_path / "reference.pt", weights_only=True)
    assert kept.dtype == torch.float32
    assert kept.shape == (1, *volume.shape)
    np.testing.assert_allclose(kept[0].numpy(), volume, atol=1e-4)
    assert any((tmp_path / "cache").rglob("*.b2nd"))
