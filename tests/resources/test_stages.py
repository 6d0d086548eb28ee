"""The stages of voco bench one by one, on made scans."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.pretrain.tiny_run import TINY, write_data
from voco_cli.config import Settings, load_settings
from voco_cli.errors import DataError
from voco_cli.resources import bench
from voco_cli.resources.bench import (
    LoadingRequest,
    Material,
    MaterialRequest,
    made_scan,
    prepare_material,
    time_loading,
)


def settings_of(folder: Path, *override: str) -> Settings:
    return load_settings("debug", None, (*TINY, *override), {"data.file": write_data(folder)}).settings


def material_of(folder: Path, *override: str) -> Material:
    (folder / "bench").mkdir()
    return prepare_material(MaterialRequest(settings_of(folder, *override), folder / "bench", 60.0))


def test_the_disk_is_written_and_read_and_left_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = iter([0.5, 0.25, 1.0, 0.1, 2.0, 0.05])
    monkeypatch.setattr(bench, "_write_s", lambda path, noise, size: (path.touch(), next(taken))[1])
    monkeypatch.setattr(bench, "_read_s", lambda path: next(taken))
    written, read = bench.time_disk(tmp_path, 60.0, 32 << 20)
    megabytes = 32 * 2**20 / 1e6
    assert written == pytest.approx([megabytes / 0.5, megabytes / 1.0, megabytes / 2.0])
    assert read == pytest.approx([megabytes / 0.25, megabytes / 0.1, megabytes / 0.05])
    assert not list(tmp_path.iterdir())


def test_the_disk_for_real(tmp_path: Path) -> None:
    written, read = bench.time_disk(tmp_path, 0.0, 16 << 20)
    assert len(written) == len(read) == 1
    assert min(*written, *read) > 0
    assert not list(tmp_path.iterdir())


def test_material_is_of_the_users_scans_and_leaves_their_cache_alone(tmp_path: Path) -> None:
    material = material_of(tmp_path)
    assert {case.entry.image.parent for case in material.cases} == {tmp_path / "imagesTr"}
    assert len(material.cases) == len(material.build_s) == len(material.stored_bytes) == 6
    assert all(case.shape_xyz == (48, 48, 24) for case in material.cases)
    assert not (tmp_path / ".voco-cache").exists()


def test_scans_that_the_grid_does_not_fit_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"None of the 6 scans .* is too small for the grid of crops"):
        material_of(tmp_path, "preprocess.resize_vox=null", "preprocess.spacing_mm=20x20x20")


def test_the_loader_gives_all_crops_of_a_volume(tmp_path: Path) -> None:
    material = material_of(tmp_path)
    loading = time_loading(LoadingRequest(settings_of(tmp_path / "again"), material.cases[:1], 0.05))
    assert loading.crops_per_volume == 2 + 4
    assert loading.loaders == 0
    assert len(loading.volumes_per_s) == 5
    assert min(loading.volumes_per_s) > 0


def test_a_made_scan_has_tissue_everywhere() -> None:
    scan = made_scan((6, 5, 4))
    assert scan.shape_xyz == (6, 5, 4)
    assert scan.array_zyx.dtype == np.int16
    assert -175 < scan.array_zyx.min() < scan.array_zyx.max() < 250
