"""Seconds by hand, from a crop that takes a known time."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.finetune.tiny_task import TINY as TINY_TASK
from tests.finetune.tiny_task import make_data
from tests.models import toy_backbone
from tests.pretrain.tiny_run import TINY, write_data
from tests.tasks.made_run import known_network, make_run
from voco_cli.config import Settings, load_settings
from voco_cli.config.backbones import BACKBONES
from voco_cli.resources import costs
from voco_cli.resources.amounts import Amount
from voco_cli.resources.costs import (
    LOAD_S,
    PICTURE_S,
    RESAMPLE_S,
    case_seconds,
    count_windows,
    crop_seconds,
    pass_seconds,
    passes_per_step,
    step_seconds,
    validation_seconds,
)
from voco_cli.resources.plan import ESTIMATES, plan_finetuning, plan_pretraining

CUDA = torch.device("cuda", 0)
NO_TEACHER = ("objective.voco.teacher=projector", "objective.voco.symmetric=false")
ONE_S = Amount.of(1.0, "estimated")


def pretraining(*override: str) -> Settings:
    return load_settings("debug", None, (*TINY, *override)).settings


def finetuning(*override: str) -> Settings:
    return load_settings(None, None, (*TINY_TASK, *override), task="btcv").settings


def test_passes_of_a_step_by_hand() -> None:
    """2 volumes of 2 + 4 crops; a backward pass counts as two, a teacher network as one more."""
    assert passes_per_step(pretraining("train.accumulate=3")) == 3 * 2 * 6 * 4
    assert passes_per_step(pretraining(*NO_TEACHER)) == 2 * 6 * 3
    assert passes_per_step(finetuning()) == 2 * 2 * 3


def test_a_step_takes_what_computing_takes_or_the_loaders_need() -> None:
    """A volume's crops are 2 of 24^3 voxels and 4 base crops of 24^3."""
    reading = 2 * 6 * 24**3 * LOAD_S["zstd"]
    assert step_seconds(pretraining(), ONE_S).value == pytest.approx(48 + reading)
    assert step_seconds(pretraining("data.workers=2"), ONE_S).value == 48
    assert step_seconds(pretraining("data.workers=2"), Amount.of(0.0, "estimated")).value == pytest.approx(reading / 2)


@pytest.mark.parametrize("settings", [pretraining(), finetuning()], ids=["pre-training", "fine-tuning"])
def test_a_crop_is_timed_through_the_real_network(settings: Settings) -> None:
    assert 0 < crop_seconds(settings) < 10
    found = pass_seconds(settings, torch.device("cpu"))
    assert found.low < found.value < found.high


