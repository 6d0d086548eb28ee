"""Both sides of the case give the same crops, and each side's time is that of its own process."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.apart import compare_apart, two_processes
from benchmarks.data_path import FULL, HALF_STEP, QUICK, Plan, Release, float_crops, loaded_crops, reference_crops
from benchmarks.made_scan import write_made_scan
from voco_cli.config import load_settings
from voco_cli.data.cache.preprocess import preprocess
from voco_cli.data.cache.store import VolumeCache
from voco_cli.data.index.datalist import Entry
from voco_cli.data.io.reader import read_scan
from voco_cli.objectives.objective import Case
from voco_cli.objectives.voco.sampling import CropSampler


@pytest.mark.parametrize("release", QUICK, ids=lambda release: release.recipe)
def test_the_loaders_crops_are_the_references_within_half_a_step(tmp_path: Path, release: Release) -> None:
    settings = load_settings(release.recipe, None, release.overrides).settings
    scan = read_scan(write_made_scan(tmp_path / "scan.nii.gz", release.made_vox))
    volume = preprocess(scan, settings.preprocess).array_xyz
    torch.save(torch.from_numpy(np.ascontiguousarray(volume)), tmp_path / "reference.pt")
    entry = Entry(image=scan.path, patient="one", shape=scan.shape_xyz, spacing_mm=scan.spacing_xyz_mm)
    cache = VolumeCache(tmp_path / "cache", settings.preprocess, settings.cache)
    cache.build([entry], workers=1)
    stored = cache.lookup(entry)
    assert stored is not None
    case, sampler = Case("one", stored), CropSampler(settings, 1)
    plan = Plan.of(case, sampler)
    reference = reference_crops(tmp_path / "reference.pt", plan, settings)
    ours = float_crops(case, sampler)
    grid = settings.crops.grid_xyz
    assert len(plan.starts) == len(reference) == len(ours) == 2 + grid[0] * grid[1]
    assert any(plan.flips)
    assert any(plan.turns)
    for one, other in zip(reference, ours, strict=True):
        assert one.shape == other.shape == (1, *settings.crops.network_size_vox)
        assert float((one - other).abs().max()) < HALF_STEP
    assert len(loaded_crops(case, sampler).bases_RXYZ) == grid[0] * grid[1]


def test_each_side_is_timed_in_its_own_process() -> None:
    with two_processes() as processes:
        long, short = partial(sum, range(3_000_000)), partial(sum, range(30_000))
        row = compare_apart("one", long, short, 3, processes, target=2.0)
    assert len(row.reference_s) == len(row.ours_s) == 3
    assert row.ratio > 10


@pytest.mark.parametrize("release", FULL, ids=lambda release: release.recipe)
def test_the_full_size_has_the_recipes_own_preprocessing(release: Release) -> None:
    measured = load_settings(release.recipe, None, release.overrides).settings
    assert measured == load_settings(release.recipe).settings
    if release.recipe == "tpami":
        assert measured.preprocess.spacing_mm == (1.5, 1.5, 1.5)
