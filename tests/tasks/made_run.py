"""The folder of a fine-tuning run, as far as prediction reads it: settings, and weights that know their task.

The network is a real one with random weights, or a stand-in for the tests' sake whose labels are known beforehand.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from voco_cli.config import Settings, load_settings
from voco_cli.config.load import saved_file
from voco_cli.models.build import build_task_network
from voco_cli.models.weights import write_model
from voco_cli.predict.predictor import Trained, load_trained
from voco_cli.training.run_dir import RunFolder, versions

PRESET = """
task:
  name: tiny
  classes:
    - {name: spleen, values: [3, 4]}
    - {name: liver, values: 6}
  patch_size: [16, 16, 16]
preprocess: {spacing_mm: [2, 2, 2], foreground_above: 0.0}
model: {backbone: unet, feature_size: 2, levels: 3}
run: {device: cpu, threads: 1, keep_memory: false}
"""


def make_run(folder: Path, *overrides: str, seed: int = 0) -> Path:
    """A run that was trained to the end; ``overrides`` as for ``--set``."""
    folder.mkdir(parents=True)
    preset = folder.parent / f"{folder.name}.yaml"
    preset.write_text(PRESET)
    resolved = load_settings(task=str(preset), overrides=overrides)
    run = RunFolder(folder)
    run.settings_file.write_text(saved_file(resolved, versions()))
    settings = resolved.settings
    write_model(run.weights, build_network(settings, seed), {"model": settings.model.model_dump(), "step": 7})
    return folder


def build_network(settings: Settings, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return build_task_network(settings)


class Thresholds(nn.Module):
    """Background below 0.25 of the last channel, the first class up to 0.5, the second above."""

    def forward(self, windows: Tensor) -> Tensor:
        value = windows[:, -1]
        return torch.stack([0 * value, value - 0.25, 2 * value - 0.75], dim=1)


def known_network(run: Path, *overrides: str) -> Trained:
    """The run with `Thresholds` for its network."""
    return replace(load_trained(run, overrides=overrides), network=Thresholds())
