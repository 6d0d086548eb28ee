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

from voco_cli.config import Settings
from voco_cli.config.schema import Model, Train
from voco_cli.config.task_schema import Task
from voco_cli.finetune.labelled_task import encoder_level, parameter_groups, select_checkpoint
from voco_cli.models.build import build_segmenter
from voco_cli.training.callbacks import Values

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


UNET = Model(backbone="unet", feature_size=2, levels=4)


@pytest.mark.parametrize(
    ("name", "level"),
    [
        ("swinViT.patch_embed.proj.weight", 0),
        ("swinViT.layers1.0.blocks.0.norm1.weight", 1),
        ("swinViT.layers4c.0.layer.conv1.conv.weight", 4),
        ("encoder1.layer.conv1.conv.weight", 0),
        ("encoder2.layer.conv1.conv.weight", 0),
        ("encoder4.layer.conv1.conv.weight", 2),
        ("encoder10.layer.conv1.conv.weight", 4),
        ("decoder5.conv_block.conv1.conv.weight", None),
        ("input_block.conv1.conv.weight", 0),
        ("encoder.downsamples.1.conv1.conv.weight", 2),
        ("bottleneck.conv1.conv.weight", 4),
        ("upsamples.0.transp_conv.conv.weight", None),
        ("head.weight", None),
    ],
)
def test_levels_of_the_encoder(name: str, level: int | None) -> None:
    assert encoder_level(name, 4) == level


def test_rates_fall_towards_the_voxels_and_the_encoder_waits() -> None:
    network = build_segmenter(UNET, 1, 3)
    settings = Settings(model=UNET, task=Task(layer_decay=0.5, head_warmup=0.1), train=Train(steps=200))
    groups = parameter_groups(network, settings)
    assert [(group.rate, group.freeze_steps) for group in groups] == [
        (1.0, 0), (0.0625, 20), (0.125, 20), (0.25, 20), (0.5, 20)
    ]  # fmt: skip
    assert [group.rate_at(19) for group in groups] == [1.0, 0, 0, 0, 0]
    assert groups[1].rate_at(20) == 0.0625
    counted = sum(parameter.numel() for group in groups for parameter in group.parameters)
    assert counted == sum(parameter.numel() for parameter in network.parameters())


def test_a_frozen_encoder_is_in_no_group_and_needs_no_gradient() -> None:
    network = build_segmenter(UNET, 1, 3)
    settings = Settings(model=UNET, task=Task(freeze_encoder=True))
    groups = parameter_groups(network, settings)
    assert len(groups) == 1
    frozen = {name.split(".")[0] for name, parameter in network.named_parameters() if not parameter.requires_grad}
    assert frozen == {"input_block", "downsamples", "bottleneck"}
    moving = {id(parameter) for parameter in groups[0].parameters}
    assert moving == {id(parameter) for parameter in network.parameters() if parameter.requires_grad}
