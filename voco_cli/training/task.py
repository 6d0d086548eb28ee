"""What the engine asks of a job: the one loop trains anything that offers this."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

Values = Mapping[str, float]


@dataclass(frozen=True)
class DeviceContext:
    """Where and how a job runs.

    Attributes:
        device: of this process.
        process, num_processes: this process among all.
        autocast: context manager of the networks' number format, for what runs outside the wrapped model.
    """

    device: torch.device
    process: int
    num_processes: int
    autocast: Callable[[], Any]


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
        """Share of the run's learning rate in optimizer step ``step``, from 0."""
        return self.rate if step >= self.freeze_steps else 0.0


def one_group(model: nn.Module) -> list[ParameterGroup]:
    """All trainable parameters at the run's own rate."""
    return [ParameterGroup([parameter for parameter in model.parameters() if parameter.requires_grad])]


class TrainingTask(Protocol):
    """A thing to train. Everything that must survive a restart is in ``model`` and ``state``."""

    model: nn.Module
    score_name: str
    """Validation value whose lowest checkpoint is kept as the best."""

    def parameter_groups(self) -> list[ParameterGroup]:
        """What the optimizer moves, and how fast; the same groups in the same order at every start."""

    def start(self, place: DeviceContext) -> None:
        """Called once, with the model on its device, before anything else."""

    def batches(self, first: int, last: int) -> Generator[Any, None, None]:
        """Batches number ``first`` to ``last - 1`` of this process; the same number is always the same batch.

        Closing the generator ends its loader processes. A batch may be a VocoError, which is then raised.
        """

    def cases(self, batch: Any) -> Sequence[str]:
        """Names of the cases of a batch, for messages."""

    def loss(self, model: nn.Module, batch: Any, *, first_of_step: bool) -> Mapping[str, Tensor]:
        """Forward pass: scalars, among them ``loss``; nothing here may wait for the device."""

    def validate(self, step: int) -> Values:
        """Figures on held-out cases; may be empty. Every process calls it."""

    def state(self) -> dict[str, Any]:
        """What the job itself wants kept in a checkpoint, as JSON."""

    def restore(self, state: dict[str, Any]) -> None:
        """The inverse of ``state``."""

    def export(self, folder: Path, step: int) -> None:
        """Write the weights that users take away; called by the main process after each checkpoint and on resuming."""


class Teller(Protocol):
    """Who is told what one should know before a run."""

    def say(self, text: str, style: str | None = None) -> None:
        """What is done, and why."""

    def warn(self, text: str, style: str | None = None) -> None:
        """What one should know of before using the result."""


class Callback(Teller, Protocol):
    """Who is told how a run goes."""

    def started(self, step: int, steps: int) -> None:
        """The loop begins at ``step``."""

    def trained(self, step: int, values: Values) -> None:
        """Means over the steps since the last call."""

    def advanced(self, step: int) -> None:
        """A step was finished; called every step, must be cheap."""

    def validated(self, step: int, values: Values) -> None:
        """Figures on held-out cases."""

    def ended(self) -> None:
        """The loop has ended, well or not."""


class NullCallback:
    """Says nothing."""

    @contextmanager
    def building(self, total: int) -> Iterator[Callable[[str, str | None], None]]:
        """Nothing is shown."""
        yield lambda scan, reason: None

    @contextmanager
    def progress(self, description: str, total: int) -> Iterator[Callable[..., None]]:
        """Nothing is shown."""
        yield lambda n=1: None

    def say(self, text: str, style: str | None = None) -> None:
        """Nothing is shown."""

    def warn(self, text: str, style: str | None = None) -> None:
        """Nothing is shown."""

    def prepared(self, prepared: Any) -> None:
        """Nothing is shown."""

    def started(self, step: int, steps: int) -> None:
        """Nothing is shown."""

    def trained(self, step: int, values: Values) -> None:
        """Nothing is shown."""

    def advanced(self, step: int) -> None:
        """Nothing is shown."""

    def validated(self, step: int, values: Values) -> None:
        """Nothing is shown."""

    def ended(self) -> None:
        """Nothing is shown."""
