"""A job that trains in milliseconds: a line through points, every batch a function of its number."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from voco_cli.config.schema import Train
from voco_cli.errors import VocoError
from voco_cli.training.callbacks import Values
from voco_cli.training.loggers import read_metrics
from voco_cli.training.run_dir import RunFolder
from voco_cli.training.task import ParameterGroup, TrainingTask
from voco_cli.training.trainer import Trainer

CPU = Accelerator(cpu=True)
BATCH = 4


def points(number: int) -> Tensor:
    """Batch ``number``: points x and, in the last column, y."""
    return torch.randn(BATCH, 4, generator=torch.Generator().manual_seed(number))


@dataclass
class Batch:
    number: int
    points: Tensor


class LineTask(TrainingTask):
    """Fits y = w x + b.

    Args:
        bad: batch number to what its loss is multiplied with.
        error: batch number to the error that the loader found there.
    """

    score_name = "rank"

    def __init__(self, bad: Mapping[int, float] | None = None, error: Mapping[int, VocoError] | None = None) -> None:
        torch.manual_seed(0)
        self.model: nn.Module = nn.Linear(3, 1)
        self.bad, self.error = dict(bad or {}), dict(error or {})
        self.looks: list[int] = []
        self.first_of_step: list[bool] = []
        self.closed = False
        self.scores: Mapping[int, float] = {}
        self.groups: list[ParameterGroup] | None = None

    def parameter_groups(self) -> list[ParameterGroup]:
        return self.groups or super().parameter_groups()

    def batches(self, first: int, last: int) -> Generator[Any, None, None]:
        try:
            for number in range(first, last):
                yield self.error.get(number) or Batch(number, points(number))
        finally:
            self.closed = True

    def cases(self, batch: Batch) -> Sequence[str]:
        return [f"case {batch.number}.{row}" for row in range(BATCH)]

    def train_step(self, model: nn.Module, batch: Batch, *, first_of_step: bool) -> Mapping[str, Tensor]:
        self.first_of_step.append(first_of_step)
        error = (model(batch.points[:, :3])[:, 0] - batch.points[:, 3]).square().mean()
        return {"loss": error * self.bad.get(batch.number, 1.0), "error": error}

    def validate(self, step: int) -> Values:
        self.looks.append(step)
        return {"rank": self.scores.get(step, 100.0 - step)}

    def state(self) -> dict[str, Any]:
        return {"looks": self.looks}

    def restore(self, state: dict[str, Any]) -> None:
        self.looks = state["looks"]

    def export(self, folder: Path, step: int) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "line.json").write_text(json.dumps({"step": step, "weight": self.model.weight.tolist()}))  # type: ignore[operator, union-attr]


@dataclass
class Hooks:
    """A watcher that acts at a step.

    Attributes:
        advanced_at, validated_at: step to what happens then.
    """

    advanced_at: dict[int, Any] = field(default_factory=dict)
    validated_at: dict[int, Any] = field(default_factory=dict)
    seen: list[tuple[str, int]] = field(default_factory=list)

    def started(self, step: int, steps: int) -> None:
        self.seen.append(("started", step))

    def trained(self, step: int, values: Values) -> None:
        self.seen.append(("trained", step))

    def advanced(self, step: int) -> None:
        self.advanced_at.get(step, lambda: None)()

    def validated(self, step: int, values: Values) -> None:
        self.seen.append(("validated", step))
        self.validated_at.get(step, lambda: None)()

    def ended(self) -> None:
        self.seen.append(("ended", -1))


def send(number: signal.Signals) -> Any:
    """A hook that sends this process a signal."""
    return lambda: os.kill(os.getpid(), number)


def train_settings(**values: Any) -> Train:
    return Train.model_validate(
        {
            "steps": 12,
            "lr": 0.05,
            "checkpoint_every": 4,
            "validate_every": 4,
            "log_every": 1,
            "warmup_share": 0.25,
            **values,
        }
    )


def make_loop(path: Path, job: LineTask | None = None, hooks: Hooks | None = None, **train: Any) -> Trainer:
    folder = RunFolder(path)
    folder.checkpoints.mkdir(parents=True, exist_ok=True)
    return Trainer(job or LineTask(), train_settings(**train), folder, CPU, hooks or Hooks())


def weights(path: Path, step: int = 12) -> bytes:
    return (path / "checkpoints" / f"step-{step:06d}" / "model.safetensors").read_bytes()


def numbers(path: Path) -> list[dict[str, Any]]:
    """Metrics without what depends on the clock."""
    return [
        {key: value for key, value in record.items() if key not in ("cases_per_s", "data_wait", "compute_s")}
        for record in read_metrics(path / "metrics.jsonl")
    ]


def state(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((path / "state.json").read_text())
    return found
