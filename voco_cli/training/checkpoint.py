"""Checkpoints: folders that are there whole or not at all, of which the last few and the best are kept.

checkpoints/step-000100/
  model.safetensors    all tensors of the model, the teacher's among them
  optimizer.pt         optimizer and random states; read with weights_only, runs no code
  checkpoint.json      format, step, score, and what the task wants kept
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from voco_cli.atomic_files import UNFINISHED
from voco_cli.errors import DataError
from voco_cli.models.weights import own_tensors, put_tensors
from voco_cli.models.weights.write import CHECKPOINT_FORMAT
from voco_cli.training.errors import translate_errors

PREFIX = "step-"
UNREADABLE = (
    OSError,
    RuntimeError,
    SafetensorError,
    pickle.UnpicklingError,
    EOFError,
    KeyError,
    ValueError,
    TypeError,
    AttributeError,
)
"""What the readers of damaged files raise."""


@dataclass(frozen=True)
class Checkpoint:
    """A finished checkpoint on disk."""

    path: Path
    step: int
    score: float | None


def list_checkpoints(folder: Path) -> list[Checkpoint]:
    """Return finished checkpoints, oldest first; what a killed process left half-written is not among them."""
    found = []
    for path in sorted(folder.glob(f"{PREFIX}*")):
        try:
            meta = json.loads((path / "checkpoint.json").read_text())
            found.append(Checkpoint(path, int(meta["step"]), meta["score"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{path} is not a readable checkpoint ({error}).", "remove this folder and resume"
            ) from error
    return sorted(found, key=lambda checkpoint: checkpoint.step)


def resumed_step(run: Path) -> int:
    """Return the step of the last checkpoint in a run folder; 0 where there is none."""
    steps = [path.name.removeprefix(PREFIX) for path in run.glob(f"checkpoints/{PREFIX}*")]
    return max((int(step) for step in steps if step.isdigit()), default=0)


def remove_unfinished(folder: Path) -> None:
    """Remove what killed processes left; only for the one process that may write here."""
    for path in folder.glob(f"{UNFINISHED}*"):
        shutil.rmtree(path, ignore_errors=True)


def save_checkpoint(
    folder: Path,
    step: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    score: float | None,
    task_state: dict[str, Any],
) -> Checkpoint:
    """Write a checkpoint beside its place, flush it to the disk, then rename it.

    Raises:
        ResourceError: the disk is full; earlier checkpoints are untouched.
    """
    target = folder / f"{PREFIX}{step:06d}"
    beside = folder / f"{UNFINISHED}{target.name}"
    last = max((int(path.name.removeprefix(PREFIX)) for path in folder.glob(f"{PREFIX}*")), default=None)
    kept = "there is no earlier one" if last is None else f"the last good one is of step {last}"
    what = f"checkpoint {target.name} could not be written; {kept}"
    try:
        # Inside the clean-up: a full disk is known by its free space, which the clean-up would bring back.
        with translate_errors(folder, what):
            remove_unfinished(folder)
            beside.mkdir(parents=True)
            tensors = {name: tensor.detach().contiguous() for name, tensor in own_tensors(model).items()}
            save_file(tensors, beside / "model.safetensors")
            torch.save({"optimizer": optimizer.state_dict(), "random": _random_states()}, beside / "optimizer.pt")
            meta = {"format": CHECKPOINT_FORMAT, "step": step, "score": score, "job": task_state}
            (beside / "checkpoint.json").write_text(json.dumps(meta, indent=1))
            for path in [*beside.iterdir(), beside]:
                _flush(path)
            beside.replace(target)
            _flush(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return Checkpoint(target, step, score)


def load_checkpoint(checkpoint: Checkpoint, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Put a checkpoint's tensors and random states back.

    Returns:
        what the task had kept.
    Raises:
        DataError: the files are damaged or of another model.
    """
    path = checkpoint.path
    try:
        put_tensors(model, load_file(path / "model.safetensors"))
        rest = torch.load(path / "optimizer.pt", map_location="cpu", weights_only=True)
        optimizer.load_state_dict(rest["optimizer"])
        _set_random_states(rest["random"])
        meta: dict[str, Any] = json.loads((path / "checkpoint.json").read_text())
    except UNREADABLE as error:
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".:")
        if isinstance(error, pickle.UnpicklingError):  # torch would advise to run what is in there
            reason = "optimizer.pt is damaged or holds more than tensors"
        raise DataError(
            f"{path} cannot be resumed from ({reason}).", "remove this folder to resume from the one before"
        ) from error
    task_state: dict[str, Any] = meta["job"]
    return task_state


def load_model(checkpoint: Checkpoint, model: nn.Module) -> None:
    """Put a checkpoint's tensors into a model that is asked and not trained on.

    Raises:
        DataError: the file is missing, damaged or of another model.
    """
    file = checkpoint.path / "model.safetensors"
    try:
        put_tensors(model, load_file(file))
    except UNREADABLE as error:
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".:")
        raise DataError(f"{file} cannot be used ({reason}).", "copy it again, or resume the run") from error


def best_of(checkpoints: Sequence[Checkpoint]) -> Checkpoint | None:
    """Return the one with the lowest score, of equal ones the last; None where none has any."""
    scored = [checkpoint for checkpoint in checkpoints if checkpoint.score is not None]
    return min(scored, key=lambda checkpoint: (checkpoint.score or 0.0, -checkpoint.step), default=None)


def rotate(folder: Path, keep_last: int) -> None:
    """Remove all but the last few checkpoints and the one with the lowest score."""
    checkpoints = list_checkpoints(folder)
    best = best_of(checkpoints)
    for checkpoint in checkpoints[:-keep_last]:
        if checkpoint != best:
            # Renamed first, so that a kill in between leaves no half checkpoint under a finished name.
            doomed = folder / f"{UNFINISHED}{checkpoint.path.name}"
            checkpoint.path.replace(doomed)
            shutil.rmtree(doomed, ignore_errors=True)


def _random_states() -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def _set_random_states(states: dict[str, Tensor]) -> None:
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
