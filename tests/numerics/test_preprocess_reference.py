"""Preprocessing against the numbers of the authors' pipelines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from voco_cli.config.schema import Preprocess
from voco_cli.data.cache.preprocess import preprocess
from voco_cli.data.io.reader import read_scan

PIPELINES = {
    "cvpr": Preprocess(foreground_above=0.3, resize_vox=(384, 384, 96)),
    "tpami_abdomen": Preprocess(spacing_mm=(1.5, 1.5, 1.5), min_size_vox=(192, 192, 64)),
    "tpami_chest": Preprocess(spacing_mm=(1.25, 1.25, 5.0), window_hu=(-1000.0, 500.0), min_size_vox=(192, 192, 64)),
    "tpami_headneck": Preprocess(spacing_mm=(1.5, 1.5, 1.5), min_size_vox=(64, 64, 64), resize_vox=(192, 192, 64)),
}


@pytest.mark.parametrize("scan", ["ct_lps", "ct_ipl"])
@pytest.mark.parametrize("pipeline", PIPELINES)
def test_volume_equals_the_authors(reference: Path, pipeline: str, scan: str) -> None:
    expected = np.load(reference / f"preprocess_{pipeline}.npz")
    found = preprocess(read_scan(reference / f"{scan}.nii.gz"), PIPELINES[pipeline])
    volume = found.array_xyz
    assert volume.shape == tuple(expected[f"{scan}/shape"])
    x, y, z = expected[f"{scan}/stride"]
    np.testing.assert_allclose(volume[::x, ::y, ::z], expected[f"{scan}/subset"], atol=1e-6)
    whole = volume.astype(np.float64)
    summary = [whole.mean(), whole.std(), whole.min(), whole.max()]
    np.testing.assert_allclose(summary, expected[f"{scan}/mean"], atol=1e-6)
    for axis, others in enumerate([(1, 2), (0, 2), (0, 1)]):
        np.testing.assert_allclose(whole.mean(axis=others), expected[f"{scan}/profile{axis}"], atol=1e-6)
    np.testing.assert_allclose(found.affine, expected[f"{scan}/affine"], atol=1e-6)


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_foreground_box_equals_the_authors(reference: Path, pipeline: str) -> None:
    expected = np.load(reference / f"preprocess_{pipeline}.npz")
    settings = PIPELINES[pipeline].model_copy(update={"min_size_vox": None, "resize_vox": None})
    found = preprocess(read_scan(reference / "ct_lps.nii.gz"), settings)
    assert found.array_xyz.shape == tuple(expected["ct_lps/after_crop_foreground_shape"])
    stored = expected["ct_lps/after_crop_foreground_f16_stride2"].astype(np.float32)
    np.testing.assert_allclose(found.array_xyz[::2, ::2, ::2], stored, atol=5e-4)
    np.testing.assert_allclose(found.affine, expected["ct_lps/after_crop_foreground_affine"], atol=1e-6)
