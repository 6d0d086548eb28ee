"""What to change, and what it would come to, by hand."""

from __future__ import annotations

import pytest
import torch

from tests.finetune.tiny_task import TINY as TINY_TASK
from tests.pretrain.tiny_run import TINY
from voco_cli.config import Settings, load_settings
from voco_cli.resources.advice import cache_memory_advice, disk_advice, training_advice
from voco_cli.resources.amounts import Amount, Need, Part
from voco_cli.resources.costs import training_footprint

CPU = torch.device("cpu")


def memory(needed: float, free: float, kind: str = "memory") -> Need:
    part = Part("training", Amount.of(needed, "measured"))
    return Need(kind, "training", (part,), int(free))  # type: ignore[arg-type]


def pretraining(*override: str) -> Settings:
    return load_settings("debug", None, (*TINY, "model.checkpointing=off", *override)).settings


def test_a_disk_that_is_too_small() -> None:
    parts = (Part("cache", Amount(3e9, "measured", 2e9, 4e9)), Part("checkpoints", Amount.of(1e9, "measured")))
    advice = list(disk_advice(Need("disk", "/data", parts, int(2e9))))
    assert advice[0] == "Free 3.0 GB on the disk of /data, or put a part of it on another one."
    assert advice[1].startswith("--set cache.dir=FOLDER")
    assert "train.keep_checkpoints=1" in advice[-1]
    advice = list(disk_advice(Need("disk", "/data", parts[1:], int(0.5e9))))
    assert not any("cache" in one for one in advice)
    parts = (Part("cache", Amount.of(1e6, "measured")), Part("predictions", Amount.of(3e9, "measured")))
    advice = list(disk_advice(Need("disk", "/data", parts, int(2e9))))
    assert [one.split()[0] for one in advice] == ["Free", "-o"]  # a cache of a megabyte is not what is in the way


def test_processes_that_fit() -> None:
    assert "--set cache.workers=3" in cache_memory_advice(8, 1e9, int(3.9e9))
    assert "--set cache.workers=1" in cache_memory_advice(2, 1e9, int(3e9))
    assert cache_memory_advice(8, 5e9, int(3e9)).startswith("Not even one process has enough memory")


def test_settings_are_proposed_with_what_they_would_take() -> None:
    """Measured 1.5 times what was expected; the same is taken to hold for what is proposed."""
    settings = pretraining("model.feature_size=16", "crops.size=32x32x24", "preprocess.resize_vox=64x64x24")
    expected = training_footprint(settings, CPU, 0).host_bytes
    halved = settings.model_copy(
        update={
            "train": settings.train.model_copy(update={"batch_size": 1, "accumulate": 2 * settings.train.accumulate})
        }
    )
    would_be = 1.5 * training_footprint(halved, CPU, 0).host_bytes
    advice = list(training_advice(settings, CPU, 0, memory(1.5 * expected, would_be + 1)))
    (batch,) = (one for one in advice if "train.batch_size=1 --set train.accumulate=2" in one)
    assert f"would take about {would_be / 1e6:.1f} MB" in batch or f"{would_be / 1e9:.1f} GB" in batch
    # Twelve crops of 14 MB go through the network together anyway, so that recomputing them would save nothing.
    assert not any("model.checkpointing=on" in one for one in advice)


def test_recomputing_is_proposed_where_it_saves_something() -> None:
    """Twelve crops of 113 MB, of which two would be there at a time."""
    settings = pretraining("model.feature_size=32", "crops.size=64x64x24", "preprocess.resize_vox=128x128x24")
    expected = training_footprint(settings, CPU, 0).host_bytes
    advice = list(training_advice(settings, CPU, 0, memory(expected, expected - 5e8)))
    (recompute,) = (one for one in advice if "model.checkpointing=on" in one)
    assert recompute.endswith("(activations are computed twice: about a third slower).")


def test_where_no_single_setting_will_do_the_least_is_named() -> None:
    settings = pretraining()
    expected = training_footprint(settings, CPU, 2).host_bytes
    advice = list(training_advice(settings, CPU, 2, memory(expected, 1000)))
    assert len(advice) == 1
    assert advice[0].startswith("No single setting will do: ")


def test_settings_that_would_not_go_together_are_not_proposed() -> None:
    """An inter-volume term needs two volumes in a step; a SwinUNETR a multiple of twelve channels."""
    settings = load_settings("tpami", None, ("train.batch_size=2", "model.feature_size=12")).settings
    expected = training_footprint(settings, CPU, 0).host_bytes
    advice = " ".join(training_advice(settings, CPU, 0, memory(expected, expected - 1)))
    assert "train.batch_size" not in advice
    assert "model.feature_size" not in advice
    assert "crops.input_size" not in advice  # 32 voxels an edge are too few


@pytest.mark.parametrize(("key", "there"), [("task.patches_per_volume=1", True), ("crops.input_size", False)])
def test_a_fine_tuning_has_patches(key: str, there: bool) -> None:
    override = (*TINY_TASK, "task.patch_size=64x64x64", "model.feature_size=8", "model.checkpointing=on")
    settings = load_settings(None, None, override, task="btcv").settings
    expected = training_footprint(settings, CPU, 0).host_bytes
    advice = " ".join(training_advice(settings, CPU, 0, memory(expected, expected - 1)))
    assert (key in advice) is there
    assert "model.checkpointing" not in advice
    assert "task.patch_size=32x32x32" in advice
