"""The weights that a fine-tuning ends with, and the sentence that says how they were chosen."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from safetensors.torch import load_file
from torch import nn

from voco_cli.engine.checkpoints import best_of, list_checkpoints
from voco_cli.engine.job import Values
from voco_cli.networks.weights import put_tensors


class Scored(Protocol):
    """A job whose checkpoints are scored by validation; the error is one minus the figure."""

    model: nn.Module
    score_words: str
    history: dict[str, dict[str, float]]

    def is_defined(self, figures: Values) -> bool:
        """Whether a validation had something to measure."""

    def export(self, folder: Path, step: int, **more: Any) -> None:
        """Write the network."""


def choose_weights(job: Scored, checkpoints: Path, weights: Path, choose: str, num_validation: int) -> tuple[int, str]:
    """Load the chosen checkpoint into the job's model and write it as the result of the run.

    Args:
        choose: ``best`` on validation, or ``last``.
        num_validation: cases that validated.
    Returns:
        its step, and how it was chosen.
    """
    found = list_checkpoints(checkpoints)
    defined = {step for step, figures in job.history.items() if job.is_defined(figures)}
    best = best_of(found) if choose == "best" else None
    if best is not None and str(best.step) in defined:
        score = 1.0 - (best.score or 0.0)
        words = (
            f"weights of step {best.step}, the best of {len(job.history)} validations by {job.score_words} "
            f"({score:.4f} on {num_validation} validation cases)"
        )
    elif best is not None and defined:
        words = (
            f"weights of step {best.step}, which predict nothing in {num_validation} validation cases, where nothing "
            f"is there; {len(defined)} of {len(job.history)} validations found what is not there"
        )
    else:
        nothing = best is not None
        best = found[-1]
        words = f"weights of the last step, {best.step}; no validation chose them"
        words += f", as nothing is there in {num_validation} validation cases" if nothing else ""
    put_tensors(job.model, load_file(best.path / "model.safetensors"))
    job.export(weights, best.step, chosen=words)
    return best.step, words
