"""What jobs on labelled cases share, whatever is predicted: rates, validation over processes, state, the weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object
from numpy.typing import NDArray
from torch import nn

from voco_cli.downstream.batches.stored_case import StoredCase
from voco_cli.engine.job import ParameterGroup, Place, Values
from voco_cli.finetuning.case_batches import cases_digest, refuse_other_cases
from voco_cli.finetuning.parameter_groups import parameter_groups
from voco_cli.networks.weights import patch_merging_of, set_patch_merging, write_model
from voco_cli.settings import Settings


class LabelledJob:
    """The part of `voco_cli.engine.job.Job` that does not depend on the kind of task.

    Args:
        settings: the resolved settings.
        training, validation: labelled cases.
        model: the network, with fresh weights.
    """

    score_name = "error"
    score_words: str
    """What the error is one minus of, for people."""

    def __init__(
        self, settings: Settings, training: Sequence[StoredCase], validation: Sequence[StoredCase], model: nn.Module
    ) -> None:
        self.settings = settings
        self.training, self.validation = training, validation
        self.model: nn.Module = model
        self.groups = parameter_groups(model, settings)
        self.history: dict[str, dict[str, float]] = {}
        self.place: Place | None = None

    def measure_case(self, case: StoredCase) -> list[float]:
        """Numbers of one validation case; as many for each."""
        raise NotImplementedError

    def figures(self, rows: NDArray[np.float64]) -> dict[str, float]:
        """Figures of all validation cases, one row a case in their order; ``error`` among them."""
        raise NotImplementedError

    def is_defined(self, figures: Values) -> bool:
        """Whether a validation had something to measure."""
        return True

    def parameter_groups(self) -> list[ParameterGroup]:
        """By level of the encoder, see :mod:`voco_cli.finetuning.parameter_groups`."""
        return self.groups

    def start(self, place: Place) -> None:
        """Remember where we run."""
        self.place = place

    @property
    def here(self) -> Place:
        """Where we run."""
        assert self.place is not None, "the loop calls start() first"
        return self.place

    def cases(self, batch: Any) -> Sequence[str]:
        """Names of the cases of a batch."""
        names: list[str] = batch.names
        return names

    def validate(self, step: int) -> Values:
        """Figures on the validation cases, shared out over processes; nothing at step 0, where the head is noise."""
        if not self.validation or step == 0:
            return {}
        first, every = self.here.process, self.here.num_processes
        training = self.model.training
        self.model.eval()
        with torch.no_grad():
            mine = [self.measure_case(case) for case in self.validation[first::every]]
        self.model.train(training)
        gathered = gather_object(mine) if every > 1 else mine
        rows = np.empty((len(gathered), len(gathered[0])))
        # One process after the other; back to the order of the cases.
        rows[[i for process in range(every) for i in range(process, len(gathered), every)]] = gathered
        self.history[str(step)] = self.figures(rows)
        return self.history[str(step)]

    def state(self) -> dict[str, Any]:
        """Validations so far, the slices of the network's patch merging, and a fingerprint of the cases."""
        return {
            "history": self.history,
            "patch_merging": patch_merging_of(self.model),
            "num_cases": len(self.training),
            "cases": cases_digest(self.training),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """The inverse of :meth:`state`.

        Raises:
            UsageError: other cases can be used now, so that the batches would be others.
        """
        refuse_other_cases(state, self.training)
        if state["patch_merging"] is not None:
            set_patch_merging(self.model, state["patch_merging"])
        self.history = state["history"]

    def export(self, folder: Path, step: int, **more: Any) -> None:
        """Write the network as it is now; ``more`` is added to what the file says of itself."""
        write_model(folder, self.model, {**self._about(step), **more})

    def _about(self, step: int) -> dict[str, Any]:
        """What a reader of the weights needs to know."""
        settings = self.settings
        model = settings.model.model_dump(mode="json")
        if (merging := patch_merging_of(self.model)) is not None:
            model["patch_merging"] = merging
        return {
            "step": step,
            "task": settings.task.name,
            "model": model,
            "channels": list(settings.task.channels),
            "classes": [one.model_dump(mode="json") for one in settings.task.classes],
            "preprocess": settings.preprocess.model_dump(mode="json"),
            "seed": settings.seed,
            "validation": dict(self.history.get(str(step), {})),
        }
