"""Numbers of a model, against the model; bytes, by hand."""

from __future__ import annotations

import pytest
import torch

from tests.finetune.tiny_task import TINY as TINY_TASK
from tests.pretrain.tiny_run import TINY
from voco_cli.config import load_settings
from voco_cli.models.memory import training_bytes
from voco_cli.models.weights import own_tensors
from voco_cli.pretrain.task import build_model
from voco_cli.resources import costs
from voco_cli.resources.costs import (
    CHECKPOINT_EXTRA_BYTES,
    LOADER_BYTES,
    PROCESS_BYTES,
    VOXEL_COPIES,
    Parameters,
    activation_bytes,
    count_parameters,
    training_footprint,
)

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


def test_checkpoint_and_training_bytes_by_hand() -> None:
    parameters = Parameters(kept=1000, trained=600, exported=400)
    assert parameters.checkpoint_bytes(amsgrad=False) == 4 * (1000 + 2 * 600) + CHECKPOINT_EXTRA_BYTES
    assert parameters.checkpoint_bytes(amsgrad=True) == 4 * (1000 + 3 * 600) + CHECKPOINT_EXTRA_BYTES
    assert training_bytes(1000, 600, amsgrad=True) == 4 * (1000 + 3 * 600 + 600)


@pytest.mark.parametrize("more", [(), ("objective.voco.teacher=projector", "objective.voco.symmetric=false")])
def test_parameters_are_those_of_the_model(more: tuple[str, ...]) -> None:
    settings = load_settings("debug", None, (*TINY, *more)).settings
    model, counted = build_model(settings, CPU), count_parameters(settings)
    assert counted.kept == sum(tensor.numel() for tensor in own_tensors(model).values())
    assert counted.trained == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert counted.exported == sum(tensor.numel() for tensor in model.encoder.state_dict().values())


def test_a_frozen_encoder_is_kept_and_not_trained() -> None:
    weights = ("model.weights=x", "task.freeze_encoder=true")
    free, frozen = (
        count_parameters(load_settings(None, None, (*TINY_TASK, *more), task="btcv").settings) for more in ((), weights)
    )
    assert (free.kept, free.exported) == (frozen.kept, frozen.exported)
    assert frozen.trained < free.trained == free.kept


def test_activations_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """24^3 voxels, 36 bytes a voxel and channel, 2 channels, 2 x (2 + 4) crops."""
    settings = load_settings("debug", None, (*TINY, "model.checkpointing=off")).settings
    assert activation_bytes(settings, CPU) == 24**3 * 36 * 2 * 12
    task = load_settings(None, None, (*TINY_TASK, "model.checkpointing=off"), task="btcv").settings
    assert activation_bytes(task, CPU) == 2 * 16**3 * 36 * 2 * 4
    recomputed = task.model_copy(update={"model": task.model.model_copy(update={"checkpointing": "on"})})
    assert activation_bytes(recomputed, CPU) == 2 * 16**3 * 36 * 2


def test_all_of_a_training_by_hand() -> None:
    settings = load_settings("debug", None, (*TINY, "model.checkpointing=off")).settings
    voxels = 24**3 * 12
    counted = count_parameters(settings)
    working = training_bytes(counted.kept, counted.trained, amsgrad=False) + activation_bytes(settings, CPU)
    working += VOXEL_COPIES * 4 * voxels
    loading = 2 * (LOADER_BYTES + voxels * (settings.data.prefetch + 2))
    on_cpu = training_footprint(settings, CPU, 2)
    assert (on_cpu.host_bytes, on_cpu.device_bytes) == (PROCESS_BYTES + loading + voxels + working, 0)


def test_a_gpu_has_its_own_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (int(8e9), int(8e9)))
    settings = load_settings("debug", None, (*TINY, "model.checkpointing=off", "run.precision=bf16")).settings
    found = training_footprint(settings, CUDA, 0)
    exact = training_footprint(settings, CPU, 0)
    saved = 0.4 * activation_bytes(settings, CPU)  # bf16 takes 0.6 of float32
    assert found.device_bytes == pytest.approx(exact.host_bytes - PROCESS_BYTES - 24**3 * 12 - saved, abs=2)
    assert found.host_bytes == costs.CUDA_HOST_BYTES + 24**3 * 12
