"""Pre-training on a GPU against the same run on a CPU, and that no step waits for the device."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState, GradientState

from tests.pretrain.tiny_run import tiny_run, write_data
from tests.training.made_job import numbers
from voco_cli.training.trainer import Trainer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.filterwarnings("ignore"),  # torch.compile tells of its own modules' deprecations
]
SWIN = ("model.backbone=swinunetr", "model.feature_size=12", "crops.input_size=64x32x32", "augment.rotate_prob=0")
SHORT = ("train.steps=4", "train.validate_every=4", "train.checkpoint_every=4", *SWIN)


def forget_devices() -> None:
    """Accelerate holds a process to the device and the precision of its first run."""
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


def losses(run: Path) -> list[float]:
    return [line["loss"] for line in numbers(run) if line["split"] == "train"]


@pytest.mark.parametrize("compiled", ["false", "true"], ids=["plain", "compiled"])
def test_losses_are_those_of_a_cpu(compiled: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    data = write_data(tmp_path / "data")
    on_gpu = (*SHORT, "run.device=cuda", "run.precision=fp32", f"run.compile={compiled}")
    for name, words in (("cpu", SHORT), ("gpu", on_gpu)):
        forget_devices()
        tiny_run(data, tmp_path / name, *words)
    first, last = (
        abs(one - other)
        for one, other in list(zip(*map(losses, (tmp_path / "cpu", tmp_path / "gpu")), strict=True))[::3]
    )
    assert first < 1e-4
    assert last < 5e-2  # steps of the optimizer carry roundings on


def test_no_step_waits_for_the_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, strict_steps = Trainer._optimize, []

    def strict(self: Trainer, batches: Iterator[Any]) -> None:
        if self.step < 2:  # libraries set themselves up in the first ones
            return plain(self, batches)
        torch.cuda.set_sync_debug_mode("error")
        try:
            plain(self, batches)
            strict_steps.append(self.step)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        return None

    monkeypatch.setattr(Trainer, "_optimize", strict)
    words = (*SHORT, "run.device=cuda", "train.log_every=4", "train.clip_norm=1.0", "objective.voco.inter_weight=1.0")
    forget_devices()
    tiny_run(write_data(tmp_path / "data"), tmp_path / "run", *words)
    assert strict_steps == [2, 3]
