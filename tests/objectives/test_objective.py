"""Several objectives over one encoder: the sum of what each does alone, in one run that resumes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.pretrain.tiny_run import At, tiny_run, write_data
from tests.training.made_job import numbers, state, weights
from voco_cli.config import load_settings
from voco_cli.errors import Interrupted, UsageError
from voco_cli.models.build import build_encoder
from voco_cli.objectives import REGISTRY, build_objective
from voco_cli.objectives.objective import Objective, WeightedSum

FROM_LABELS = {"supervised", "pseudo", "weak"}
"""Objectives that need labels; tests/pretrain/ trains them."""
HALVED_EVENLY = ("crops.size=16x16x16", "model.levels=3")
SUMMED = ("objective.voco.weight=0.5", "crops.size=24x24x24")


def built(*overrides: str) -> Objective:
    settings = load_settings("debug", None, overrides).settings
    torch.manual_seed(0)
    return build_objective(settings, build_encoder(settings.model))


def test_every_objective_of_the_settings_is_registered() -> None:
    assert set(REGISTRY) == set(type(load_settings("debug").settings.objective).model_fields)


@pytest.mark.parametrize("name", sorted(set(REGISTRY) - {"pseudo"}))
def test_an_objective_alone_says_what_it_is(name: str) -> None:
    weights = [f"objective.{one}.weight={int(one == name)}" for one in REGISTRY]
    objective = built(*weights, *HALVED_EVENLY)
    assert not isinstance(objective, WeightedSum)
    assert objective.title
    assert objective.score_name in objective.figure_infos
    assert any(info.short for info in objective.figure_infos.values())
    assert objective.encoders()[0] is objective.encoder


class Fixed(Objective):
    """Its loss is a weight of the encoder times a factor."""

    title = "made"
    score_name = "score"

    def __init__(self, encoder: nn.Module, factor: float) -> None:
        super().__init__()
        self.encoder, self.factor = encoder, factor

    def forward(self, *inputs: Any, first_of_step: bool = True) -> dict[str, torch.Tensor]:
        weight = next(iter(self.encoder.parameters())).sum()
        return {"loss": self.factor * weight, "part": weight}


Fixed.__abstractmethods__ = frozenset()


def test_the_sum_is_weighted_and_so_are_its_gradients() -> None:
    encoder = nn.Linear(1, 1, bias=False)
    nn.init.constant_(encoder.weight, 3.0)
    both = WeightedSum({"a": Fixed(encoder, 2.0), "b": Fixed(encoder, 5.0)}, {"a": 0.5, "b": 4.0})  # type: ignore[abstract]
    terms = both((), ())
    assert {name: value.item() for name, value in terms.items()} == {
        "loss": 0.5 * 6 + 4 * 15,
        "a/loss": 6,
        "a/part": 3,
        "b/loss": 15,
        "b/part": 3,
    }
    terms["loss"].backward()
    assert encoder.weight.grad is not None
    assert encoder.weight.grad.item() == 0.5 * 2 + 4 * 5
    assert len(list(both.parameters())) == 1


@pytest.mark.parametrize("name", sorted(set(REGISTRY) - {"voco", *FROM_LABELS}))
def test_two_objectives_train_together_and_go_on_bit_for_bit(name: str, tmp_path: Path) -> None:
    both = (*SUMMED, f"objective.{name}.weight=2")
    data = write_data(tmp_path / "data", 4, 2)
    whole = tiny_run(data, tmp_path / "whole", *both)
    assert {one.partition("/")[0] for one in whole.end} == {"voco", name}
    assert whole.verdict is not None
    first = {path.name for path in (tmp_path / "whole" / "figures" / "validation").iterdir()}
    assert {"voco-step-000012.png", f"{name}-step-000012.png"} <= first

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises((Interrupted, KeyboardInterrupt)):
        tiny_run(data, tmp_path / "parts", *both, callback=At(advanced=6, then=stop))
    tiny_run(data, tmp_path / "parts", *both)
    assert state(tmp_path / "parts")["status"] == "done"
    assert weights(tmp_path / "parts", 12) == weights(tmp_path / "whole", 12)
    assert numbers(tmp_path / "parts")[-1] == numbers(tmp_path / "whole")[-1]


def test_the_memory_of_a_step_is_that_of_the_crops_of_all_parts() -> None:
    """Of 4 random and 4 x 4 base crops, 2 x 4 views and 4 masked crops, as the estimate of costs counts them."""
    both = built("objective.contrast.weight=1", "objective.mae.weight=1", "train.batch_size=2")
    settings = both.objectives["voco"].settings  # type: ignore[union-attr]
    assert both.crops_per_volume == 20 + 8 + 4 == settings.objective.encoder_passes(settings.crops)[0]


def test_the_sum_has_the_decoder_of_the_first_part_that_has_one() -> None:
    sizes = ("crops.size=16x16x16", "model.levels=3")
    both = built("objective.mae.weight=1", "objective.mae.decoder=segmentation", *sizes)
    assert isinstance(both, WeightedSum)
    assert both.decoder is both.objectives["mae"].decoder is not None
    assert built("objective.mae.weight=1", *sizes).decoder is None


def test_nothing_to_learn_is_refused() -> None:
    with pytest.raises(UsageError, match=r"objective.voco.weight, .* and objective.weak.weight are all 0"):
        load_settings("debug", None, ["objective.voco.weight=0"])


def test_crops_that_cannot_be_turned_are_refused() -> None:
    with pytest.raises(UsageError, match=r"objective.rotation.orientations 24 needs crops that are cubes, not 18x18x9"):
        load_settings("debug", None, ["objective.rotation.weight=1", "crops.size=18x18x9"])
