"""Training tasks on labelled cases, whatever is predicted: rates, validation over processes, state, the weights."""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import nn

from voco_cli.config import Settings
from voco_cli.config.backbones import BACKBONES
from voco_cli.errors import UsageError
from voco_cli.finetune.dataset import CaseDataset, collate
from voco_cli.models.backbone import ENCODER_PARTS
from voco_cli.models.weights import patch_merging_of, put_tensors, set_patch_merging, write_model
from voco_cli.models.weights.tensor_names import level_of, part_of, read_name
from voco_cli.tasks.cases import StoredCase
from voco_cli.training.callbacks import Values
from voco_cli.training.checkpoint import best_of, list_checkpoints
from voco_cli.training.dataloader import BatchPlan, load_batches
from voco_cli.training.task import DeviceContext, ParameterGroup, TrainingTask


def case_batches(settings: Settings, num_cases: int, place: DeviceContext) -> BatchPlan:
    """Plan batches of labelled cases; where there are fewer than a step takes, each stands in the list several times.

    A case index of the plan is taken modulo the number of cases.
    """
    needed = settings.train.batch_size * place.num_processes
    rounds = max(1, math.ceil(needed / num_cases))
    return BatchPlan(num_cases * rounds, settings.train.batch_size, settings.seed, place.process, place.num_processes)


def cases_digest(cases: Sequence[StoredCase]) -> str:
    """Return a fingerprint of names in their order."""
    names = "\n".join(case.name for case in cases)
    return hashlib.blake2b(names.encode(), digest_size=16).hexdigest()


def refuse_other_cases(state: Mapping[str, Any], cases: Sequence[StoredCase]) -> None:
    """Refuse to go on with other cases than a run began with.

    Raises:
        UsageError: other cases can be used now, so that the batches would be others.
    """
    if state["cases"] != cases_digest(cases):
        raise UsageError(
            f"The run was trained on {state['num_cases']} usable cases and would go on with {len(cases)} "
            f"that are not the same.",
            "see what was left out and mend it, or start anew in another run.dir",
        )


def encoder_level(name: str, deepest: int) -> int | None:
    """Return the level of a tensor of an encoder, 0 at the voxels; None for decoder and head.

    Args:
        name: as the network has it; what stands before MONAI's name is passed over.
        deepest: level of the bottleneck.
    """
    plain = read_name(name).name
    if part_of(plain) not in ENCODER_PARTS:
        return None
    level = level_of(plain)
    return deepest if level is None else level


def parameter_groups(network: nn.Module, settings: Settings) -> list[ParameterGroup]:
    """Group parameters by level, decoder and head first.

    A level k of an encoder whose last is d learns at ``task.layer_decay ** (d - k + 1)`` of the rate, after
    ``task.head_warmup`` of the steps; with ``task.freeze_encoder`` its parameters are set not to need gradients.

    Source: layer-wise rates as in Howard and Ruder, "Universal Language Model Fine-tuning", ACL 2018, Sec. 3.2.
    """
    task, model = settings.task, settings.model
    deepest = BACKBONES[model.backbone].deepest(model.levels)
    by_level: dict[int | None, list[nn.Parameter]] = defaultdict(list)
    for name, parameter in network.named_parameters():
        level = encoder_level(name, deepest)
        if level is not None and task.freeze_encoder:
            parameter.requires_grad_(False)
        else:
            by_level[level].append(parameter)
    freeze_steps = round(task.head_warmup * settings.train.steps)
    groups = [ParameterGroup(by_level.pop(None, []))]
    for level in sorted(level for level in by_level if level is not None):
        rate = task.layer_decay ** (deepest - level + 1)
        groups.append(ParameterGroup(by_level[level], rate, freeze_steps))
    return [group for group in groups if group.parameters]


class LabelledTask(TrainingTask):
    """The part of a fine-tuning that does not depend on the kind of task.

    Args:
        settings: the resolved settings.
        training, validation: labelled cases.
        model: the network, with fresh weights.
    """

    score_name = "error"
    dataset: CaseDataset
    score_words: str
    """Validation figure that the error is one minus of, for people."""

    def __init__(
        self, settings: Settings, training: Sequence[StoredCase], validation: Sequence[StoredCase], model: nn.Module
    ) -> None:
        self.settings = settings
        self.training, self.validation = training, validation
        self.model: nn.Module = model
        self.groups = parameter_groups(model, settings)
        self.history: dict[str, dict[str, float]] = {}

    def measure_case(self, case: StoredCase) -> list[float]:
        """Return numbers of one validation case; as many for each."""
        raise NotImplementedError

    def figures(self, rows: NDArray[np.float64]) -> dict[str, float]:
        """Return figures of all validation cases, one row a case in their order; ``error`` among them."""
        raise NotImplementedError

    def is_defined(self, figures: Values) -> bool:
        """Return whether a validation had something to measure."""
        return True

    def parameter_groups(self) -> list[ParameterGroup]:
        """Return the groups by level of the encoder, see :func:`parameter_groups`."""
        return self.groups

    def batches(self, first: int, last: int) -> Generator[Any, None, None]:
        """Yield batches of this process, from a loader whose processes end when the generator is closed."""
        plan = case_batches(self.settings, len(self.training), self.here)
        yield from load_batches(self.dataset, plan, (first, last), collate, self.settings.data, self.here)

    def validate(self, step: int) -> Values:
        """Measure the validation cases, shared out over processes; nothing at step 0, where the head is noise."""
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
        """Return validations so far, the slices of the network's patch merging, and a fingerprint of the cases."""
        return {
            "history": self.history,
            "patch_merging": patch_merging_of(self.model),
            "num_cases": len(self.training),
            "cases": cases_digest(self.training),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what :meth:`state` returned.

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
        """Return what a reader of the weights needs to know."""
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


def select_checkpoint(
    task: LabelledTask, checkpoints: Path, weights: Path, choose: str, num_validation: int
) -> tuple[int, str]:
    """Load the selected checkpoint into the task's network and write it as the result of the run.

    Args:
        choose: ``best`` on validation, or ``last``.
        num_validation: cases that validated.
    Returns:
        its step, and how it was chosen.
    """
    found = list_checkpoints(checkpoints)
    defined = {step for step, figures in task.history.items() if task.is_defined(figures)}
    best = best_of(found) if choose == "best" else None
    if best is not None and str(best.step) in defined:
        score = 1.0 - (best.score or 0.0)
        words = (
            f"weights of step {best.step}, the best of {len(task.history)} validations by {task.score_words} "
            f"({score:.4f} on {num_validation} validation cases)"
        )
    elif best is not None and defined:
        words = (
            f"weights of step {best.step}, which predict nothing in {num_validation} validation cases, where nothing "
            f"is there; {len(defined)} of {len(task.history)} validations found what is not there"
        )
    else:
        nothing = best is not None
        best = found[-1]
        words = f"weights of the last step, {best.step}; no validation chose them"
        words += f", as nothing is there in {num_validation} validation cases" if nothing else ""
    put_tensors(task.model, load_file(best.path / "model.safetensors"))
    task.export(weights, best.step, chosen=words)
    return best.step, words
