"""The rules that hold between the sections, and what the crops' sizes follow from."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from voco_cli.config import Settings, load_settings
from voco_cli.config.schema import Crops
from voco_cli.errors import UsageError

SMALL = ["preprocess.resize_vox=null", "crops.input_size=null", "model.backbone=unet"]


def problem(*overrides: str) -> str:
    with pytest.raises(UsageError) as caught:
        load_settings("cvpr", overrides=overrides)
    return caught.value.message


def test_defaults_are_valid_and_frozen() -> None:
    settings = Settings()
    with pytest.raises(ValidationError, match="frozen"):
        settings.seed = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["crops.grid=1x1"], "crops.grid 1x1 has one base crop, and nothing to tell it from."),
        (
            ["crops.grid=5x4"],
            "crops.grid 5x4 of base crops 96x96x96 spans 480x384x96 voxels and does not fit into "
            "preprocess.resize_vox 384x384x96.",
        ),
        (
            ["crops.grid=4x4x2"],
            "crops.grid 4x4x2 of base crops 96x96x96 spans 384x384x192 voxels and does not fit into "
            "preprocess.resize_vox 384x384x96.",
        ),
        (
            [*SMALL, "crops.grid=2x2", "crops.size=64x64x65", "crops.base_size=64x64x64", "crops.input_size=32x32x32"],
            "crops.size 64x64x65 is larger than the region 128x128x64 of the grid.",
        ),
        (
            [*SMALL, "crops.size=32x32x32", "crops.base_size=64x64x64"],
            "crops.base_size differs from crops.size, so crops.input_size must be given.",
        ),
        (
            [*SMALL, "crops.size=64x32x32"],
            "augment.rotate_prob above 0 needs crops that are square in the plane, not 64x32x32.",
        ),
        (["model.feature_size=40"], "model.feature_size 40 is not a multiple of 12 (swinunetr)."),
        (
            ["crops.input_size=48x48x32"],
            "crops reach the network as 48x48x32, not multiples of 32 voxels (swinunetr).",
        ),
        (
            ["crops.input_size=32x32x32"],
            "crops reach the network as 32x32x32, and the least is 64x32x32 (swinunetr).",
        ),
        (
            [*SMALL, "crops.size=16x16x32"],
            "crops reach the network as 16x16x32, less than 17 voxels an edge (unet).",
        ),
        (
            ["objective.voco.inter_weight=1", "train.batch_size=1"],
            "objective.voco.inter_weight compares volumes of a step, so train.batch_size must be at least 2.",
        ),
        (
            ["objective.voco.teacher=none"],
            "objective.voco.symmetric and objective.voco.inter_weight need a teacher, but "
            "objective.voco.teacher is none.",
        ),
        (
            ["objective.voco.teacher=none", "objective.voco.symmetric=false", "objective.voco.inter_weight=1"],
            "objective.voco.symmetric and objective.voco.inter_weight need a teacher, but "
            "objective.voco.teacher is none.",
        ),
    ],
)
def test_rule_between_sections(overrides: list[str], said: str) -> None:
    assert problem(*overrides) == said


def test_broken_rules_are_reported_together() -> None:
    lines = problem("crops.grid=5x4", "model.feature_size=40", "objective.voco.teacher=none").splitlines()
    assert lines[0] == "3 settings are wrong:"
    assert len(lines) == 4


@pytest.mark.parametrize(
    ("overrides", "network_vox", "region_vox"),
    [
        ([*SMALL, "crops.size=64x32x32", "augment.rotate_prob=0"], (64, 32, 32), (256, 128, 32)),
        ([*SMALL, "crops.size=17x17x17"], (17, 17, 17), (68, 68, 17)),
        (
            [*SMALL, "crops.size=32x32x32", "crops.base_size=64x64x64", "crops.input_size=32x32x32"],
            (32, 32, 32),
            (256, 256, 64),
        ),
        (["model.feature_size=12", "crops.input_size=32x32x64"], (32, 32, 64), (384, 384, 96)),
        (["crops.grid=4x3"], (64, 64, 64), (384, 288, 96)),
        (["objective.voco.teacher=none", "objective.voco.symmetric=false"], (64, 64, 64), (384, 384, 96)),
    ],
)
def test_the_nearest_settings_that_keep_the_rules(
    overrides: list[str], network_vox: tuple[int, ...], region_vox: tuple[int, ...]
) -> None:
    crops = load_settings("cvpr", overrides=overrides).settings.crops
    assert (crops.network_size_vox, crops.region_vox) == (network_vox, region_vox)


def test_sizes_that_follow_from_the_crops() -> None:
    plane = Crops(grid=(4, 3), size=(96, 96, 64))
    assert (plane.grid_xyz, plane.base_size_vox, plane.region_vox) == ((4, 3, 1), (96, 96, 64), (384, 288, 64))
    assert plane.network_size_vox == (96, 96, 64)
    boxed = Crops(grid=(2, 3, 4), size=(32, 32, 32), base_size=(64, 48, 16), input_size=(24, 24, 24))
    assert (boxed.grid_xyz, boxed.region_vox, boxed.network_size_vox) == ((2, 3, 4), (128, 144, 64), (24, 24, 24))


@pytest.mark.parametrize(
    "override",
    [
        "seed=-1",
        "run.device=gpu",
        "run.device=cuda:x",
        "run.threads=0",
        "preprocess.spacing_mm=[1.5, 0, 1.5]",
        "preprocess.window_hu=[250, -175]",
        "preprocess.window_hu=[1, 1]",
        "preprocess.foreground_above=1.5",
        "crops.grid=4",
        "crops.grid=0x4",
        "augment.flip_prob=-0.1",
        "objective.voco.ema=1.1",
        "objective.voco.dropout=1",
        "train.lr=0",
        "train.lr=.inf",
        "cache.level=0",
        "health.min_correlation=2",
    ],
)
def test_values_out_of_range_are_refused_by_name(override: str) -> None:
    assert override.split("=")[0] in problem(override)


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:1", "mps"])
def test_devices(device: str) -> None:
    assert load_settings(overrides=[f"run.device={device}"]).settings.run.device == device
