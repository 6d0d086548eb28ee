"""The experiment with sites: their scans, lists and settings, and all of it once in seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.arms import Experiment
from benchmarks.omni import (
    ARMS,
    ORGANS,
    QUICK,
    SITES,
    OmniSizes,
    named_labels,
    rows,
    scanned,
    settings_text,
    write_sites,
)
from benchmarks.registry import Options
from benchmarks.rows import Figure
from voco_cli.config import load_settings
from voco_cli.config.stages import objective_flags
from voco_cli.data.index.datalist_file import read_datalist


def test_labels_are_numbered_in_the_order_of_the_names() -> None:
    generated = np.array([0, 1, 2, 6, 8, 13], np.uint8).reshape(1, 1, -1)  # spleen, right kidney, liver, aorta, gland
    assert named_labels(generated, ("liver", "spleen")).ravel().tolist() == [0, 2, 0, 1, 0, 0]


def test_every_organ_is_labelled_by_one_site_alone() -> None:
    labelled = [name for site in SITES.values() for name in site.labels]
    assert sorted(labelled) == sorted(ORGANS)


def test_a_site_has_its_own_voxels_and_field_of_view() -> None:
    north, south = (scanned(site, 0, (72, 48, 24)) for site in SITES.values())
    assert north.image_hu_xyz.shape == (72, 48, 24)
    assert north.spacing_mm == pytest.approx((5, 280 / 48, 320 / 24))
    assert south.image_hu_xyz.shape == (84, 56, 15)  # 20 slices of 16 mm, of which 0.2 to 0.95 are scanned
    assert south.spacing_mm == pytest.approx((360 / 84, 5, 16))
    assert south.labels_xyz.shape == south.image_hu_xyz.shape
    air = [np.median(one.image_hu_xyz) for one in (north, south)]
    assert air[1] != air[0]


def test_the_index_knows_which_site_labels_what(tmp_path: Path) -> None:
    experiment = Experiment(tmp_path, {})
    write_sites(experiment, QUICK)
    found = read_datalist(tmp_path / "data.json")
    assert found.classes == ORGANS
    assert [len(one) for one in (found.training, found.validation, found.test)] == [6, 2, 4]
    by_name = {entry.name: entry.labelled_classes for _, entry in found.entries()}
    assert by_name["north_000"] == by_name["south_001"] == ORGANS
    assert by_name["north_004"] == SITES["north"].labels
    assert by_name["south_004"] == SITES["south"].labels
    assert by_name["north_005"] == by_name["south_005"] == ()


@pytest.mark.parametrize("arm", ARMS)
def test_settings_of_every_arm(tmp_path: Path, arm: str) -> None:
    (tmp_path / "omni.yaml").write_text(settings_text(OmniSizes()))
    found = load_settings(None, tmp_path / "omni.yaml", (), objective_flags(ARMS[arm])).settings
    assert set(found.objective.active()) == set(ARMS[arm].split("+"))
    assert found.crops.region_vox == (72, 48, 24)
    assert found.train.validate_every == 40


@pytest.mark.slow
def test_the_whole_case_and_again_from_what_is_there(tmp_path: Path) -> None:
    options = Options(quick=True, work=tmp_path)
    found = list(rows(options))
    names = [row.name for row in found if isinstance(row, Figure)]
    assert names == [f"{arm}: Dice of {len(ORGANS)} organs" for arm in ARMS]
    lines = (tmp_path / "omni" / "table.md").read_text().splitlines()
    assert [line.split(" | ")[0] for line in lines if line.startswith("| + ")] == ["| + pseudo", "| + voco"]
    assert "| liver | south |" in "\n".join(lines)
    log = (tmp_path / "omni" / "commands.log").read_text()
    assert list(rows(options)) == found
    assert (tmp_path / "omni" / "commands.log").read_text() == log
