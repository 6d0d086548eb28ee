"""CONTRIBUTING.md, followed: what it names is there, sections are short, a toy objective needs no other module."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.pretrain.tiny_run import TINY, write_data
from voco_cli import objectives
from voco_cli.config import Settings, load_settings
from voco_cli.config.load import Resolved
from voco_cli.config.objective_schema import Objectives
from voco_cli.objectives.objective import Autocast, Case, FigureInfo, Objective, Sampler, Validation, Verdict
from voco_cli.training.callbacks import Callback
from voco_cli.workflows.pretrain import run_pretraining

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "CONTRIBUTING.md").read_text()
SECTIONS: dict[str, str] = dict(re.findall(r"^## (.+)\n((?:(?!## ).*\n?)*)", PAGE, re.MULTILINE))


def test_every_extension_is_told_in_ten_lines() -> None:
    assert {"An objective", "A metric", "A backbone", "A task", "A logger"} <= set(SECTIONS)
    for title, text in SECTIONS.items():
        if title.startswith(("A ", "An ")):
            assert len(text.strip().splitlines()) <= 10, title


def test_every_file_that_is_named_is_there() -> None:
    named = re.findall(r"(?:voco_cli|tests|docs)/[\w./]+[\w/]", PAGE)
    assert named
    assert [name for name in named if "NAME" not in name and not (ROOT / name).exists()] == []


class Means(NamedTuple):
    """Crops and their mean."""

    crops: Tensor
    means: Tensor


class MeanSampler(Sampler):
    def draw(self, case: Case, step: int) -> Any:
        return case.volume.read((0, 0, 0), (24, 24, 24))

    def collate(self, samples: Sequence[Any]) -> Means:
        crops = torch.from_numpy(np.stack(samples)).float()[:, None] / 255
        return Means(crops, crops.mean((1, 2, 3, 4)))


class MeanIntensity(Objective):
    """Tell the mean of a crop."""

    title = "mean intensity"
    score_name = "error"
    crops_per_volume = 1  # type: ignore[assignment]
    region_vox = (24, 24, 24)  # type: ignore[assignment]
    sampler = MeanSampler()  # type: ignore[assignment]
    figure_infos = {"error": FigureInfo("error", "lower", None, "error")}  # type: ignore[assignment] # noqa: RUF012

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(int(encoder.out_features), 1)  # type: ignore[arg-type]
        self.cases: Sequence[Case] = ()

    def prepare(self, batch: Means, device: torch.device) -> tuple[Tensor, Tensor]:
        return batch.crops.to(device), batch.means.to(device)

    def forward(self, *inputs: Any, first_of_step: bool = True) -> dict[str, Tensor]:
        crops, means = inputs
        return {"loss": (self.head(self.encoder(crops))[:, 0] - means).square().mean()}

    def hold_out(self, cases: Sequence[Case]) -> None:
        self.cases = cases

    @torch.no_grad()
    def validate(self, device: torch.device, autocast: Autocast, at_start: bool) -> Validation:
        sampler = MeanSampler()
        batch = sampler.collate([sampler.draw(case, 0) for case in self.cases])
        return Validation({"error": float(self(*self.prepare(batch, device))["loss"])}, None)

    def verdict(self, start: Mapping[str, float], now: Mapping[str, float]) -> Verdict:
        return Verdict("learned" if now["error"] < start["error"] else "not yet", f"Error {now['error']:.3g}.")


class ToyObjectives(Objectives):
    """With one more."""

    def active(self) -> dict[str, float]:
        return {"toy": 1.0}


def test_an_objective_is_one_module_and_its_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("toy_objective")
    module.build = lambda settings, encoder: MeanIntensity(encoder)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "toy_objective", module)
    monkeypatch.setitem(objectives.REGISTRY, "toy", "toy_objective")
    data = write_data(tmp_path / "data", 4, 2)
    resolved = load_settings("debug", None, (*TINY, "train.lr=0.01"), {"data.file": data, "run.dir": tmp_path / "run"})
    settings: Settings = resolved.settings.model_copy(update={"objective": ToyObjectives()})
    result = run_pretraining(Resolved(settings, resolved.sources), Callback())
    assert result.verdict is not None
    assert result.verdict.status == "learned"
    assert result.end["error"] < result.start["error"]
    assert (tmp_path / "run" / "weights" / "encoder.safetensors").is_file()
