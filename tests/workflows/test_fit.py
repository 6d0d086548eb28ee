"""Weights of another network end a study before it begins."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.study.made_study import PRESET
from voco_cli.config import load_settings
from voco_cli.errors import DataError, UsageError
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


def test_weights_of_the_network_pass(tmp_path: Path) -> None:
    require_fitting_weights(plan(tmp_path, weights_of(tmp_path)))


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    other = weights_of(tmp_path, "model.feature_size=4")
    with pytest.raises(UsageError, match=r"w\.safetensors is of DynUNet with filters 4-8-16, the network is .* 2-4-8"):
        require_fitting_weights(plan(tmp_path, other))


def test_weights_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone does not exist"):
        require_fitting_weights(plan(tmp_path, tmp_path / "gone"))