def test_the_crops_that_are_decoded_are_timed_through_their_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a volume VoCo has 6 crops and MAE 2, which alone go through a decoder: 1 s each, and 3 s with it."""
    settings = pretraining("objective.mae.weight=1")
    took_s = iter((1.0, 3.0))
    monkeypatch.setattr(costs, "forward_seconds", lambda network, crops: network(crops).shape[0] * next(took_s))
    assert settings.objective.decoded_share(settings.crops) == 2 / 8
    assert crop_seconds(settings) == 1 + 2 / 8 * (3 - 1)


def test_a_large_crop_is_timed_by_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    def build(model: object) -> torch.nn.Module:
        network = torch.nn.Identity()
        network.register_forward_pre_hook(lambda module, given: sizes.append(given[0].shape))
        return network

    monkeypatch.setattr(costs, "build_encoder", build)
    crop_seconds(pretraining("crops.size=128x128x128", "preprocess.resize_vox=256x256x128", "crops.grid=2x2"))
    assert {tuple(size) for size in sizes} == {(1, 1, 64, 64, 64)}


def test_a_step_on_a_gpu_as_measured() -> None:
    """On an H100 in bf16 a crop of 64^3 voxels took 0.84 ms at 48 channels, and 16.47 volumes went by in a second."""
    settings = load_settings("cvpr", None, ("run.precision=bf16", "data.workers=8")).settings
    step = step_seconds(settings, Amount.within(0.067e-9 * 48 * 64**3, 3))  # 18 crops a volume, and four passes each
    assert 2 / step.value == pytest.approx(16.47, rel=0.15)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_on_a_gpu_more_crops_go_through_at_once_and_leave_no_memory_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    class Recorder(torch.nn.Conv3d):
        def forward(self, crops_N1XYZ: torch.Tensor) -> torch.Tensor:
            sizes.append(tuple(crops_N1XYZ.shape))
            return super().forward(crops_N1XYZ)

    monkeypatch.setattr(costs, "build_encoder", lambda model: Recorder(1, 8, 3))
    before = torch.cuda.memory_reserved()
    assert 0 < pass_seconds(load_settings("cvpr").settings, CUDA).value < 1
    assert sizes == [(costs.TRIED_ON_DEVICE, 1, 64, 64, 64)] * 3
    assert torch.cuda.memory_reserved() <= before


@pytest.mark.parametrize("task", [None, "btcv"])
def test_a_backbone_that_nobody_has_measured_is_planned(
    task: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two channels: kernels of 3^3 and 2^3 voxels; an output layer of 2^3 to 14 classes."""
    monkeypatch.setitem(BACKBONES, "toy", toy_backbone.RULES)
    if task is None:
        data = write_data(tmp_path / "data", 4, 1)
        settings = pretraining("model.backbone=toy", f"data.file={data}", f"run.dir={tmp_path / 'run'}")
        plan = plan_pretraining(settings, 20.0, lambda text: None)
        numbers = 2 * (27 + 1) + 2 * (2 * 8 + 1)
    else:
        override = ("model.backbone=toy", f"data.root={make_data(tmp_path / 'BTCV')}", f"run.dir={tmp_path / 'run'}")
        plan = plan_finetuning(finetuning(*override), 20.0, lambda text: None)
        numbers = 2 * (27 + 1) + 2 * (2 * 8 + 1) + 14 * (2 * 8 + 1)
    steps = next(part.amount for part in plan.times if part.name == "steps")
    assert 0 < steps.low < steps.value < steps.high
    assert (steps.known, ESTIMATES in plan.notes) == ("estimated", True)
    (weights,) = (part for need in plan.needs for part in need.parts if part.name == "weights")
    assert weights.amount.value == 4 * numbers


def test_windows_and_a_case_by_hand(tmp_path) -> None:  # type: ignore[no-untyped-def]
    """At 16 voxels a window and half an overlap: 40 needs starts 0, 8, 16, 24, and 16 and less need one."""
    settings = known_network(make_run(tmp_path / "run")).settings
    assert count_windows((40, 16, 9), settings) == 4
    assert count_windows((17, 40, 40), settings) == 2 * 4 * 4
    one = case_seconds((40, 16, 9), 10_000, settings, ONE_S)
    assert one.value == pytest.approx(4 + 10_000 * settings.task.num_outputs * RESAMPLE_S)
    flipped = settings.model_copy(update={"predict": settings.predict.model_copy(update={"flips": True})})
    assert case_seconds((40, 16, 9), 0, flipped, ONE_S).value == 32


def test_a_validation_by_hand() -> None:
    """Twelve random and four base crops of each of at most twelve scans, by student and teacher."""
    assert validation_seconds(pretraining(), 3, ONE_S).value == 3 * 16 * 2 + PICTURE_S
    assert validation_seconds(pretraining(*NO_TEACHER), 99, ONE_S).value == 12 * 16 + PICTURE_S


def test_small_crops_are_timed_as_many_at_once_as_a_step_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """One alone would be timed by the overhead of its layers: 13 times too long for the recipe debug."""
    sizes = []

    class Recorder(torch.nn.Module):
        def forward(self, crops_N1XYZ: torch.Tensor) -> torch.Tensor:
            sizes.append(tuple(crops_N1XYZ.shape))
            return crops_N1XYZ

    monkeypatch.setattr(costs, "build_encoder", lambda model: Recorder())
    crop_seconds(load_settings("debug").settings)
    assert sizes == [(2 * (4 + 16), 1, 18, 18, 18)] * 3
