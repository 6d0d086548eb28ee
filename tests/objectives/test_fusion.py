"""Crops mixed box by box, the loss that tells the share, and the best constant answer."""

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
from voco_cli.config.objective_schema import FusionOptions
from voco_cli.data.cache.volume import StoredVolume
from voco_cli.errors import UsageError
from voco_cli.models.build import build_encoder
from voco_cli.objectives.fusion import VolumeFusion, draw_levels, fuse, partner_rows, soft_dice
from voco_cli.objectives.objective import Case, ImageGrid

CPU = torch.device("cpu")
ALONE = ("objective.voco.weight=0", "objective.fusion.weight=1", "model.feature_size=2", "health.crops_per_case=3")


def settings_of(*overrides: str) -> Settings:
    return load_settings("debug", None, (*ALONE, *overrides)).settings


def fusion_of(*overrides: str) -> VolumeFusion:
    settings = settings_of(*overrides)
    torch.manual_seed(0)
    return VolumeFusion(settings, build_encoder(settings.model))


def cases_of(folder: Path) -> list[Case]:
    for seed, name in enumerate(("one", "two")):
        write_volume(folder / f"{name}.b2nd", (31, 29, 20), WHOLE, seed)
    return [Case(name, StoredVolume(folder / f"{name}.b2nd")) for name in ("one", "two")]


