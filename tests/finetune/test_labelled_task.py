"""Which checkpoint becomes the result of a run, and the sentence that says so."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from voco_cli.finetune.labelled_task import select_checkpoint
from voco_cli.training.task import Values

FOUND, NOTHING = {"dice": 0.0, "error": 1.0}, {"error": 0.0}


class Validated:
    """A job whose network at each step is that number."""

    score_words = "mean Dice"

    def __init__(self, history: Mapping[int, Mapping[str, float]]) -> None:
        self.model: nn.Module = nn.Linear(1, 1, bias=False)
        self.history = {str(step): dict(figures) for step, figures in history.items()}

    def is_defined(self, figures: Values) -> bool:
        return "dice" in figures

    def export(self, folder: Path, step: int, **more: Any) -> None:
        self.written = float(next(self.model.parameters()).detach())


def checkpoints(folder: Path, job: Validated) -> Path:
    for step, figures in job.history.items():
        path = folder / f"step-{int(step):06d}"
        path.mkdir(parents=True)
        save_file({"weight": torch.full((1, 1), float(step))}, path / "model.safetensors")
        (path / "checkpoint.json").write_text(json.dumps({"step": int(step), "score": figures["error"]}))
    return folder


@pytest.mark.parametrize(
    ("history", "step", "words"),
    [
        (
            {2: {"dice": 0.5, "error": 0.5}, 4: {"dice": 0.75, "error": 0.25}, 6: {"dice": 0.5, "error": 0.5}},
            4,
            "weights of step 4, the best of 3 validations by mean Dice (0.7500 on 2 validation cases)",
        ),
        (
            {2: NOTHING, 4: NOTHING, 6: FOUND},
            4,
            "weights of step 4, which predict nothing in 2 validation cases, where nothing is there; 1 of 3 "
            "validations found what is not there",
        ),
        (
            {2: FOUND, 4: FOUND},
            4,
            "weights of step 4, the best of 2 validations by mean Dice (0.0000 on 2 validation cases)",
        ),
        (
            {2: NOTHING, 4: NOTHING},
            4,
            "weights of the last step, 4; no validation chose them, as nothing is there in 2 validation cases",
        ),
    ],
    ids=["by Dice", "nothing beats false positives", "false positives only", "nothing at all"],
)
def test_the_best(history: Mapping[int, Mapping[str, float]], step: int, words: str, tmp_path: Path) -> None:
    job = Validated(history)
    found = select_checkpoint(job, checkpoints(tmp_path / "checkpoints", job), tmp_path / "weights", "best", 2)
    assert found == (step, words)
    assert job.written == step
