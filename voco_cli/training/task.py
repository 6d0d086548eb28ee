"""What the trainer trains (`TrainingTask`), and where (`DeviceContext`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from voco_cli.operating_system import usable_cores
from voco_cli.training.callbacks import Values


@dataclass(frozen=True)
class DeviceContext:
    """Where and how a task runs.

    Attributes:
        device: of this process.
        process, num_processes: this process among all.
        autocast: context manager of the networks' number format, for what runs outside the wrapped model.
        cores: of the processor that this process may use, its loader processes included; alone, all that it was given.
    """

    device: torch.device
    process: int
    num_processes: int
    autocast: Callable[[], Any]
    cores: int = field(default_factory=usable_cores)


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that learn at the same rate.

    Attributes:
        rate: share of the run's learning rate.
        freeze_steps: optimizer steps from the start in which they do not move.
    """

    parameters: list[nn.Parameter]
    rate: float = 1.0
    freeze_steps: int = 0

    def rate_at(self, step: int) -> float:
        """Return the share of the run's learning rate in optimizer step ``step``, from 0."""
        return self.rate if step >= self.freeze_steps else 0.0


class TrainingTask(ABC):
    """What the trainer trains. Everything that must survive a restart is in ``model`` and ``state``.

    Attributes:
        model: on the CPU until the trainer moves it.
        score_name: validation value whose lowest checkpoint is kept as the best.
    """

    model: nn.Module
    score_name: str
    context: DeviceContext | None = None

    @property
    def here(self) -> DeviceContext:
        """Device and processes of the run."""
        assert self.context is not None, "the trainer calls start() first"
        return self.context

    def start(self, context: DeviceContext) -> None:
        """Take note of where the task runs; called once, with the model on its device, before anything else."""
        self.context = context

    def parameter_groups(self) -> list[ParameterGroup]:
        """Return what the optimizer moves, and how fast; the same groups in the same order at every start."""
        return [ParameterGroup([parameter for parameter in self.model.parameters() if parameter.requires_grad])]

    @abstractmethod
    def batches(self, first: int, last: int) -> Generator[Any, None, None]:
        """Yield batches ``first`` to ``last - 1`` of this process; the same number is always the same batch.

        Closing the generator ends its loader processes. A batch may be a VocoError, which is then raised.
        """

    def cases(self, batch: Any) -> Sequence[str]:
        """Return the names of the cases of a batch, for messages."""
        names: Sequence[str] = batch.names
        return names

    @abstractmethod
    def train_step(self, model: nn.Module, batch: Any, *, first_of_step: bool) -> Mapping[str, Tensor]:
        """Run the forward pass of one batch and return scalars, among them ``loss``; nothing may wait for the device.

        Args:
            model: the trainer's wrapping of ``self.model``.
            first_of_step: whether it is the first batch of an optimizer step.
        """

    @abstractmethod
    def validate(self, step: int) -> Values:
        """Return figures on held-out cases, maybe none; every process calls it."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Return what the task itself wants kept in a checkpoint, as JSON."""

    @abstractmethod
    def restore(self, state: dict[str, Any]) -> None:
        """Take up what ``state`` returned."""

    @abstractmethod
    def export(self, folder: Path, step: int) -> None:
        """Write the weights that users take away; called by the main process after each checkpoint and on resuming."""