def test_the_same_seed_is_the_same_levels_and_all_occur() -> None:
    drawn = [draw_levels((20, 18, 16), seed, FusionOptions(), CPU) for seed in (3, 3, 4)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert set(torch.stack(drawn).flatten().tolist()) == {0, 1, 2, 3, 4}


def test_a_box_is_of_its_size_and_its_level_is_any() -> None:
    """One box of half to three quarters of an edge: where its level is above 0, it can be measured."""
    options = FusionOptions.model_construct(levels=2, boxes=(1, 1), box_size=(0.5, 0.75))
    edges, values = set(), []
    for seed in range(200):
        levels = draw_levels((8, 8, 8), seed, options, CPU)
        places = levels.nonzero()
        values.append(int(levels.max()))
        if len(places):
            size = places.max(0).values - places.min(0).values + 1
            assert int(size.prod()) == len(places)
            edges |= set(size.tolist())
    assert edges == {4, 5, 6}
    assert all(values.count(level) == pytest.approx(67, abs=20) for level in range(3))


def test_the_later_of_boxes_is_seen_and_more_boxes_cover_more() -> None:
    few, many = (
        float((draw_levels((40, 40, 40), 0, FusionOptions(boxes=boxes), CPU) > 0).float().mean())
        for boxes in ((1, 2), (200, 201))
    )
    assert few < 0.3 < 0.6 < many < 0.95  # one of five levels is 0, also above others


@pytest.mark.parametrize(
    ("rows", "per_volume", "expected"),
    [(6, 2, [2, 3, 4, 5, 0, 1]), (4, 4, [1, 2, 3, 0]), (3, 1, [1, 2, 0]), (2, 1, [1, 0])],
)
def test_the_background_is_of_the_next_volume_or_of_the_only_one(
    rows: int, per_volume: int, expected: list[int]
) -> None:
    assert partner_rows(rows, per_volume).tolist() == expected


def test_a_mixture_by_hand() -> None:
    foreground, background = torch.full((1, 5, 1, 1), 1.0), torch.full((1, 5, 1, 1), 0.2)
    levels = torch.arange(5, dtype=torch.uint8).view(1, 5, 1, 1)
    torch.testing.assert_close(
        fuse(foreground, background, levels, 4).flatten(), torch.tensor([0.2, 0.4, 0.6, 0.8, 1.0])
    )


def test_what_the_network_gets_is_the_mixture_of_the_crops_of_two_cases(tmp_path: Path) -> None:
    objective = fusion_of("crops.random_per_volume=2")
    batch = objective.sampler.collate([objective.sampler.draw(case, 4) for case in cases_of(tmp_path)])
    (fused, levels), (again, _) = objective.prepare(batch, CPU), objective.prepare(batch, CPU)
    assert torch.equal(fused, again)
    assert levels.dtype == torch.int64
    crops = batch.crops_NXYZ.double() / 255
    for row, partner in enumerate((2, 3, 0, 1)):
        share = levels[row].double() / 4
        expected = share * crops[row] + (1 - share) * crops[partner]
        torch.testing.assert_close(fused[row, 0].double(), expected, atol=1e-6, rtol=0)


def literal_terms(logits: Tensor, levels: Tensor) -> tuple[float, float]:
    """Return Dice and cross entropy voxel by voxel."""
    count = logits.shape[1]
    both, guessed, true, entropy = [0.0] * count, [0.0] * count, [0.0] * count, 0.0
    rows = logits.movedim(1, -1).reshape(-1, count).tolist()
    for row, truth in zip(rows, levels.flatten().tolist(), strict=True):
        total = sum(map(math.exp, row))
        for level, value in enumerate(row):
            share = math.exp(value) / total
            both[level] += share * (level == truth)
            guessed[level] += share
            true[level] += level == truth
        entropy -= row[truth] - math.log(total)
    dice = [(2 * b + 1e-5) / (g + t + 1e-5) for b, g, t in zip(both, guessed, true, strict=True)]
    return sum(dice) / count, entropy / len(rows)


def test_the_loss_is_that_of_the_plain_formula(tmp_path: Path) -> None:
    objective = fusion_of()
    inputs = objective.prepare(
        objective.sampler.collate([objective.sampler.draw(case, 1) for case in cases_of(tmp_path)]), CPU
    )
    terms = objective(*inputs)
    dice, entropy = literal_terms(objective.logits(inputs[0]), inputs[1])
    assert terms["dice"].item() == pytest.approx(dice, rel=1e-4)
    assert terms["cross_entropy"].item() == pytest.approx(entropy, rel=1e-4)
    assert terms["loss"].item() == pytest.approx(entropy + 1 - dice, rel=1e-4)
    terms["loss"].backward()
    assert all(one.grad is not None and float(one.grad.abs().sum()) > 0 for one in objective.segmenter.parameters())


def test_dice_by_hand() -> None:
    """Two voxels of level 0, one of 1; sure answers 0, 1, 1: Dice 2/3 and 2/3. Undecided ones: 2/3.5 and 1/2.5."""
    levels = torch.tensor([[[[0, 0, 1]]]])
    sure = torch.tensor([[[[[50.0, -50, -50]]], [[[-50.0, 50, 50]]]]])
    assert soft_dice(sure, levels).item() == pytest.approx(2 / 3, abs=1e-4)
    assert soft_dice(torch.zeros_like(sure), levels).item() == pytest.approx((2 / 3.5 + 1 / 2.5) / 2, abs=1e-4)


def test_the_best_constant_answer_has_the_figures_of_chance(tmp_path: Path) -> None:
    objective = fusion_of()
    objective.hold_out(cases_of(tmp_path))
    truth = torch.cat([objective.prepare(batch, CPU)[1] for _, batch in objective.held_out])
    shares = [float((truth == level).float().mean()) for level in range(5)]
    expected = max(2 * share / (1 + share) for share in shares) / 5
    assert objective.figure_infos["dice"].chance == pytest.approx(expected, rel=1e-5)
    for one in objective.segmenter.parameters():
        nn.init.zeros_(one)
    with torch.no_grad():
        objective.segmenter.output.bias[int(np.argmax(shares))] = 1  # type: ignore[union-attr, index]
    found = objective.validate(CPU, nullcontext, at_start=True)
    assert found is not None
    assert found.figures["dice"] == pytest.approx(expected, rel=1e-5)
    assert found.figures["error"] == pytest.approx(1 - expected, rel=1e-5)
    entropy = math.log(math.e + 4) - max(shares)
    assert found.figures["cross_entropy"] == pytest.approx(entropy, rel=1e-4)
    picture = found.picture
    assert isinstance(picture, ImageGrid)
    assert (len(picture.rows), len(picture.rows[0]), len(picture.captions)) == (2, 5, 2)
    foreground, background, fused, share, _ = (torch.from_numpy(one) for one in picture.rows[0])
    torch.testing.assert_close(fused, share * foreground + (1 - share) * background)


@pytest.mark.parametrize(
    ("dice", "status", "words"), [(0.6, "learned", "Learned to tell what is fused: "), (0.4, "not yet", "Not yet: ")]
)
def test_the_verdict(dice: float, status: str, words: str, tmp_path: Path) -> None:
    objective = fusion_of()
    objective.hold_out(cases_of(tmp_path))
    verdict = objective.verdict({"dice": 0.1}, {"dice": dice})
    assert verdict.status == status
    assert verdict.sentence.startswith(words)
    constant = objective.constant_dice
    assert 0.05 < constant < 0.2
    assert f"Dice of {dice:.2f} (step 0: 0.10, the best constant answer: {constant:.2f})" in verdict.sentence
    assert "on 2 held-out scans (6 crops)" in verdict.sentence


def test_the_decoder_that_a_segmenter_has_is_given_away() -> None:
    assert fusion_of().decoder is None
    objective = fusion_of("objective.fusion.decoder=segmentation", "crops.size=32x32x32", "preprocess.resize_vox=null")
    assert objective.decoder is objective.segmenter


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (
            ("train.batch_size=1", "crops.random_per_volume=1"),
            "objective.fusion mixes two crops of a step, so train.ba",
        ),
        (
            ("objective.fusion.decoder=segmentation",),
            "objective.fusion.decoder segmentation needs crops that reach the",
        ),
        (("objective.fusion.boxes=40,10",), "the lower end 40 is not below the upper end 10"),
        (("objective.fusion.box_size=0.5,1.5",), "objective.fusion.box_size"),
    ],
)
def test_what_cannot_be_fused_is_refused(wrong: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        settings_of(*wrong)
