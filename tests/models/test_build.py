"""Which encoder the settings ask for, and how crops go through it."""

from __future__ import annotations

import pytest
import torch

from voco_cli.config.schema import Model
from voco_cli.models import memory
from voco_cli.models.build import build_encoder
from voco_cli.models.kernels import triton_here
from voco_cli.models.memory import Grouping, free_memory_bytes, plan_grouping

CPU, GPU = torch.device("cpu"), torch.device("cuda")
UNET = Model(backbone="unet", feature_size=8)
"""36 bytes x 8 channels x 24^3 voxels: 3.98 MB a crop."""
SWIN = Model(backbone="swinunetr", feature_size=48)
"""1.27 GB a crop of 64^3 voxels on a CPU, 0.83 GB on a GPU with kernels."""


@pytest.mark.parametrize(
    ("model", "features"),
    [
        (Model(backbone="unet", feature_size=8), 31 * 8),
        (Model(backbone="swinunetr", feature_size=12), 24 * 12),
        (Model(backbone="swinunetr", feature_size=12, patch_merging="legacy"), 24 * 12),
        (Model(backbone="swinunetr", feature_size=24), 24 * 24),
    ],
)
def test_width_of_the_embedding(model: Model, features: int) -> None:
    assert build_encoder(model).out_features == features


@pytest.mark.parametrize("model", [UNET, Model(feature_size=12)])
def test_weights_follow_torchs_seed(model: Model) -> None:
    states = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        states.append(torch.cat([p.detach().flatten() for p in build_encoder(model).parameters()]))
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


@pytest.mark.parametrize(
    ("model", "crops", "edge", "device", "free_gb", "expected"),
    [
        # All activations fit; a CPU takes as many as 256 MB hold: 64.
        (UNET, 40, 24, CPU, 16, Grouping(40, False)),
        (UNET, 100, 24, CPU, 16, Grouping(64, False)),
        # 40 % of 0.3 GB do not hold the activations of 40; the group stays, or a resumed run would round otherwise.
        (UNET, 40, 24, CPU, 0.3, Grouping(40, True)),
        # A crop that is too large by itself still goes, alone.
        (SWIN, 36, 64, CPU, 16, Grouping(1, True)),
        (SWIN, 36, 64, CPU, 1, Grouping(1, True)),
        # A GPU takes all at once where 80 % of it hold them, 29.9 GB; else the fewest groups that fit.
        (SWIN, 36, 64, GPU, 38, Grouping(36, False)),
        (SWIN, 36, 64, GPU, 37, Grouping(18, True)),
        (SWIN, 35, 64, GPU, 24, Grouping(18, True)),
    ],
)
def test_grouping_by_free_memory(
    model: Model,
    crops: int,
    edge: int,
    device: torch.device,
    free_gb: float,
    expected: Grouping,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "free_memory_bytes", lambda _: int(free_gb * 1e9))
    monkeypatch.setattr(triton_here, "is_available", lambda _: True)
    assert plan_grouping(model, crops, (edge, edge, edge), device, half=False) == expected


@pytest.mark.parametrize(
    ("checkpointing", "device", "free_gb", "expected"),
    [
        ("on", GPU, 140, Grouping(36, True)),
        ("on", CPU, 140, Grouping(1, True)),
        ("off", GPU, 80, Grouping(36, False)),
        ("off", CPU, 1, Grouping(1, False)),
    ],
)
def test_checkpointing_as_asked(
    checkpointing: str, device: torch.device, free_gb: float, expected: Grouping, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "free_memory_bytes", lambda _: int(free_gb * 1e9))
    monkeypatch.setattr(triton_here, "is_available", lambda _: True)
    model = SWIN.model_copy(update={"checkpointing": checkpointing})
    assert plan_grouping(model, 36, (64, 64, 64), device, half=False) == expected


def test_bf16_takes_half_monai_s_way_more_and_networks_their_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_memory_bytes", lambda _: int(20e9))
    size = (64, 64, 64)
    for kernels, half, network_bytes, expected in (
        (True, True, 0.0, Grouping(36, False)),  # 36 x 0.415 GB in 16 GB
        (True, True, 2e9, Grouping(18, True)),  # in 14 GB
        (True, False, 0.0, Grouping(18, True)),  # 36 x 0.83 GB
        (False, True, 0.0, Grouping(8, True)),  # 36 x 1.82 GB: 8 fit, five groups
    ):
        monkeypatch.setattr(triton_here, "is_available", lambda _, kernels=kernels: kernels)
        assert plan_grouping(SWIN, 36, size, GPU, half=half, network_bytes=network_bytes) == expected


def test_free_memory_is_a_number_of_bytes() -> None:
    assert 10**7 < free_memory_bytes(CPU) < 10**14
