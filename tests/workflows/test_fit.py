"""Weights of another network end a study before it begins."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from safetensors.torch import save_file

from tests.study.made_study import PRESET
from voco_cli.config import load_settings
from voco_cli.errors import VocoError
from voco_cli.models.build import build_segmenter
from voco_cli.study.plan import StudyPlan, make_plan
from voco_cli.workflows.study import require_fitting_weights


def plan(folder: Path, weights: Path) -> StudyPlan:
    (folder / "tiny.yaml").write_text(PRESET)
    return make_plan(folder / "study", str(folder / "tiny.yaml"), [str(weights)], [5], 1)


def weights_of(folder: Path, *override: str) -> Path:
    (folder / "tiny.yaml").write_text(PRESET)
    settings = load_settings(None, overrides=override, task=str(folder / "tiny.yaml")).settings
    network = build_segmenter(settings.model, 1, 3)
    save_file({name: torch.clone(tensor) for name, tensor in network.state_dict().items()}, folder / "w.safetensors")
    return folder / "w.safetensors"


def refusal(folder: Path, weights: Path) -> str:
    try:
        require_fitting_weights(plan(folder, weights))
    except VocoError as error:
        return f"{type(error).__name__}: {error.message}"
    return ""


def test_weights_of_the_network_pass(tmp_path: Path) -> None:
    assert refusal(tmp_path, weights_of(tmp_path)) == ""


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    said = refusal(tmp_path, weights_of(tmp_path, "model.feature_size=4"))
    assert re.match(r"UsageError: .*w\.safetensors is of DynUNet with filters 4-8-16, the network is .* 2-4-8", said)


def test_weights_that_are_not_there_are_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path, tmp_path / "gone").startswith(f"DataError: {tmp_path / 'gone'} does not exist")
