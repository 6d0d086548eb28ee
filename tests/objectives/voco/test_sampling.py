"""Crops as they are in the volume, whichever way they were read, and batches of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from voco_cli.config import Settings, load_settings
from voco_cli.config.schema import Cache
from voco_cli.data.cache.volume import StoredVolume, compress
from voco_cli.errors import DataError
from voco_cli.objectives.objective import Case
from voco_cli.objectives.voco.crops import CropDraws, draw_crops
from voco_cli.objectives.voco.sampling import CropSampler, read_crops
from voco_cli.pretrain.dataset import PretrainingBatch, PretrainingDataset

COMMON = ("model.backbone=unet", "model.levels=3", "augment.rotate_prob=0", "crops.input_size=8x8x8")
WHOLE = Cache(chunk_vox=(12, 12, 12), block_vox=(4, 12, 12))


def write_volume(path: Path, shape: tuple[int, int, int], cache: Cache, seed: int = 0) -> NDArray[np.generic]:
    stored = np.random.default_rng(seed).integers(0, 250, shape).astype(cache.dtype)
    path.write_bytes(compress(stored, cache).to_cframe())
    return stored


def settings_of(*overrides: str) -> Settings:
    return load_settings("cvpr", None, (*COMMON, *overrides)).settings


@pytest.mark.parametrize(
    ("cache", "shape", "grid", "base", "whole"),
    [
        (WHOLE, (24, 36, 12), "2x3x1", "12x12x12", True),
        (WHOLE.model_copy(update={"dtype": "int16"}), (24, 24, 24), "2x2x2", "12x12x12", True),
        (WHOLE, (24, 24, 24), "1x2x1", "24x12x24", True),
        (Cache(chunk_vox=(12, 12, 12), block_vox=(5, 12, 12)), (24, 24, 12), "2x2x1", "12x12x12", True),
        (Cache(chunk_vox=(12, 12, 12), block_vox=(5, 12, 12)), (24, 24, 12), "4x2x1", "5x12x12", False),
        (Cache(), (24, 36, 12), "2x3x1", "12x12x12", False),
        (WHOLE, (31, 29, 17), "2x2x1", "12x12x12", None),
    ],
)
def test_crops_are_voxels_of_the_volume(
    tmp_path: Path, cache: Cache, shape: tuple[int, int, int], grid: str, base: str, whole: bool | None
) -> None:
    stored = write_volume(tmp_path / "one.b2nd", shape, cache)
    volume = StoredVolume(tmp_path / "one.b2nd")
    settings = settings_of(
        "preprocess.resize_vox=null",
        f"crops.grid={grid}",
        f"crops.base_size={base}",
        "crops.size=10x11x12",
        "crops.random_per_volume=5",
    )
    both_ways = set()
    for step in range(6):
        draws = draw_crops(0, step, "one", shape, settings.crops)
        both_ways.add(volume.is_whole_blocks(draws.region_start_3, settings.crops.base_size_vox))
        random, bases = read_crops(volume, draws, settings)
        expected_random, expected_bases = cut_one_by_one(stored, draws, settings)
        assert random.dtype == bases.dtype == stored.dtype
        np.testing.assert_array_equal(random, expected_random)
        np.testing.assert_array_equal(bases, expected_bases)
    assert whole is None or both_ways == {whole}


def cut_one_by_one(
    stored: NDArray[np.generic], draws: CropDraws, settings: Settings
) -> tuple[list[NDArray[np.generic]], list[NDArray[np.generic]]]:
    crops: tuple[list[NDArray[np.generic]], list[NDArray[np.generic]]] = ([], [])
    for number, start in enumerate((draws.starts_N3 + draws.region_start_3).tolist()):
        is_base = number >= settings.crops.random_per_volume
        size = settings.crops.base_size_vox if is_base else settings.crops.size
        crops[is_base].append(stored[tuple(slice(low, low + edge) for low, edge in zip(start, size, strict=True))])
    return crops


def test_a_batch_has_the_crops_of_its_cases_one_after_another(tmp_path: Path) -> None:
    settings = settings_of(
        "preprocess.resize_vox=24x24x12",
        "crops.grid=2x2",
        "crops.size=12x12x12",
        "objective.voco.dropout_unit=features",
    )
    paths = [tmp_path / "0.b2nd", tmp_path / "1.b2nd"]
    for seed, path in enumerate(paths):
        write_volume(path, (24, 24, 12), WHOLE, seed)
    cases = [Case(path.stem, StoredVolume(path)) for path in paths]
    dataset = PretrainingDataset(cases, CropSampler(settings, 7))
    batch = dataset.collate([dataset[3, index] for index in (0, 1)])
    assert isinstance(batch, PretrainingBatch)
    assert batch.names == ["0", "1"]
    sampler, together = dataset.sampler, batch.drawn
    alone = [sampler.collate([sampler.draw(case, 3)]) for case in cases]
    assert together.bases_RXYZ.shape == (8, 12, 12, 12)
    assert together.keep_NE.shape == (12, 7)
    for index, one in enumerate(alone):
        assert torch.equal(one.random_RXYZ, together.random_RXYZ[2 * index : 2 * index + 2])
        assert torch.equal(one.bases_RXYZ, together.bases_RXYZ[4 * index : 4 * index + 4])
        # Draws come in the order random, base over all cases.
        assert torch.equal(one.turns_N[:2], together.turns_N[2 * index : 2 * index + 2])
        assert torch.equal(one.shifts_N[2:], together.shifts_N[4 + 4 * index : 8 + 4 * index])


def test_a_damaged_volume_is_the_answer_of_its_batch(tmp_path: Path) -> None:
    settings = settings_of("preprocess.resize_vox=24x24x12", "crops.grid=2x2", "crops.size=12x12x12")
    write_volume(tmp_path / "0.b2nd", (24, 24, 12), WHOLE)
    (tmp_path / "1.b2nd").write_bytes(b"no volume")
    cases = [Case(name, StoredVolume(tmp_path / f"{name}.b2nd")) for name in ("0", "1")]
    dataset = PretrainingDataset(cases, CropSampler(settings, 1))
    assert isinstance(dataset.collate([dataset[0, 0], dataset[0, 1]]), DataError)
