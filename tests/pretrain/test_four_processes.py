"""Four processes over gloo, forked from this one: together they have the gradient of the whole batch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tests.pretrain.tiny_run import tiny_run, write_data
from tests.training.processes import run_together
from voco_cli.pretrain.task import PretrainingTask
from voco_cli.training.trainer import Trainer

PROCESSES = 4
ONE_STEP = ("train.steps=1", "train.warmup_start=0.5")
OBJECTIVES = {
    "voco": "objective.voco.weight=1",
    "mae": "objective={voco: {weight: 0}, mae: {weight: 1}}",
}


def _write_gradient(data: Path, run: Path, batch_size: int, objective: str, into: Path) -> None:
    """Train for a step in float64, and write the gradient as it is before it is clipped.

    Batch norm over the few rows of a small step multiplies the rounding of float32, which is another in each order of
    the rows: differences of 1e-5 would say nothing.
    """
    prepare, norm = Trainer._prepare, Trainer._gradient_norm

    def prepared(self: Trainer) -> None:
        self.task.model.double()
        prepare(self)

    def train_step(self: PretrainingTask, model: nn.Module, batch: Any, *, first_of_step: bool) -> Mapping[str, Tensor]:
        inputs = self.objective.prepare(batch.drawn, self.here.device)
        doubled = [one.double() if one.is_floating_point() else one for one in inputs]
        terms: Mapping[str, Tensor] = model(*doubled, first_of_step=first_of_step)
        return terms

    def kept(self: Trainer) -> Tensor:
        parameters = self.task.model.named_parameters()
        save_file({name: one.grad.contiguous() for name, one in parameters if one.grad is not None}, into)
        return norm(self)

    with (
        patch.object(Trainer, "_prepare", prepared),
        patch.object(Trainer, "_gradient_norm", kept),
        patch.object(PretrainingTask, "train_step", train_step),
    ):
        tiny_run(data, run, f"train.batch_size={batch_size}", *ONE_STEP, OBJECTIVES[objective])


def _length(gradient: Mapping[str, Tensor]) -> float:
    return float(torch.cat([one.flatten() for one in gradient.values()]).norm())


@pytest.mark.filterwarnings("ignore:Grad strides do not match")  # of float64 alone: a matter of speed
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_four_processes_have_the_gradient_of_the_whole_batch(objective: str, tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", training=PROCESSES, held_out=0)
    alone = tmp_path / "alone.safetensors"
    _write_gradient(data, tmp_path / "alone", PROCESSES, objective, alone)

    def be_one(process: int) -> None:
        _write_gradient(data, tmp_path / "run", 1, objective, tmp_path / f"{process}.safetensors")

    run_together(be_one, PROCESSES)
    whole = load_file(alone)
    assert _length(whole) > 1
    for process in range(PROCESSES):
        shared = load_file(tmp_path / f"{process}.safetensors")
        assert shared.keys() == whole.keys()
        error = _length({name: shared[name] - one for name, one in whole.items()})
        assert error <= 1e-10 * _length(whole)
