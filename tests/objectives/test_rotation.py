"""Rotations of a cube, and a network that tells them; the trivial solution guesses."""

from __future__ import annotations

import math
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.objectives.voco.test_sampling import WHOLE, write_volume
from voco_cli.config import Settings, load_settings
from voco_cli.data.cache.volume import StoredVolume
from voco_cli.objectives.objective import Case, ImageGrid
from voco_cli.objectives.rotation import RotationPrediction, TurnedBatch, rotations

CPU = torch.device("cpu")


def settings_of(*overrides: str) -> Settings:
    only = ("objective.voco.weight=0", "objective.rotation.weight=1", "crops.size=18x18x18")
    return load_settings("debug", None, (*only, *overrides)).settings


class Corner(nn.Module):
    """Features of a crop: the means of its eight octants, which turn with it."""

    out_features = 8

    def forward(self, crops_N1XYZ: Tensor) -> Tensor:
        return nn.functional.adaptive_avg_pool3d(crops_N1XYZ, 2).flatten(1)


def test_there_are_24_rotations_of_a_cube_and_no_reflection() -> None:
    cube = torch.arange(27).view(3, 3, 3)
    turned = [one.turn(cube) for one in rotations(24)]
    assert len({tuple(one.flatten().tolist()) for one in turned}) == 24
    assert torch.equal(turned[0], cube)
    assert not any(torch.equal(one, cube.flip(0)) for one in turned)
    for one, crop in zip(rotations(24), turned, strict=True):
        assert torch.equal(one.turn_back(crop), cube)
        # Two of them after one another are a third.
        assert any(torch.equal(rotations(24)[7].turn(crop), other) for other in turned)


def test_quarter_turns_keep_what_is_up() -> None:
    cube = np.arange(27).reshape(3, 3, 3)
    turned = {tuple(one.turn(torch.from_numpy(cube)).flatten().tolist()) for one in rotations(4)}
    assert turned == {tuple(np.rot90(cube, k, axes=(0, 1)).ravel().tolist()) for k in range(4)}


def test_crops_are_voxels_of_the_volume_and_the_same_in_every_process(tmp_path: Path) -> None:
    stored = write_volume(tmp_path / "one.b2nd", (31, 29, 20), WHOLE)
    case = Case("one", StoredVolume(tmp_path / "one.b2nd"))
    sampler = RotationPrediction(settings_of(), Corner()).sampler
    drawn, again = sampler.draw(case, 5), sampler.draw(case, 5)
    np.testing.assert_array_equal(drawn.crops_SXYZ, again.crops_SXYZ)
    np.testing.assert_array_equal(drawn.orientations_S, again.orientations_S)
    assert drawn.crops_SXYZ.shape == (4, 18, 18, 18)
    windows = np.lib.stride_tricks.sliding_window_view(stored, (18, 18, 18))
    for crop in drawn.crops_SXYZ:
        assert (windows == crop).all((3, 4, 5)).any()
    assert not np.array_equal(drawn.crops_SXYZ, sampler.draw(case, 6).crops_SXYZ)


def test_the_loss_is_the_cross_entropy_of_the_turned_crops() -> None:
    torch.manual_seed(0)
    objective = RotationPrediction(settings_of("crops.size=18x18x18"), Corner())
    crops = torch.randint(0, 255, (3, 18, 18, 18), dtype=torch.uint8)
    batch = TurnedBatch(crops, torch.tensor([0, 5, 23]))
    inputs = objective.prepare(batch, CPU)
    terms = objective(*inputs)
    expected, right = 0.0, 0
    for crop, number in zip(crops, (0, 5, 23), strict=True):
        octants = (
            objective.orientations[number].turn(crop.float() / 255).unfold(0, 9, 9).unfold(1, 9, 9).unfold(2, 9, 9)
        )
        logits = objective.head(octants.mean((3, 4, 5)).flatten()).tolist()
        expected += math.log(sum(map(math.exp, logits))) - logits[number]
        right += max(logits) == logits[number]
    assert terms["loss"].item() == pytest.approx(expected / 3, rel=1e-5)
    assert terms["accuracy"].item() == pytest.approx(right / 3)


def test_guessing_has_the_figures_of_chance(tmp_path: Path) -> None:
    """A head of zeros is as likely to name any orientation: cross entropy ln 24, and it always names the first."""
    write_volume(tmp_path / "one.b2nd", (31, 29, 20), WHOLE)
    objective = RotationPrediction(settings_of(), Corner())
    nn.init.zeros_(objective.head.weight)
    nn.init.zeros_(objective.head.bias)
    objective.hold_out([Case("one", StoredVolume(tmp_path / "one.b2nd"))])
    found = objective.validate(CPU, nullcontext, at_start=True)
    assert found is not None
    assert found.figures["cross_entropy"] == pytest.approx(math.log(24))
    truth = objective.held_out[0][1].orientations_N
    assert found.figures["accuracy"] == pytest.approx(float((truth == 0).float().mean()))
    assert objective.figure_infos["accuracy"].chance == pytest.approx(1 / 24)
    picture = found.picture
    assert isinstance(picture, ImageGrid)
    assert (len(picture.rows), len(picture.rows[0]), len(picture.captions)) == (1, 3, 1)


@pytest.mark.parametrize(
    ("accuracy", "status", "words"),
    [(0.6, "learned", "Learned to tell rotations: "), (0.4, "not yet", "Not yet: ")],
)
def test_the_verdict(accuracy: float, status: str, words: str) -> None:
    verdict = RotationPrediction(settings_of(), Corner()).verdict({"accuracy": 0.05}, {"accuracy": accuracy})
    assert verdict.status == status
    assert verdict.sentence.startswith(words)
    assert f"{accuracy:.0%} is told (step 0: 5%, guessing: 4%)" in verdict.sentence
